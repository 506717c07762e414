"""The metrics of `report` other than accuracy: robustness, and the cost of training and inference."""
