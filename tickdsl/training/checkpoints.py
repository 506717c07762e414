"""Checkpoints of a training: saved at intervals, even within an epoch, written atomically, tied to one training."""

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
from tickdsl.patient_reads import move, patiently
from tickdsl.training.recipes.recipe import Recipe

FILE = "training.ckpt"
_MAGIC = b"tickdsl checkpoint 1"

CheckpointState = dict[str, Any]


def training_identity(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    recipe: Recipe,
    data_fingerprint: str,
    seed: int,
    start: int,
    stop: int,
    *further: str,
) -> str:
    """The SHA-256 of everything that determines a training's outcome.

    That is the initial weights, masks, recipe, data, seed, first and last step, and what is `further` given: the
    identities of the teacher and of what changes the masks.
    """
    inputs = [recipe.to_dict(), data_fingerprint, seed, start, stop, *further]
    digest = hashlib.sha256(json.dumps(inputs).encode())
    tensor_groups = [("weight", model.state_dict()), ("mask", masks)]
    for kind, tensors in tensor_groups:
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{kind} {name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().view(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


class Checkpointer:
    """Keeps the latest state of one training in `folder`, saved at most every `every_seconds`.

    The training waits only while its state is copied in memory; a background thread writes the copy to disk, one at a
    time, and an error there is raised at the next step. Killing the process leaves either the previous checkpoint or
    the new one.

    warn: called with the reason if an existing file cannot be used; on_saved: called with the step of each checkpoint
    once it is on disk. Both are called in the training's thread. The caller removes the folder once the training's
    result is stored.
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
        self._writer: ThreadPoolExecutor | None = None
        self._pending_write: Future[int] | None = None

    def attach(self, identity: str, capture: Callable[[], CheckpointState]) -> None:
        """Start saving the training with this identity (see `training_identity`); `capture` returns its state."""
        self._identity, self._capture, self._last_save = identity, capture, time.monotonic()

    def detach(self) -> None:
        """Stop saving, and wait for a write that is in progress.

        Errors of that write are ignored: callers that interrupt a training on purpose call `save_now` first.
        """
        self._capture = None
        if self._pending_write is not None:
            wait([self._pending_write])
            self._pending_write = None
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None

    @property
    def writing(self) -> bool:
        """Whether a write is in progress."""
        return self._pending_write is not None and not self._pending_write.done()

    def save_if_due(self) -> None:
        """Start saving if a checkpoint is due. Raises TickdslError if the last write failed."""
        if self.is_due():
            self.begin_save()

    def is_due(self) -> bool:
        """Whether the last save is written and began at least `every_seconds` ago. Raises TickdslError if it failed."""
        if self.writing:
            return False
        if self._pending_write is not None:
            self._wait_for_write()
        return time.monotonic() - self._last_save >= self._interval_seconds

    def save_now(self) -> None:
        """Save the training's current state between two steps, and return once it is on disk.

        Does nothing if no training is attached. Raises TickdslError if the folder cannot be written.
        """
        if self._pending_write is not None:
            self._wait_for_write()
        self.begin_save()
        if self._pending_write is not None:
            self._wait_for_write()

    def begin_save(self) -> None:
        """Copy the training's state and write it in the background. Do not call this while `writing`."""
        if self._capture is None:
            return
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._last_save = time.monotonic()
        self._pending_write = self._writer.submit(self._write, _cpu_copy(self._capture()))

    def _wait_for_write(self) -> None:
        """Wait for the write in progress and report its step. Raises its error, if any."""
        assert self._pending_write is not None
        pending_write, self._pending_write = self._pending_write, None
        step = pending_write.result()
        if self._on_saved is not None:
            self._on_saved(step)

    def _write(self, state: CheckpointState) -> int:
        """Write a state to a temporary file, rename it over the previous checkpoint, and return the state's step."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
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
            move(temporary, self.path)
        except OSError as error:
            if temporary.is_file():
                temporary.unlink()
            raise TickdslError(
                f"cannot write the checkpoint {self.path}: {error.strerror}",
                "free disk space or fix the folder's permissions, then run again to resume from the last checkpoint",
            ) from error
        step: int = state["step"]
        return step

    def load(self) -> CheckpointState | None:
        """The state to resume from; None if there is no intact checkpoint of this training.

        Raises TickdslError if there is one that cannot be read: what it holds may be hours of work.
        """
        try:
            content = patiently(self.path.read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TickdslError(
                f"cannot read the checkpoint {self.path}: {error.strerror}",
                "check the disk or the network, then run again; to train from the start instead, remove the file",
            ) from error
        header, _, payload = content.partition(b"\n")
        fields = header.removeprefix(_MAGIC).split()
        if not header.startswith(_MAGIC) or len(fields) != 2:
            self._warn_unusable("is not a checkpoint of this version")
            return None
        stored_identity, digest = (word.decode("ascii", "replace") for word in fields)
        if hashlib.sha256(payload).hexdigest() != digest:
            self._warn_unusable("is damaged")
            return None
        if stored_identity != self._identity:
            self._warn_unusable("belongs to another training")
            return None
        state: CheckpointState = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return state

    def _warn_unusable(self, reason: str) -> None:
        if self._warn is not None:
            self._warn(f"{self.path} {reason}; the training starts over")


def _cpu_copy(state: Any) -> Any:
    """A copy of a state, with its tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {name: _cpu_copy(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_cpu_copy(value) for value in state)
    return state
