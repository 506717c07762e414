"""The results of a run, taken apart: an arm, one of its levels, and the network of one seed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tickdsl.api.exports import ExportFormatName, export_network
from tickdsl.api.plan_sources import StrPath
from tickdsl.api.run_record import RunRecord
from tickdsl.api.torch_state import neutral_torch
from tickdsl.errors import TickdslError
from tickdsl.plugins.permission import code_allowed_within
from tickdsl.plurals import plural
from tickdsl.records.events import ArmInfo
from tickdsl.results.budgets import Budget, budgets
from tickdsl.results.conclusions import conclusions
from tickdsl.results.estimates import Estimate
from tickdsl.results.export import accuracy_over_seeds, seed_metrics
from tickdsl.results.formatting import percent
from tickdsl.results.scores import label, number, score_with_unit
from tickdsl.results.standings import Standing
from tickdsl.tickets.choice import Wanted, choose

if TYPE_CHECKING:
    from torch import nn

    from tickdsl.graph.structure import Structure
    from tickdsl.tickets.from_run import TicketOfRun
    from tickdsl.tickets.ticket import Ticket


@attrs.frozen(repr=False)
class ArmResult:
    """The results of an arm, for one combination of its sweep values."""

    _record: RunRecord
    _info: ArmInfo

    @property
    def id(self) -> str:
        """The name with the sweep values: `imp[scope=local]`."""
        return self._info.id

    @property
    def name(self) -> str:
        """The name in the plan: `imp`."""
        return self._info.name

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The values of the sweeps that the arm uses, by name."""
        return dict(self._info.sweep)

    @property
    def task(self) -> str:
        """What its networks learn: "classify", "regress", or the task of a plug-in."""
        return self._record.state.task_of(self.id).name

    @property
    def metric(self) -> str:
        """The name of the metric that its networks are compared by: "accuracy", "rmse", …"""
        return self._record.state.metric_of(self.id).name

    @property
    def higher_is_better(self) -> bool:
        """Whether more of that metric is better."""
        return self._record.state.metric_of(self.id).higher_is_better

    @property
    def conclusion(self) -> str:
        """A sentence on the smallest winning ticket and the controls."""
        return conclusions(self._record.state)[self.id]

    @property
    def levels(self) -> tuple[LevelResult, ...]:
        """The dense network, then the ticket of every round that was measured."""
        keys = [key for key in self._record.standings if key[0] == self.id and key[1] in ("dense", "ticket")]
        return tuple(LevelResult(self._record, self, self._record.standings[key]) for key in keys)

    def level(self, number: int, contestant: str | None = None) -> LevelResult:
        """The results of a level: 0 is the dense network, *k* what is left after round *k*.

        Args:
            number: The number of the level.
            contestant: "ticket", or a control that the plan compares it with, such as "random-init" (default: the
                ticket; at level 0, the dense network).

        Raises:
            TickdslError: If that was not measured.
        """
        wanted = contestant or ("ticket" if number else "dense")
        standing = self._record.standings.get((self.id, wanted, number))
        if standing is not None:
            return LevelResult(self._record, self, standing)
        if found := self._record.contestants(self.id, number):
            raise TickdslError(f"{self.id} has no `{wanted}` at level {number}", f"use {' or '.join(found)}")
        levels = sorted({level for arm, _, level in self._record.standings if arm == self.id})
        known = ", ".join(map(str, levels)) or "none"
        raise TickdslError(f"{self.id} has no results at level {number}", f"its levels with results: {known}")

    def __repr__(self) -> str:
        return f"<ArmResult {self.id}: {plural(len(self.levels), 'level')}>"


