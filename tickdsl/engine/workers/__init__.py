"""Workers that run steps, in this process or in several others."""
