"""The engine that runs a plan: interpreter, workers and steps."""
