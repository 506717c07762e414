"""What `tickdsl graph` and `tickdsl plan` show, before anything runs."""