@attrs.frozen(repr=False)
class LevelResult:
    """A contestant at one level of an arm, over all seeds; shares and their differences are not in percent."""

    _record: RunRecord
    arm: ArmResult
    _standing: Standing

    @property
    def number(self) -> int:
        """The number of the level; 0 is the dense network."""
        return self._standing.level

    @property
    def contestant(self) -> str:
        """ "ticket", "dense", or the name of a control."""
        return self._standing.contestant

    @property
    def score(self) -> Estimate | None:
        """The metric of the arm on the test set: its mean over the seeds, with `half_width`.

        That is half the 95% confidence interval.
        """
        return self._standing.score

    @property
    def accuracy(self) -> Estimate | None:
        """The test accuracy: its mean over the seeds, with `half_width`; None for tasks without one."""
        return accuracy_over_seeds(self._record.state, self._standing)

    @property
    def to_dense(self) -> Estimate | None:
        """The score minus that of the dense network, paired by seed."""
        return self._standing.to_dense

    @property
    def verdict(self) -> str | None:
        """ "winning", "losing" or "undecided" against the dense network; None without a verdict."""
        return self._standing.verdict

    @property
    def no_verdict(self) -> str | None:
        """Why there is no verdict; None if there is one."""
        return self._standing.no_verdict

    @property
    def lead(self) -> Estimate | None:
        """Of a control: the score of the ticket minus its own, paired by seed."""
        return self._standing.lead

    @property
    def density(self) -> float | None:
        """The share of the weights that is left, mean over the seeds."""
        return self._standing.density

    @property
    def params(self) -> float | None:
        """The number of parameters that are left, mean over the seeds."""
        return self._standing.params

    @property
    def macs(self) -> float | None:
        """The multiply-accumulates per image, mean over the seeds."""
        return self._standing.macs

    @property
    def trained(self) -> Budget | None:
        """The training that led to it, means over the seeds: `epochs`, `images` and `seconds`; None if unknown.

        Of a ticket, over all trainings that it comes from; of a control, its own.
        """
        return budgets(self._record.state).get((self.arm.id, self.contestant, self.number))

    @property
    def seeds(self) -> tuple[SeedResult, ...]:
        """The results of every seed."""
        key = (self.arm.id, self.contestant, self.number)
        return tuple(SeedResult(self._record, self, seed) for seed in seed_metrics(self._record.state, *key))

    def seed(self, number: int | None = None) -> SeedResult:
        """The network of a seed.

        Args:
            number: The seed (default: the one with the median score, of an even number the worse one).

        Raises:
            TickdslError: If that seed was not measured.
        """
        if number is None:
            number = choose(
                self._record.state, Wanted(arm=self.arm.id, level=self.number, contestant=self.contestant)
            ).seed
        for result in self.seeds:
            if result.number == number:
                return result
        known = ", ".join(str(result.number) for result in self.seeds)
        raise TickdslError(f"{self!r} has no seed {number}", f"its seeds with results: {known}")

    def __repr__(self) -> str:
        size = "" if self.number == 0 else f", {percent(self.density)} of the weights"
        metric = self._standing.metric
        return f"<{_place(self)}{size}, {label(metric)} {score_with_unit(metric, self.score)}>"


@attrs.frozen(repr=False)
class SeedResult:
    """The network of one seed: its measurements, its structure, and the network itself."""

    _record: RunRecord
    level: LevelResult
    number: int

    @property
    def metrics(self) -> dict[str, float | None]:
        """The measurements by name, as in `results.json`, with the figures that `report` asked for."""
        key = (self.level.arm.id, self.level.contestant, self.level.number)
        return seed_metrics(self._record.state, *key)[self.number]

    @property
    def structure(self) -> Structure:
        """What is left of the dense network: kept units, removed blocks and masks."""
        return self.ticket().structure

    def network(self) -> nn.Module:
        """The network with its weights, physically smaller where units were removed: in eval mode, on the CPU.

        Its inputs are normalised images; `ticket().preprocess` prepares them.

        Raises:
            TickdslError: If its result is not in the store, or code that builds it is not allowed.
        """
        with code_allowed_within(self._record.allow_code), neutral_torch():
            return self.ticket().network()

    def ticket(self) -> Ticket:
        """The network with all that belongs to it: preprocessing, classes, metrics and the plan.

        Raises:
            TickdslError: If its result is not in the store, or code that builds it is not allowed.
        """
        return self._taken.ticket

    def export(
        self,
        path: StrPath | None = None,
        *,
        format: ExportFormatName | None = None,
        raw: bool = False,
        sparse: bool = False,
        int8: bool = False,
        blocks: bool = False,
        part: str | None = None,
    ) -> Path:
        """Write the network to a file, verified in a fresh process; the arguments are those of `Results.export`."""
        with code_allowed_within(self._record.allow_code), neutral_torch():
            return export_network(
                self._taken, path, format, raw=raw, sparse=sparse, int8=int8, blocks=blocks, part=part
            )

    @functools.cached_property
    def _taken(self) -> TicketOfRun:
        from tickdsl.tickets.from_run import ticket_of_run  # which loads torch

        record, level = self._record, self.level
        wanted = Wanted(arm=level.arm.id, level=level.number, seed=self.number, contestant=level.contestant)
        with code_allowed_within(record.allow_code), neutral_torch():
            return ticket_of_run(record.paths, wanted, state=record.state, store=record.store, data=record.data)

    def __repr__(self) -> str:
        metric, value = self._record.state.metric_of(self.level.arm.id), self.metrics["score"]
        shown = f"no {label(metric)}" if value is None else f"{label(metric)} {number(metric, value)}"
        return f"<{_place(self.level)}, seed {self.number}, {shown}>"


def _place(level: LevelResult) -> str:
    contestant = "" if level.contestant in ("dense", "ticket") else f", {level.contestant}"
    return f"{level.arm.id}, {'dense' if level.number == 0 else f'level {level.number}'}{contestant}"
