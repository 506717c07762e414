"""Rules for Fourier transforms and complex numbers: exact per channel; transformed dimensions cannot shrink."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families


def transform(call: OperatorCall) -> list[Families]:
    """A discrete Fourier transform over some dimensions."""
    value = call.tensor_info("self")
    dims = {dim % len(value.shape) for dim in call["dim"]}
    return [call.require_rigid(dims, value.families, "transforms it") for _ in call.outputs]


def view_as_real(call: OperatorCall) -> list[Families]:
    """Real and imaginary parts become a last dimension."""
    return [tuple(np.expand_dims(family, family.ndim) for family in call.tensor_info("self").families)]


def view_as_complex(call: OperatorCall) -> list[Families]:
    """The last dimension becomes real and imaginary parts."""
    value = call.tensor_info("self")
    families = call.require_rigid({len(value.shape) - 1}, value.families, "makes complex numbers of it")
    return [tuple(family.squeeze(-1) for family in families)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("_fft_r2c", "_fft_c2r", "_fft_c2c"), transform),
    "view_as_real": view_as_real,
    "view_as_complex": view_as_complex,
}
