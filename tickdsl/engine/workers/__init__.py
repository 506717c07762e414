"""Where steps are done: in this process, or in several others."""
