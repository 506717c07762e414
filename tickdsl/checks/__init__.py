"""Check the meaning of plans: schedules, amounts, the design and comparison of arms, and traced networks."""

from tickdsl.checks.report import CheckReport, check, check_file, check_source

__all__ = ["CheckReport", "check", "check_file", "check_source"]
