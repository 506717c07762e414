"""The format `onnx`: one file for onnxruntime and other runtimes, with float or 8-bit weights."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.results.formatting import percent
from tickdsl.tickets import generators
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportFormat, ExportOptions, Subject, Verified
from tickdsl.tickets.formats.block_form import network_to_export
from tickdsl.tickets.formats.exported_program import (
    dynamic_shapes,
    export_program,
    first_line,
    quiet_torch,
)
from tickdsl.tickets.formats.file_interface import FileInterface, interface_of
from tickdsl.tickets.formats.int8 import quantise_weights
from tickdsl.tickets.formats.metadata import file_metadata
from tickdsl.tickets.formats.portable_verification import (
    given_to,
    run_in_fresh_process,
    verify_outputs,
    verify_portable,
)
from tickdsl.tickets.outputs import leaves, like, test_figures
from tickdsl.tickets.verification import metric_in_words
from tickdsl.training.tasks import CLASSIFY

#: The version of ONNX's operators; onnxruntime runs it since 1.14 (2023).
OPSET = 18
#: A file of Protocol Buffers holds less than 2 GiB.
_MAX_BYTES = 2**31 - 2**20


def write_onnx(subject: Subject, path: Path, options: ExportOptions) -> tuple[str, ...]:
    """Write a ticket and its metadata to `path`, and describe it.

    Raises TickdslError if the extra `[onnx]` is missing, if the network is too large for the format, or if torch.export
    or ONNX cannot take it.
    """
    require_onnx()
    interface = interface_of(subject.ticket, subject.network, raw=options.raw, part=options.part)
    described = f"ONNX opset {OPSET}; {interface.in_words}"
    if not options.int8:
        _write_float(subject, path, options)
        return (described,)
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as folder:
        float_path = Path(folder) / "float.onnx"
        _write_float(subject, float_path, options)
        sizes = quantise_weights(float_path, path)
    layers = plural(sizes.tensors, "layer")
    return described, f"8-bit weights in {layers}: {sizes.bytes_after:,} bytes instead of {sizes.bytes_before:,}"


def verify_onnx(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Verify a file as `verify_portable` does; with 8-bit weights, verify the float file and measure what they cost.

    Raises VerificationError.
    """
    if not options.int8:
        return verify_portable(path, subject, options)
    test, given = subject.test, given_to(subject, options)
    outputs = run_in_fresh_process(
        path, given.inputs, subject.ticket.preprocessing, raw=options.raw, further=given.noise, prepared=given.prepared
    )
    if not all(output.isfinite().all() for output in outputs):
        raise VerificationError(f"with 8-bit weights, {path.name} has outputs that are not finite", "leave out --int8")
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as folder:
        float_path = Path(folder) / path.name
        _write_float(subject, float_path, options)
        verified, before = verify_outputs(float_path, subject, options)
    task = subject.task
    if test.targets is None and task is CLASSIFY and not given.part:
        changed = int((outputs[0].argmax(1) != leaves(before)[0].argmax(1)).sum())
        unit = subject.ticket.preprocessing.unit
        return Verified(
            None,
            f"{verified.sentence}; 8-bit weights change the class of {changed} of {len(outputs[0])} random {unit}s",
        )
    if test.targets is None or verified.score is None:
        moved = max(_relative(one, other) for one, other in zip(outputs, leaves(before), strict=True))
        return Verified(
            None, f"{verified.sentence}; 8-bit weights move the outputs by {percent(moved, 2)} of their size"
        )
    if given.part:
        task = generators.judged_alone(task)
        outputs, before = (
            [made if options.raw else 2 * made - 1 for made in each] for each in (outputs, leaves(before))
        )
        before = before[0]
    metric = task.primary
    score, without = (test_figures(task, given, test.targets)[metric.name] for given in (like(before, outputs), before))
    if task is CLASSIFY:
        shown = f"accuracy with 8-bit weights: {percent(score, 2)}, {_cost(without - score)}"
    else:
        shown = f"with 8-bit weights: {metric_in_words(metric, score)} instead of {metric_in_words(metric, without)}"
    return Verified(score, f"{shown} (float: {verified.sentence})")


def _relative(actual: Tensor, expected: Tensor) -> float:
    """The distance of outputs, as a share of their length."""
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-12))


def require_onnx() -> None:
    """Raise TickdslError if the packages of the extra `[onnx]` are missing."""
    for package in ("onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise TickdslError(
                f"--format onnx needs {package}, which is not installed", "install it: pip install 'tickdsl[onnx]'"
            )


def _write_float(subject: Subject, path: Path, options: ExportOptions) -> None:
    network = network_to_export(subject, options)
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if num_bytes > _MAX_BYTES:
        raise TickdslError(
            f"an ONNX file holds less than 2 GiB, and the weights take {num_bytes / 2**30:.1f} GiB",
            "use `--format pt2`",
        )
    interface = interface_of(subject.ticket, subject.network, raw=options.raw, part=options.part)
    program = export_program(
        network, subject.ticket.preprocessing, interface, raw=options.raw, task=subject.ticket.task
    )
    exported = _translate(program, interface, type(subject.network).__name__)
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # paths of source files, among others
    exported.model.metadata_props.clear()
    exported.model.metadata_props.update(file_metadata(subject.ticket, interface, raw=options.raw))
    exported.model.producer_name = "tickdsl"
    exported.save(str(path), external_data=False)


def _translate(program: ExportedProgram, interface: FileInterface, name: str) -> torch.onnx.ONNXProgram:
    try:
        with quiet_torch():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[known.name for known in interface.inputs],
                output_names=[output.name for output in interface.outputs],
                dynamic_shapes=dynamic_shapes(interface),
            )
    except Exception as error:  # torch raises classes of many kinds for what it cannot translate
        raise TickdslError(f"ONNX cannot take the network {name}: {_reason(error)}", "use `--format pt2`") from error
    assert exported is not None  # since it is not written by `export` itself
    return exported


def _reason(error: BaseException) -> str:
    """The first line of the error that was first in the chain, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _cost(lost: float) -> str:
    """What 8-bit weights cost, in points of accuracy."""
    if lost == 0:
        return "which costs nothing"
    verb = "costs" if lost > 0 else "gains"
    return f"which {verb} {100 * abs(lost):.2f} points"


ONNX = ExportFormat("onnx", ".onnx", frozenset({"raw", "int8", "blocks", "part"}), write_onnx, verify_onnx)
