"""Lower one arm under one seed to steps.

- `state`: the state of its pipeline, and what other arms may refer to.
- `arm_steps`: the builders of its steps, and the trainings that several statements need.
- `prunes`, `tails`: the steps of a prune, and of the statements after it.
- `measured_networks`: the network that a level is measured as, after a split, a stretch or a transfer.
- `controls`: the networks that a level is compared with.
- `lowering`: the order of all this, round by round, in step with other seeds.
"""
