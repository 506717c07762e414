"""Decisions that depend on the machine: jobs, threads, memory layout, precision, compilation."""
