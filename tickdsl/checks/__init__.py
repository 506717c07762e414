"""Findings above the grammar, one module per family: names (in `lang`), schedules, experiment, network."""

from tickdsl.checks.report import CheckReport, check, check_file

__all__ = ["CheckReport", "check", "check_file"]
