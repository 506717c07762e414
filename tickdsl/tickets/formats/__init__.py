"""The formats that a ticket can be exported to; `table` has them by name."""
