"""`compile=auto`: compile a training if that is measured to save more time than the compilation takes.

Every training is compiled separately because pruning changes shapes. So each must pay off its own compilation, and a
study never loses more time than the one compilation of the measurement.
"""

from __future__ import annotations

import math

import psutil
import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.speed_trial import SpeedTrial
from tickdsl.errors import TickdslError
from tickdsl.percentages import percent
from tickdsl.plurals import plural
from tickdsl.training.devices import autocast_type
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.step.compilation import compile_model
from tickdsl.training.timing import MIN_SPEEDUP, fastest_seconds, speedup

#: The largest share of the time of a training that compilation is assumed to save (measured for ResNet-20: 0.27).
_BEST_SAVING = 0.3
#: Compilation is measured only if it may save this many seconds, about as many as the measurement takes.
_MIN_SAVED_SECONDS = 60.0


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
    """Whether to compile a training of `steps` steps of a network with `share` of the dense multiply-adds.

    Decided by two numbers that are measured once per machine, network, batch size and number of threads: the time per
    step, and the number of steps that pay off a compilation. The time that compilation saves per step is assumed to be
    proportional to the multiply-adds. `auto` compiles only on a CPU in fp32; on a GPU, steps run as CUDA graphs.
    """
    if trial.recipe.compile != "auto" or trial.data.task.phases:  # phases run parts of the network by themselves
        return trial.recipe.compile == "on"
    if device.type != "cpu" or autocast_type(trial.recipe.precision, device) is not None:
        return False
    dense_steps = steps * share
    step_seconds = choices.settle(
        f"seconds of a step of {trial.label}, {layout}", lambda: _uncompiled_step_seconds(trial, layout)
    )
    if dense_steps * step_seconds * _BEST_SAVING < _MIN_SAVED_SECONDS:
        hooks.log(f"compile=auto: not compiled: a training of {plural(steps, 'step')} is too short")
        return False
    break_even = choices.settle(
        f"steps that pay back a compilation of {trial.label}, {layout}", lambda: _break_even_steps(trial, layout, hooks)
    )
    pays = dense_steps > break_even
    if math.isfinite(break_even):
        need = f"compilation pays off after {plural(math.ceil(break_even), 'dense step')}"
    else:
        need = "compilation is not faster"
    hooks.log(
        f"compile=auto: {'compiled' if pays else 'not compiled'}: {plural(steps, 'step')} with {percent(share, 0)} of "
        f"the multiply-adds equal {plural(round(dense_steps), 'dense step')}; {need}"
    )
    return pays


def _uncompiled_step_seconds(trial: SpeedTrial, layout: str) -> float:
    with torch.random.fork_rng(devices=[]):  # dropout draws random numbers
        return fastest_seconds(trial.training_pass(layout), torch.get_num_threads())


def _break_even_steps(trial: SpeedTrial, layout: str, hooks: Hooks) -> float:
    """The number of steps of the dense network that pay off a compilation; infinite if it is hardly faster."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        uncompiled, compiled_pass = trial.training_pass(layout), trial.training_pass(layout, compile_model)
        cpu_before = _cpu_seconds()
        try:
            compiled_pass()
        except TickdslError as error:
            hooks.warn(f"compile=auto: trainings are not compiled: {error.message}")
            return math.inf
        compile_seconds = _cpu_seconds() - cpu_before
        ratio = speedup(compiled_pass, uncompiled, threads)
        torch.compiler.reset()
        if ratio < MIN_SPEEDUP:
            return math.inf
        return compile_seconds / (fastest_seconds(uncompiled, threads) * (1 - 1 / ratio))


def _cpu_seconds() -> float:
    """The CPU time of this process and of the processes that the compiler has started, in seconds."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
