"""The papers at full size (imported as `tickdsl.plans.papers`)."""
