"""Step keys are stable: extending the language must not change the keys of existing plans.

`frozen/` holds plans as shipped with version 1 of the language, and their keys. Regenerate with
`TICKDSL_GOLDEN=write pytest tests/plan` only after raising the version of an operation on purpose.
"""

import os
from pathlib import Path

import pytest

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_plan
from tickdsl.plan.lower import lower

FROZEN = Path(__file__).parent / "frozen"


@pytest.mark.parametrize("path", sorted(FROZEN.glob("*.plan")), ids=lambda p: p.stem)
def test_the_keys_of_shipped_plans_do_not_change(path: Path) -> None:
    plan = resolve(load_plan(path)).plan
    assert plan is not None
    study = lower(plan, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 3)
    result = "".join(f"{key[:16]} {study.step(key).operation}\n" for key in sorted(study.graph))
    golden = path.with_suffix(".keys")
    if os.environ.get("TICKDSL_GOLDEN") == "write":
        golden.write_text(result, "utf-8")
    assert result == golden.read_text("utf-8")
