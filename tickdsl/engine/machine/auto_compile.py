"""What `compile=auto` comes to: a training is compiled where that was measured to save more time than it takes.

Every training compiles anew, also behind a prune, since shapes differ then. So each pays back its own compilation or
goes without, and a study never loses more by it than the one compilation that the measuring takes.
"""

from __future__ import annotations

import math
import resource

import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.speed_trial import SpeedTrial
from tickdsl.errors import TickdslError
from tickdsl.training.devices import autocast_type
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.step.compilation import compile_model
from tickdsl.training.timing import MIN_SPEEDUP, fastest_seconds, speedup

#: The share of a training that a compiler may save, seen at best (ResNet-20: 0.27), and the seconds that this must come
#: to before one is tried: about what a try takes.
_BEST_SAVING, _MIN_SAVED_SECONDS = 0.3, 60.0


def should_compile(
    trial: SpeedTrial,
    layout: str,
    steps: int,
    share: float,
    *,
    device: torch.device,
    choices: MeasuredChoices,
    hooks: Hooks,
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
    dense_steps = steps * share
    step_seconds = choices.settle(
        f"seconds of a step of {trial.label}, {layout}", lambda: _uncompiled_step_seconds(trial, layout)
    )
    if dense_steps * step_seconds * _BEST_SAVING < _MIN_SAVED_SECONDS:
        hooks.log(f"compile=auto: {steps} steps are too short a training to compile for")
        return False
    break_even = choices.settle(
        f"steps that pay back a compilation of {trial.label}, {layout}", lambda: _break_even_steps(trial, layout, hooks)
    )
    pays = dense_steps > break_even
    hooks.log(
        f"compile=auto: {'compiled' if pays else 'not compiled'}, {steps} steps of a network with {share:.0%} of the "
        f"multiply-adds count for {dense_steps:.0f}, and {_steps_text(break_even)} pay back a compilation"
    )
    return pays


def _steps_text(steps: float) -> str:
    return f"{math.ceil(steps)}" if math.isfinite(steps) else "no number of them"


def _uncompiled_step_seconds(trial: SpeedTrial, layout: str) -> float:
    with torch.random.fork_rng(devices=[]):  # dropout draws
        return fastest_seconds(trial.training_pass(layout), torch.get_num_threads())


def _break_even_steps(trial: SpeedTrial, layout: str, hooks: Hooks) -> float:
    """Steps of the dense network that save the time of a compilation; infinite where it is hardly faster."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        uncompiled, compiled_pass = trial.training_pass(layout), trial.training_pass(layout, compile_model)
        cpu_before = _cpu_seconds()
        try:
            compiled_pass()
        except TickdslError as error:
            hooks.warn(f"compile=auto: {error.message}: trainings go uncompiled")
            return math.inf
        compile_seconds = _cpu_seconds() - cpu_before
        ratio = speedup(compiled_pass, uncompiled, threads)
        torch.compiler.reset()
        if ratio < MIN_SPEEDUP:
            return math.inf
        return compile_seconds / (fastest_seconds(uncompiled, threads) * (1 - 1 / ratio))


def _cpu_seconds() -> float:
    """Processor seconds of this process and those that the compiler began."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
