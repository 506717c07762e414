"""The interpreter and its scheduler: which step runs next, and the events that report it."""
