"""What a run leaves behind: store, events, paths. Imports no torch."""
