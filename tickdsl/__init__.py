"""tickdsl: a plan language for pruning and lottery-ticket experiments."""

__version__ = "0.1.0"
