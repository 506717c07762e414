"""The processes that train one network together, and what they tell each other, through torch.distributed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

#: How long a process waits for the others within one operation, before it takes them for lost.
TIMEOUT = timedelta(minutes=30)
_tcp_store: Any = vars(dist).get("TCPStore")
#: The most bytes that are added up at once.
_BUCKET_BYTES = 64 << 20


class OutOfStepError(RuntimeError):
    """The processes of a training differ in what has to be equal: a bug, or code that depends on the process."""


class Ranks:
    """The processes of a training as one of them sees them: it is number `rank` of `size`.

    All of them call the same methods in the same order. Tensors are on the device of the process, or on the CPU.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    # -- numbers

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place; all processes get the same bits."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view(tensor.shape) for part, tensor in zip(parts, bucket, strict=True)])

    def _all_reduce(self, flat: Tensor) -> None:
        reached = _reachable(flat)
        dist.all_reduce(reached)
        if reached is not flat:
            flat.copy_(reached)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, stacked: [size, …]."""
        # As bytes, since gloo and NCCL do not know every type.
        sent = _reachable(tensor).contiguous().view(-1).view(torch.uint8)
        received = sent.new_empty((self.size, len(sent)))
        dist.all_gather(list(received), sent)
        return received.view(-1).view(tensor.dtype).view(self.size, *tensor.shape).to(tensor.device)

    def gather_rows(self, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows [n, …] of all processes, one below the other. sizes: how many each of them has, this one too."""
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: sizes[self.rank]] = tensor[: sizes[self.rank]]
        return torch.cat([part[:size] for part, size in zip(self.gather(padded), sizes, strict=True)])

    def require_equal_tensors(self, what: str, tensors: Iterable[Tensor]) -> None:
        """Raise OutOfStepError in all processes unless all tensors have the same sums. Waits for the device."""
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors])
        gathered = self.gather(sums).view(self.size, -1).view(torch.int64)  # bits: NaN are equal to themselves
        if bool((gathered != gathered[0]).any()):
            raise OutOfStepError(f"the {self.size} processes of this training differ in {what}")

    # -- objects

    def gather_objects(self, value: T) -> list[T]:
        """The values of all processes; they can be pickled."""
        received: list[Any] = [None] * self.size
        dist.all_gather_object(received, value)
        return received

    def of_first(self, value: T) -> T:
        """The value of process 0, whatever the others have."""
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def require_equal(self, what: str, value: object) -> None:
        """Raise OutOfStepError in all processes unless all have the same value."""
        values = self.gather_objects(value)
        if any(other != values[0] for other in values):
            raise OutOfStepError(f"the {self.size} processes of this training differ in {what}: {values}")


def _reachable(tensor: Tensor) -> Tensor:
    """The tensor where torch.distributed can reach it: on the CPU or a GPU."""
    return tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of one type, of at most so many bytes unless a single one has more."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        bucket: list[Tensor] = []
        for tensor in alike:
            if bucket and sum(each.nbytes for each in bucket) + tensor.nbytes > _BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def open_store(size: int) -> tuple[Any, int]:
    """A meeting place for `size` processes of this machine, and the port that the others find it at."""
    store = _tcp_store("127.0.0.1", 0, size, is_master=True, timeout=TIMEOUT, wait_for_workers=False)
    return store, store.port


def find_store(port: int, size: int) -> Any:
    """The meeting place that another process of this machine has opened."""
    return _tcp_store("127.0.0.1", port, size, is_master=False, timeout=TIMEOUT)


def join(store: Any, rank: int, size: int, device: torch.device) -> Ranks:
    """Meet the other processes: NCCL adds up between GPUs, gloo between CPUs. Only once in a process."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:  # the name of the machine may stand for an address that leads nowhere
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return Ranks(rank, size)
