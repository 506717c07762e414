"""One training by several processes, each with a share of every batch: the same steps as one process takes."""
