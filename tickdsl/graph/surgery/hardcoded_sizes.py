"""Adapts hard-coded sizes in the Python code of a compact network, and verifies it on the meta device.

Most networks need no change, since their code reads sizes from tensors. Otherwise, attributes that hold a size are
patched; if that does not help, the module is rewritten as a torch.fx graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from torch import nn

from tickdsl.graph.arrays import BoolArray
from tickdsl.graph.costs import layout_sizes
from tickdsl.graph.coupling.channel_groups import solve_channel_groups
from tickdsl.graph.indexing import kept_units
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.fx_emitter import ProgramRecording, SurgeryError
from tickdsl.graph.surgery.fx_rewrite import rewrite_module
from tickdsl.graph.surgery.pruned_attention import PrunedAttention
from tickdsl.graph.surgery.verify import first_mismatch, model_dtype
from tickdsl.graph.tracing.example_inputs import batch_size, build_inputs
from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, set_training_mode
from tickdsl.graph.tracing.module_copy import replace_module
from tickdsl.graph.tracing.module_program import KeptPositions, ProgramRecorder
from tickdsl.graph.tracing.recorder import record_run
from tickdsl.plurals import plural

Undo = Callable[[], None]
#: The recordings of each module, each with the names of parameters and buffers by id.
_RecordingsByPath = dict[str, list[tuple[ProgramRecording, dict[int, str]]]]


def repair_hardcoded_sizes(
    model: nn.Module, compact_model: nn.Module, graph: ModelGraph, structure: Structure
) -> nn.Module:
    """Adapt the code of `compact_model` to its sliced parameters; returns the model or its replacement.

    Raises SurgeryError if a module cannot be adapted.
    """
    trusted = set(_trusted_paths(compact_model))
    undos_by_class: dict[type[nn.Module], list[Undo]] = {}
    rewritten_classes: set[type[nn.Module]] = set()
    while (mismatch := first_mismatch(compact_model, graph, structure, trusted)) is not None:
        module_class = type(compact_model.get_submodule(mismatch.path))
        same_class_paths = [path for path, module in compact_model.named_modules() if type(module) is module_class]
        if module_class not in undos_by_class:
            undos_by_class[module_class] = [
                undo
                for path in same_class_paths
                for undo in _patch_attributes(compact_model.get_submodule(path), path, graph, structure)
            ]
            if undos_by_class[module_class]:
                continue
        for undo in undos_by_class[module_class]:
            undo()
        if module_class in rewritten_classes or mismatch.path in trusted:
            raise SurgeryError(
                f"`{mismatch.path}` ({module_class.__name__}) does not run with the remaining sizes: {mismatch.message}"
            )
        rewritten_classes.add(module_class)
        compact_model = _rewrite_modules(model, compact_model, graph, structure, same_class_paths)
        trusted.update(same_class_paths)
    return compact_model


def _trusted_paths(compact_model: nn.Module) -> Iterable[str]:
    for path, module in compact_model.named_modules():
        if isinstance(module, PrunedAttention):
            yield path
            yield f"{path}.out_proj"


def _patch_attributes(module: nn.Module, path: str, graph: ModelGraph, structure: Structure) -> list[Undo]:
    """Update integer attributes that equal a size that shrank; returns the functions that undo it."""
    sizes = layout_sizes(graph, structure)
    shrunk: dict[int, set[int]] = {}
    for _, data in graph.graph.nodes(data=True):
        if data["kind"] == "operator" and data["module"] == path:
            for shape, dims in zip(data["shapes"], data["dims"], strict=True):
                for dense, dim in zip(shape, dims, strict=True):
                    if dim is not None and sizes[dim] != dense:
                        shrunk.setdefault(dense, set()).add(sizes[dim])
    undos: list[Undo] = []
    for name, value in list(vars(module).items()):
        if type(value) is int and len(shrunk.get(value, ())) == 1:
            undos.append(lambda name=name, value=value: setattr(module, name, value))  # type: ignore[misc]
            setattr(module, name, next(iter(shrunk[value])))
    return undos


def _rewrite_modules(
    model: nn.Module, compact_model: nn.Module, graph: ModelGraph, structure: Structure, paths: list[str]
) -> nn.Module:
    """Replace modules by graphs of what their dense versions do."""
    kept_masks = kept_units(graph, structure)
    batches = (2, 3) if batch_size(graph.inputs) is not None else (None, None)
    try:
        recordings = [_record_programs(model, graph, kept_masks, paths, batch) for batch in batches]
    except Exception:  # code that knows its batch size may raise anything
        batches = (None, None)
        recordings = [_record_programs(model, graph, kept_masks, paths, None)] * 2
    # With a batch of 1, any size of 1 could be the batch size. Training is recorded at the first batch size.
    training = _steps_in_training(model, graph, paths, batches[0])
    all_names = _all_names(model)
    for path in sorted(paths, key=lambda path: -path.count(".")):
        runs = [recording.get(path, []) for recording in recordings]
        if not runs[0]:
            continue
        steps = [step.target for step in runs[0][0][0].program.steps]
        if training.get(path, steps) != steps:
            raise SurgeryError(
                f"`{path}` hard-codes sizes and runs different operators in training mode",
                "read the sizes from tensors, or move dropout and normalisation into submodules",
            )
        replacement, *further_runs = (
            rewrite_module(compact_model.get_submodule(path), (first, second), names, all_names)
            for (first, names), (second, _) in zip(*runs, strict=True)
        )
        if any(run.code != replacement.code for run in further_runs):
            raise SurgeryError(
                f"`{path}` hard-codes sizes and runs {plural(len(runs[0]), 'time')} with different remaining sizes"
            )
        if not path:
            return replacement
        replace_module(compact_model, path, replacement)
    return compact_model


def _steps_in_training(
    model: nn.Module, graph: ModelGraph, paths: list[str], batch: int | None
) -> dict[str, list[object]]:
    """The operators that the modules' own code runs in training mode; empty if the network does not run in it."""
    recorder = ProgramRecorder(paths, with_labels=False)
    try:
        _run_on_meta(model, graph, recorder, paths, batch)
    except Exception:  # training may need targets, for example; then evaluation alone decides
        return {}
    return {path: [step.target for step in runs[0].steps] for path, runs in recorder.programs.items()}


