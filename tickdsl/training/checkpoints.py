"""Checkpoints of a training, taken by time, even inside an epoch: whole or absent, and bound to what they are of."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.recipes.recipe import Recipe

FILE = "training.ckpt"
_MAGIC = b"tickdsl checkpoint 1"

CheckpointState = dict[str, Any]


def training_identity(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    recipe: Recipe,
    data: str,
    seed: int,
    start: int,
    stop: int,
    distillation: str | None = None,
) -> str:
    """SHA-256 of all that decides a training's outcome: first weights, masks, recipe, data, seed, steps and teacher."""
    inputs = [recipe.to_dict(), data, seed, start, stop, *([distillation] if distillation else [])]
    digest = hashlib.sha256(json.dumps(inputs).encode())
    tensor_groups = [("weight", model.state_dict()), ("mask", masks)]
    for kind, tensors in tensor_groups:
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{kind} {name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().view(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


class Checkpointer:
    """Keeps the newest state of one training in `folder`, written at most every `every_seconds`.

    The training waits while its state is copied in memory; a thread writes the copy, one at a time. What goes wrong
    there is raised at the next step. A kill at any moment leaves the file before, or the new one.

    warn is told why a file found there is not used: it is torn, or of another training; on_saved the step that is safe
    from now on, both in the training's thread. The caller removes the folder once the training's result is safe.
    """

    def __init__(
        self,
        folder: Path | str,
        every_seconds: float = 30.0,
        warn: Callable[[str], None] | None = None,
        on_saved: Callable[[int], None] | None = None,
    ) -> None:
        self.path = Path(folder) / FILE
        self._interval_seconds = every_seconds
        self._warn = warn
        self._on_saved = on_saved
        self._identity = ""
        self._capture: Callable[[], CheckpointState] | None = None
        self._last_save = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[int] | None = None

    def attach(self, training: str, capture: Callable[[], CheckpointState]) -> None:
        """Serve the training of this identity, whose state `capture` gives."""
        self._identity, self._capture, self._last_save = training, capture, time.monotonic()

    def detach(self) -> None:
        """The training is over or has been left: nothing more to save, and nothing still to be written.

        Whether the last write went well does not matter any more: who leaves a training on purpose has called
        `save_now`.
        """
        self._capture = None
        if self._writing is not None:
            wait([self._writing])
            self._writing = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    @property
    def writing(self) -> bool:
        """Whether a thread is writing."""
        return self._writing is not None and not self._writing.done()

    def save_if_due(self) -> None:
        """Begin to save where that is due; raises what went wrong the last time."""
        if self.is_due():
            self.begin_save()

    def is_due(self) -> bool:
        """Whether saving was last begun `every_seconds` ago and is done; raises what went wrong there."""
        if self.writing:
            return False
        if self._writing is not None:
            self._wait_for_write()
        return time.monotonic() - self._last_save >= self._interval_seconds

    def save_now(self) -> None:
        """Save the training as it stands between two steps; it is safe on return.

        Nothing happens where none is attached. Raises TickdslError where the folder cannot be written.
        """
        if self._writing is not None:
            self._wait_for_write()
        self.begin_save()
        if self._writing is not None:
            self._wait_for_write()

    def begin_save(self) -> None:
        """Copy the training's state, and let a thread write it; not while it is `writing`."""
        if self._capture is None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._last_save = time.monotonic()
        self._writing = self._thread.submit(self._write, _cpu_copy(self._capture()))

    def _wait_for_write(self) -> None:
        """Wait for what is being written."""
        assert self._writing is not None
        writing, self._writing = self._writing, None
        step = writing.result()
        if self._on_saved is not None:
            self._on_saved(step)

    def _write(self, captured: CheckpointState) -> int:
        """Write a state beside the one before, and put it in its place; the state's step."""
        buffer = io.BytesIO()
        torch.save(captured, buffer)
        payload = buffer.getbuffer()
        header = b" ".join([_MAGIC, self._identity.encode(), hashlib.sha256(payload).hexdigest().encode()])
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(header + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            if temporary.is_file():
                temporary.unlink()
            raise TickdslError(
                f"the checkpoint {self.path} cannot be written: {error.strerror}",
                "free some space or change its permissions; a second run goes on from the last checkpoint",
            ) from error
        step: int = captured["step"]
        return step

    def load(self) -> CheckpointState | None:
        """The state to go on from; None where there is none that is whole and of this training."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_unusable(f"cannot be read ({error.strerror})")
            return None
        header, _, payload = content.partition(b"\n")
        fields = header.removeprefix(_MAGIC).split()
        if not header.startswith(_MAGIC) or len(fields) != 2:
            self._warn_unusable("is no checkpoint of this version")
            return None
        stored_identity, digest = (word.decode("ascii", "replace") for word in fields)
        if hashlib.sha256(payload).hexdigest() != digest:
            self._warn_unusable("is torn")
            return None
        if stored_identity != self._identity:
            self._warn_unusable("belongs to another training")
            return None
        captured: CheckpointState = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return captured

    def _warn_unusable(self, reason: str) -> None:
        if self._warn is not None:
            self._warn(f"{self.path} {reason}; the training starts over")


def _cpu_copy(state: Any) -> Any:
    """A state with tensors of its own, on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {name: _cpu_copy(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_cpu_copy(value) for value in state)
    return state
