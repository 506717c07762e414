"""A plan for each task (imported as `tickdsl.plans.tasks`)."""
