"""The diagnostics of `tickdsl check`: codes, explanations and output formats."""
