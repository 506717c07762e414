"""Several trainings with equal shapes, run in lockstep as one stacked network."""
