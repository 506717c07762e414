"""What a person reads: state, verdicts, tables."""
