"""Adapts hard-coded sizes in the Python code of a compact network, and verifies it on the meta device.

Most networks need no change, since their code reads sizes from tensors. Otherwise, attributes that hold a size are
patched: the fewest with which the code does what it should, since another attribute may have the same value by chance.
If that does not help, the module is rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from torch import nn

from tickdsl.graph.arrays import BoolArray
from tickdsl.graph.costs import layout_sizes
from tickdsl.graph.coupling.channel_groups import solve_channel_groups
from tickdsl.graph.indexing import kept_units
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.fx_emitter import ProgramRecording, code_location
from tickdsl.graph.surgery.fx_rewrite import rewritten_code
from tickdsl.graph.surgery.pruned_attention import PrunedAttention
from tickdsl.graph.surgery.rewritten import ForwardCode, SurgeryError, original_class, rewrite
from tickdsl.graph.surgery.variants import find_variants, model_dtype
from tickdsl.graph.surgery.verify import expected_runs, first_mismatch
from tickdsl.graph.tracing.example_inputs import build_inputs
from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, set_training_mode
from tickdsl.graph.tracing.module_program import KeptPositions, ModuleProgram, ProgramRecorder
from tickdsl.graph.tracing.other_sizes import BATCHES, Inputs, with_batch
from tickdsl.graph.tracing.recorder import record_run
from tickdsl.plurals import plural

#: With more candidates than this, only single attributes and all of them are tried.
_MOST_PATCHES = 4

#: A new value for an attribute of a module.
_Patch = tuple[nn.Module, str, int, int]
#: The recordings of each module, each with the names of parameters and buffers by id.
_RecordingsByPath = dict[str, list[tuple[ProgramRecording, dict[int, str]]]]


def repair_hardcoded_sizes(
    model: nn.Module, compact_model: nn.Module, graph: ModelGraph, structure: Structure
) -> nn.Module:
    """Adapt the code of `compact_model` to its sliced parameters, in place; returns it.

    Raises SurgeryError if a module cannot be adapted.
    """
    trusted = set(_trusted_paths(compact_model))
    runs = expected_runs(model, graph, structure)
    patched: dict[type[nn.Module], list[_Patch]] = {}
    rewritten: set[type[nn.Module]] = set()
    while (mismatch := first_mismatch(compact_model, runs, trusted)) is not None:
        module = compact_model.get_submodule(mismatch.path)
        module_class = original_class(module)
        paths = [path for path, m in compact_model.named_modules() if original_class(m) is module_class]

        def works(module_class: type[nn.Module] = module_class) -> bool:
            found = first_mismatch(compact_model, runs, trusted)
            return found is None or original_class(compact_model.get_submodule(found.path)) is not module_class

        if module_class not in patched:
            candidates = [
                p for path in paths for p in _patches(compact_model.get_submodule(path), path, graph, structure)
            ]
            patched[module_class] = _fewest_patches(candidates, works)
            if patched[module_class]:
                continue
        _apply([(module, name, new, old) for module, name, old, new in patched[module_class]])
        if module_class in rewritten or mismatch.path in trusted:
            raise SurgeryError(
                f"`{mismatch.path}` ({code_location(module)}) does not run with the remaining sizes: "
                f"{mismatch.message}",
                "exclude its layers with `except`, or read the sizes from tensors in its code",
            ) from mismatch.error
        rewritten.add(module_class)
        _rewrite_modules(model, compact_model, graph, structure, paths)
        trusted.update(paths)
    return compact_model


def _trusted_paths(compact_model: nn.Module) -> Iterable[str]:
    for path, module in compact_model.named_modules():
        if isinstance(module, PrunedAttention):
            yield path
            yield f"{path}.out_proj"


def _patches(module: nn.Module, path: str, graph: ModelGraph, structure: Structure) -> Iterator[_Patch]:
    """The integer attributes of a module that equal a size in its code that shrank, with the new value."""
    sizes = layout_sizes(graph, structure)
    shrunk: dict[int, set[int]] = {}
    for _, data in graph.graph.nodes(data=True):
        if data["kind"] in ("operator", "constant") and data["module"] == path:
            for shape, dims in zip(data["shapes"], data["dims"], strict=True):
                for dense, dim in zip(shape, dims, strict=True):
                    if dim is not None and sizes[dim] != dense:
                        shrunk.setdefault(dense, set()).add(sizes[dim])
    for name, value in vars(module).items():
        if type(value) is int and len(shrunk.get(value, ())) == 1:
            yield module, name, value, next(iter(shrunk[value]))


def _fewest_patches(candidates: Sequence[_Patch], works: Callable[[], bool]) -> list[_Patch]:
    """Apply the fewest patches with which the code works, by attribute name; returns them, or [] if none do."""
    names = list(dict.fromkeys(name for _, name, _, _ in candidates))
    few = len(names) <= _MOST_PATCHES
    counts = range(1, len(names) + 1) if few else (1, len(names))
    for count in counts:
        for chosen in combinations(names, count):
            patches = [patch for patch in candidates if patch[1] in chosen]
            _apply(patches)
            if works():
                return patches
            _apply([(module, name, new, old) for module, name, old, new in patches])
    return []


def _apply(patches: Iterable[_Patch]) -> None:
    for module, name, _, value in patches:
        setattr(module, name, value)


def _rewrite_modules(
    model: nn.Module, compact_model: nn.Module, graph: ModelGraph, structure: Structure, paths: list[str]
) -> None:
    """Rewrite modules as what their dense versions do, free in the sizes that their code lets one change.

    Otherwise free in the batch size alone. Code that does not run for two batch sizes is rewritten for the traced ones.
    """
    first, second = find_variants(model, graph).sizes
    pairs = [(first, second), (first, with_batch(first, BATCHES[1])), (graph.inputs, graph.inputs)]
    kept_masks = kept_units(graph, structure)
    error: SurgeryError | None = None
    for pair in pairs:
        if error is not None and pair is pairs[-1]:
            break
        try:
            recordings = [_record_programs(model, kept_masks, paths, inputs) for inputs in pair]
        except Exception:  # code that knows its input sizes may raise anything
            continue
        try:
            codes = _codes(model, compact_model, recordings, paths, pair[0])
        except SurgeryError as failure:
            error = failure
            continue
        for path, code in codes.items():
            rewrite(compact_model.get_submodule(path), code)
        return
    raise error or SurgeryError("the network's code cannot be recorded again")


def _codes(
    model: nn.Module,
    compact_model: nn.Module,
    recordings: Sequence[_RecordingsByPath],
    paths: Iterable[str],
    inputs: Inputs,
) -> dict[str, ForwardCode]:
    """The new code of each module that runs."""
    training = _programs_in_training(model, list(paths), inputs)
    all_names = _all_names(model)
    codes = {}
    for path in paths:
        runs = [recording.get(path, []) for recording in recordings]
        if not runs[0]:
            continue
        program = runs[0][0][0].program
        if path in training and not program.does_the_same_as(training[path]):
            raise SurgeryError(
                f"`{path}` hard-codes sizes and runs different operators in training mode",
                "read the sizes from tensors, or move dropout and normalisation into submodules",
            )
        if len(runs[0]) != len(runs[1]):
            raise SurgeryError(f"how often `{path}` runs depends on the sizes of the inputs")
        module = compact_model.get_submodule(path)
        codes[path], *further = (
            rewritten_code(module, (first, second), names, all_names)
            for (first, names), (second, _) in zip(*runs, strict=True)
        )
        if any(code != codes[path] for code in further):
            raise SurgeryError(
                f"`{path}` hard-codes sizes and runs {plural(len(runs[0]), 'time')} with different remaining sizes"
            )
    return codes


def _programs_in_training(model: nn.Module, paths: list[str], inputs: Inputs) -> dict[str, ModuleProgram]:
    """The first programs of the modules in training mode; empty if the network does not run in it."""
    recorder = ProgramRecorder(paths, with_labels=False)
    try:
        _run_on_meta(model, inputs, recorder, paths)
    except Exception:  # training may need targets, for example; then evaluation alone decides
        return {}
    return {path: runs[0] for path, runs in recorder.programs.items()}


def _record_programs(
    model: nn.Module, kept_masks: Mapping[str, BoolArray], paths: list[str], inputs: Inputs
) -> _RecordingsByPath:
    """Record the programs of the dense modules on inputs of some sizes, with the kept positions of their tensors."""
    recorder = ProgramRecorder(paths)
    names = _run_on_meta(model, inputs, recorder, ())
    kept_positions = KeptPositions.from_masks(solve_channel_groups(recorder.analysis), kept_masks)
    return {
        path: [(ProgramRecording(program, kept_positions), names) for program in programs]
        for path, programs in recorder.programs.items()
    }


def _run_on_meta(
    model: nn.Module, inputs: Inputs, recorder: ProgramRecorder, training: Collection[str]
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
        args, kwargs = build_inputs(inputs, floating=model_dtype(model))
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
