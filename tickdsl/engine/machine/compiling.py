"""What `compile=auto` comes to: a training is compiled where that was measured to save more time than it takes.

Every training compiles anew, also behind a prune, since shapes differ then. So each pays back its own compilation or
goes without, and a study never loses more by it than the one compilation that the measuring takes.
"""

from __future__ import annotations

import math
import resource

import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.trial import Trial
from tickdsl.errors import TickdslError
from tickdsl.training.autotune import WORTH, Choices, least_seconds, times_faster
from tickdsl.training.devices import autocast_type
from tickdsl.training.step.compilation import compiled

#: The share of a training that a compiler may save, seen at best (ResNet-20: 0.27), and the seconds that this must come
#: to before one is tried: about what a try takes.
_HOPED, _TRY_SECONDS = 0.3, 60.0


def compiles(
    trial: Trial, layout: str, steps: int, share: float, *, device: torch.device, choices: Choices, hooks: Hooks
) -> bool:
    """Whether torch is to compile a training of so many steps, by a network with `share` of the multiply-adds.

    Two figures answer this, measured once a machine, network, batch and number of threads: how long a step takes, and
    how many steps pay back a compilation. The time that a step of a smaller network saves is taken to shrink with its
    multiply-adds. Off a CPU in fp32, `auto` compiles nothing: on a GPU steps are captured as a graph.
    """
    if trial.recipe.compile != "auto":
        return trial.recipe.compile == "on"
    if device.type != "cpu" or autocast_type(trial.recipe.precision, device) is not None:
        return False
    whole_steps = steps * share
    seconds = choices.settle(f"seconds of a step of {trial.words}, {layout}", lambda: _plain(trial, layout))
    if whole_steps * seconds * _HOPED < _TRY_SECONDS:
        hooks.log(f"compile=auto: {steps} steps are too short a training to compile for")
        return False
    needed = choices.settle(
        f"steps that pay back a compilation of {trial.words}, {layout}", lambda: _pay_back(trial, layout, hooks)
    )
    answer = whole_steps > needed
    hooks.log(
        f"compile=auto: {'compiled' if answer else 'not compiled'}, {steps} steps of a network with {share:.0%} of the "
        f"multiply-adds count for {whole_steps:.0f}, and {_number(needed)} pay back a compilation"
    )
    return answer


def _number(steps: float) -> str:
    return f"{math.ceil(steps)}" if math.isfinite(steps) else "no number of them"


def _plain(trial: Trial, layout: str) -> float:
    with torch.random.fork_rng(devices=[]):  # dropout draws
        return least_seconds(trial.passes(layout), torch.get_num_threads())


def _pay_back(trial: Trial, layout: str, hooks: Hooks) -> float:
    """Steps of the dense network that save the time of a compilation; infinite where it is hardly faster."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        plain, faster = trial.passes(layout), trial.passes(layout, compiled)
        before = _used()
        try:
            faster()
        except TickdslError as error:
            hooks.warn(f"compile=auto: {error.message}: trainings go uncompiled")
            return math.inf
        seconds = _used() - before
        ratio = times_faster(faster, plain, threads)
        torch.compiler.reset()
        if ratio < WORTH:
            return math.inf
        return seconds / (least_seconds(plain, threads) * (1 - 1 / ratio))


def _used() -> float:
    """Processor seconds of this process and those that the compiler began."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)
