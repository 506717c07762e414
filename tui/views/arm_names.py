"""Short names of arms: what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tickdsl.records.events import ArmInfo


def short_arm_names(arms: Sequence[ArmInfo]) -> dict[str, str]:
    """Map each arm id to its name and the settings in which the arms of that name differ: `lr-rewind local`.

    Words stand for themselves, numbers have their names: `amount=0.2`. An arm whose short name is not unique keeps its
    id.
    """
    by_name: dict[str, list[ArmInfo]] = {}
    for arm in arms:
        by_name.setdefault(arm.name, []).append(arm)
    names = {arm.id: _short(arm, by_name[arm.name]) for arm in arms}
    uses = Counter(names.values())
    return {arm: name if uses[name] == 1 else arm for arm, name in names.items()}


def _short(arm: ArmInfo, relatives: Sequence[ArmInfo]) -> str:
    settings = [
        _setting(name, value, arm.sweep)
        for name, value in arm.sweep.items()
        if any(other.sweep.get(name) != value for other in relatives)
    ]
    return " ".join([arm.name, *settings])


def _setting(name: str, value: object, sweep: Mapping[str, object]) -> str:
    text = str(value)
    is_word = isinstance(value, str) and not any(c.isdigit() or c.isspace() for c in text)
    unique = list(map(str, sweep.values())).count(text) == 1
    return text if is_word and unique else f"{name}={text}"
