"""Findings above the grammar, one module per family: names (in `lang`), schedules, experiment, network."""

from tickdsl.checks.report import Report, check, check_file

__all__ = ["Report", "check", "check_file"]
