"""Plans of the tasks beside classification, at CPU size."""
