"""The output of `tickdsl graph` and `tickdsl plan`: networks and studies before a run."""
