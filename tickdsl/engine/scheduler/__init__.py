"""Which step is done next, and by whom; everything that happens is said as events."""
