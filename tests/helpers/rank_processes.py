"""Functions that run in several processes at once, which train together."""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from tickdsl.training.parallel.ranks import Ranks, find_store, join, open_store


def run_on_ranks(size: int, function: Callable[..., Any], *args: Any, device: str = "cpu") -> list[Any]:
    """What `function(ranks, *args)` returns in each of `size` processes, by rank; it is a function of a module.

    device: `cpu`, or `cuda` for a GPU each.
    """
    start: Any = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["tickdsl.training.loop"])
    pipes, processes = [], []
    for rank in range(size):
        ours, theirs = start.Pipe()
        process = start.Process(target=_main, args=(theirs, rank, size, device, function, args), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    port = pipes[0].recv()
    for pipe in pipes[1:]:
        pipe.send(port)
    answers = [_answer(pipe) for pipe in pipes]
    for process in processes:
        process.join()
    errors = [answer for is_error, answer in answers if is_error]
    assert not errors, "\n".join(errors)
    return [answer for _, answer in answers]


def _answer(pipe: Connection) -> tuple[bool, Any]:
    try:
        answer: tuple[bool, Any] = pickle.loads(pipe.recv_bytes())
    except EOFError:
        return True, "a process has ended without an answer"
    return answer


def _main(
    pipe: Connection, rank: int, size: int, device: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
    try:
        if rank == 0:
            store, port = open_store(size)
            pipe.send(port)
        else:
            store = find_store(pipe.recv(), size)
        ranks: Ranks = join(store, rank, size, torch.device(device))
        # Not by `send`, which leaves tensors in memory that ends with this process.
        pipe.send_bytes(pickle.dumps((False, function(ranks, *args))))
        torch.distributed.destroy_process_group()
    except BaseException:
        pipe.send_bytes(pickle.dumps((True, traceback.format_exc())))
