"""Which units to remove: criteria, allocation, overlap."""
