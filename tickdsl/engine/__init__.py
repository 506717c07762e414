"""Carries a plan out: the interpreter, the operations, the workers."""
