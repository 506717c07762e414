"""The plans that ship with tickdsl; `tickdsl init` copies them (imported as `tickdsl.plans`)."""
