"""Several trainings of equal shape, trained in lockstep as one stacked network."""