def _record_programs(
    model: nn.Module, graph: ModelGraph, kept_masks: Mapping[str, BoolArray], paths: list[str], batch: int | None
) -> _RecordingsByPath:
    """Record the programs of the dense modules at one batch size, with the kept positions of their tensors."""
    recorder = ProgramRecorder(paths)
    names = _run_on_meta(model, graph, recorder, (), batch)
    kept_positions = KeptPositions.from_masks(solve_channel_groups(recorder.analysis), kept_masks)
    return {
        path: [(ProgramRecording(program, kept_positions, batch or 1), names) for program in programs]
        for path, programs in recorder.programs.items()
    }


def _run_on_meta(
    model: nn.Module, graph: ModelGraph, recorder: ProgramRecorder, training: Collection[str], batch: int | None
) -> dict[int, str]:
    """Run a copy on the meta device, in training mode if `training` names modules; returns its tensor names by id."""
    meta_model = copy_to_meta(model)
    set_training_mode(meta_model, train=bool(training))
    for path in training:
        meta_model.get_submodule(path).training = True
    names = {}
    for name, tensor in (*meta_model.named_parameters(), *meta_model.named_buffers()):
        recorder.analysis.add_parameter(name, tensor)
        names[id(tensor)] = name
    with on_meta_device():
        args, kwargs = build_inputs(graph.inputs, floating=model_dtype(model), batch=batch)
        record_run(meta_model, recorder, args, kwargs)
    return names


def _all_names(model: nn.Module) -> dict[str, list[str]]:
    """All names of each shared module, parameter and buffer, by its first name."""
    names_by_id: dict[int, list[str]] = {}
    for name, value in (
        *model.named_modules(remove_duplicate=False),
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names_by_id.setdefault(id(value), []).append(name)
    return {names[0]: names for names in names_by_id.values() if len(names) > 1}
