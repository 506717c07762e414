"""Notes on how far the results of a run can be trusted: seeds, and what test images have decided."""

from __future__ import annotations

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.plurals import agreeing, plural
from tickdsl.results.doubts import NO_TASK, find_doubts
from tickdsl.results.layers_left import nearly_gone_notes
from tickdsl.results.resolution import resolves_by_samples
from tickdsl.results.scores import label
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.target_notes import target_notes


def alarms(state: RunState) -> list[str]:
    """What makes results worthless: people must not miss it."""
    return list(find_doubts(state).warnings)


def caveats(state: RunState) -> list[str]:
    """Few or missing seeds, choices made on test images, layers nearly gone, and results that lack a measurement."""
    notes = []
    standings = compute_standings(state).values()
    pruned = [s for s in standings if s.contestant != "dense"]
    fewest = min((s.of_seeds for s in pruned), default=MIN_SEEDS)
    if fewest == 1:
        notes.append("one seed gives no confidence interval and no verdict; use `seeds 3` or more")
    elif fewest < MIN_SEEDS:
        notes.append(f"{plural(fewest, 'seed')} give no verdict; use `seeds {MIN_SEEDS}` or more")
    unranked = {arm for arm, doubt in find_doubts(state).arms.items() if doubt == NO_TASK}
    partial = [s for s in standings if s.n < s.of_seeds and s.arm not in unranked]
    if partial:
        notes.append(
            f"{len(partial)} of {len(standings)} results {agreeing(len(partial), 'is')} averaged over fewer than "
            f"{plural(len(state.seeds), 'seed')}, and {agreeing(len(partial), 'has')} no verdict"
        )
    if state.stops:
        conditions = " or ".join(f"`{condition}`" for condition in state.stops)
        notes.append(
            f"seeds end when {conditions} on test {state.sample_of()}s: rounds that lost a seed by it have no verdict"
        )
    if "early-stop" in state.report and state.measures and not all(m.validation for m in state.metrics.values()):
        names = dict.fromkeys(label(state.primary_of(arm.id)) for arm in state.arms)
        notes.append(f"early-stop is chosen by the test loss, so its {' or '.join(names)} is optimistic")
    untold = any(m.correct is None and resolves_by_samples(state.metric_of(key[0])) for key, m in state.metrics.items())
    if untold and any(s.n >= MIN_SEEDS for s in pruned):
        notes.append(
            f"some results do not tell which test {state.sample_of()}s are classified correctly (they were stored by "
            "an earlier version): their verdicts assume that networks err independently"
        )
    return [*notes, *target_notes(state), *nearly_gone_notes(state)]
