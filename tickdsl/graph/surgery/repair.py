"""Brings the Python code of a compact network into line with its parameters, and proves it by a run without data.

Most networks need nothing: their code asks tensors for their sizes. Where it does not, an attribute that holds the
size is changed; where that does not help, the module's code is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from torch import nn

from tickdsl.graph.arrays import Bools
from tickdsl.graph.costs import layout_sizes
from tickdsl.graph.coupling.grouping import group_units
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, kept_units
from tickdsl.graph.surgery.attention import PrunedAttention
from tickdsl.graph.surgery.rewrite import SurgeryError, Take, rewritten
from tickdsl.graph.surgery.verify import dtype_of, first_mismatch
from tickdsl.graph.tracing.copies import put
from tickdsl.graph.tracing.example_inputs import batch_size, build
from tickdsl.graph.tracing.meta import copy_without_data, set_mode, without_data
from tickdsl.graph.tracing.program import Live, ProgramRecorder
from tickdsl.graph.tracing.recorder import observe

Undo = Callable[[], None]
#: Per module its recordings, each with the names of parameters and buffers by identity.
_Programs = dict[str, list[tuple[Take, dict[int, str]]]]


def repair(model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure) -> nn.Module:
    """`small`, whose parameters are sliced, with code that follows. Raises SurgeryError where that cannot be done."""
    trusted = set(_own_code(small))
    tried: dict[type[nn.Module], list[Undo]] = {}
    written: set[type[nn.Module]] = set()
    while (wrong := first_mismatch(small, graph, structure, trusted)) is not None:
        kind = type(small.get_submodule(wrong.path))
        alike = [path for path, module in small.named_modules() if type(module) is kind]
        if kind not in tried:
            tried[kind] = [undo for path in alike for undo in _patch(small.get_submodule(path), path, graph, structure)]
            if tried[kind]:
                continue
        for undo in tried[kind]:
            undo()
        if kind in written or wrong.path in trusted:
            raise SurgeryError(f"`{wrong.path}` ({kind.__name__}) does not follow the sizes left: it {wrong.message}")
        written.add(kind)
        small = _rewrite(model, small, graph, structure, alike)
        trusted.update(alike)
    return small


def _own_code(small: nn.Module) -> Iterable[str]:
    for path, module in small.named_modules():
        if isinstance(module, PrunedAttention):
            yield path
            yield f"{path}.out_proj"


def _patch(module: nn.Module, path: str, graph: ModelGraph, structure: Structure) -> list[Undo]:
    """Set whole-number attributes that equal a size that shrank; gives the way back."""
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


def _rewrite(
    model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure, paths: list[str]
) -> nn.Module:
    """Replace the modules by graphs of what the dense ones do."""
    left = kept_units(graph, structure)
    batches = (2, 3) if batch_size(graph.inputs) is not None else (None, None)
    try:
        takes = [_record(model, graph, left, paths, batch) for batch in batches]
    except Exception:  # code that knows its batch size may raise anything
        batches = (None, None)
        takes = [_record(model, graph, left, paths, None)] * 2
    # With a batch of 1, every 1 could be it; and steps may differ between batches, so training runs with the first.
    training = _steps_in_training(model, graph, paths, batches[0])
    more = _more_names(model)
    for path in sorted(paths, key=lambda path: -path.count(".")):
        runs = [take.get(path, []) for take in takes]
        if not runs[0]:
            continue
        steps = [step.target for step in runs[0][0][0].program.steps]
        if training.get(path, steps) != steps:
            raise SurgeryError(
                f"`{path}` has sizes of the dense network in its code, which also does otherwise in training",
                "let it ask tensors for their sizes, or leave dropout and norms to modules of their own",
            )
        new, *others = (
            rewritten(small.get_submodule(path), (first, second), names, more)
            for (first, names), (second, _) in zip(*runs, strict=True)
        )
        if any(other.code != new.code for other in others):
            raise SurgeryError(
                f"`{path}` runs {len(runs[0])} times, with other sizes left each time, and its code has them in it"
            )
        if not path:
            return new
        put(small, path, new)
    return small


def _steps_in_training(
    model: nn.Module, graph: ModelGraph, paths: list[str], batch: int | None
) -> dict[str, list[object]]:
    """What the modules' own code does in training, where that can be seen."""
    recorder = ProgramRecorder(paths, with_labels=False)
    try:
        _observe(model, graph, recorder, paths, batch)
    except Exception:  # for want of targets for instance; such a network is judged by evaluation
        return {}
    return {path: [step.target for step in runs[0].steps] for path, runs in recorder.programs.items()}


def _record(
    model: nn.Module, graph: ModelGraph, left: Mapping[str, Bools], paths: list[str], batch: int | None
) -> _Programs:
    """Programs of the dense modules for one size of the batch, with what is left of every value."""
    recorder = ProgramRecorder(paths)
    names = _observe(model, graph, recorder, (), batch)
    live = Live.of(group_units(recorder.analysis), left)
    return {
        path: [(Take(program, live, batch or 1), names) for program in programs]
        for path, programs in recorder.programs.items()
    }


def _observe(
    model: nn.Module, graph: ModelGraph, recorder: ProgramRecorder, training: Collection[str], batch: int | None
) -> dict[int, str]:
    """Run a copy without data, in training if modules are named for it; gives the names of its tensors."""
    bare = copy_without_data(model)
    set_mode(bare, train=bool(training))
    for path in training:
        bare.get_submodule(path).training = True
    names = {}
    for name, tensor in (*bare.named_parameters(), *bare.named_buffers()):
        recorder.analysis.add_parameter(name, tensor)
        names[id(tensor)] = name
    with without_data():
        args, kwargs = build(graph.inputs, floating=dtype_of(model), batch=batch)
        observe(bare, recorder, args, kwargs)
    return names


def _more_names(model: nn.Module) -> dict[str, list[str]]:
    """Of shared modules, parameters and buffers by their first names: all names."""
    found: dict[int, list[str]] = {}
    for name, thing in (
        *model.named_modules(remove_duplicate=False),
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        found.setdefault(id(thing), []).append(name)
    return {names[0]: names for names in found.values() if len(names) > 1}
