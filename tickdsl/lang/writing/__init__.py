"""Write plans as text: the formatter, and statements generated from resolved plans."""
