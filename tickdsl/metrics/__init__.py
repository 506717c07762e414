"""What `report` asks of a trained network beside its accuracy: robustness, and what using and training it takes."""
