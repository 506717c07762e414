"""The figures of a network on a test set, by its task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from tickdsl.errors import TickdslError
from tickdsl.training.data.preprocess import Preprocess
from tickdsl.training.data.streaming.images import batches, take
from tickdsl.training.named_tensors import run_network
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.parallel.shares import cut
from tickdsl.training.tasks import CLASSIFY, Outputs, Task, as_float32, is_builtin

#: The seed of the numbers that networks draw in a test.
NOISE_SEED = 0
#: The most memory for the outputs of a test set, where a task needs all of them at once (`Task.keeps_outputs`).
MAX_KEPT_BYTES = 1 << 30


@attrs.frozen
class EvaluationResult:
    """The task's figures by name, the primary one's value, and the number of images.

    scores: [N], the task's score of every image (for a classifier, whether it is classified correctly); None if that
    was not asked for, or if images have no score of their own.
    """

    figures: Mapping[str, float]
    score: float
    count: int
    scores: Tensor | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def loss(self) -> float:
        """The mean loss: for a classifier the cross-entropy, in nats."""
        return self.figures["loss"]

    @property
    def accuracy(self) -> float:
        """A classifier's share of correct predictions, in [0, 1]. Raises KeyError for another task."""
        return self.figures["accuracy"]


def evaluate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    preprocess: Preprocess,
    device: torch.device | str = "cpu",
    batch: int = 1000,
    autocast: torch.dtype | None = None,
    task: Task = CLASSIFY,
    ranks: Ranks | None = None,
) -> EvaluationResult:
    """Evaluate `model` in eval mode, on `device`.

    inputs: [N, …], as the data set stores them; targets: [N, …]; preprocess: what the inputs go through before the
    network, on `device`; ranks: the processes that evaluate it together.
    """
    device = torch.device(device)
    scores = score_buffer(task, len(inputs), device)
    sums = evaluation_sums(
        model, inputs.to(device), targets.to(device), preprocess, batch, autocast, scores=scores, task=task,
        ranks=ranks,
    )  # fmt: skip
    result = evaluation_from_sums(task, sums.tolist(), len(inputs))
    return result if scores is None else attrs.evolve(result, scores=scores.cpu())


def score_buffer(task: Task, count: int, device: torch.device) -> Tensor | None:
    """Memory for the scores of `count` images, which an evaluation fills; None if the task has no scores."""
    return None if task.score_dtype is None else torch.zeros(count, dtype=task.score_dtype, device=device)


def evaluation_sums(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    preprocess: Preprocess,
    batch: int,
    autocast: torch.dtype | None,
    num_networks: int | None = None,
    scores: Tensor | None = None,
    task: Task = CLASSIFY,
    ranks: Ranks | None = None,
) -> Tensor:
    """The task's sums over a set of inputs, float64 [m], on the device of `inputs`.

    The model is evaluated in eval mode and put back into the mode that it was in. num_networks: the number K of
    networks that the model stacks, with outputs [B, K, …]; the sums are then [m, K]. scores: [N] or [N, K], filled with
    the score of each input. ranks: processes that have the same network, and share the inputs; all of them get the sums
    and scores. Each computes all of them unless `shares_tests`.

    batch: the number of inputs that the network takes at once; fewer if every pixel of them has outputs.
    Raises TickdslError if the task keeps outputs, and these take too much memory.
    """
    if ranks is None or not shares_tests(task) or len(inputs) < ranks.size:
        return _sums(model, inputs, targets, preprocess, batch, autocast, num_networks, scores, task)
    parts = cut(len(inputs), ranks.size)
    first, last = parts[ranks.rank]
    own_scores = None if scores is None else scores[first:last]
    sums = _sums(
        model, take(inputs, slice(first, last)), targets[first:last], preprocess, batch, autocast, num_networks,
        own_scores, task,
    )  # fmt: skip
    ranks.add_up([sums])
    if scores is not None and own_scores is not None:
        scores.copy_(ranks.gather_rows(own_scores, [stop - start for start, stop in parts]))
    return sums


def shares_tests(task: Task) -> bool:
    """Whether processes can share a test: its sums are those of its parts added up.

    They cannot if the task needs all outputs at once, if its networks draw in tests, or if it is one's own, whose loss
    may depend on what is in a batch.
    """
    return is_builtin(task) and not task.keeps_outputs and not task.draws_in_tests


def _sums(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    preprocess: Preprocess,
    batch: int,
    autocast: torch.dtype | None,
    num_networks: int | None,
    scores: Tensor | None,
    task: Task,
) -> Tensor:
    """`evaluation_sums` in this process alone."""
    was_training = model.training
    model.eval()
    batch = task.evaluation_batch(inputs, batch)
    judge, score = (task.sums, task.scores) if num_networks is None else (task.sums_stacked, task.scores_stacked)
    batch_sums: list[Tensor] = []
    kept: list[Outputs] = []
    try:
        with (
            torch.no_grad(),
            same_noise(task, inputs.device),
            torch.autocast(inputs.device.type, dtype=autocast, enabled=autocast is not None),
        ):
            for first, part in zip(range(0, len(inputs), batch), batches(inputs, batch), strict=True):
                outputs = as_float32(run_network(model, preprocess(part)))
                batch_targets = targets[first : first + batch]
                if task.keeps_outputs:
                    _require_memory(task, outputs, len(batch_targets), len(inputs))
                    kept.append(outputs)
                else:
                    batch_sums.append(judge(outputs, batch_targets))
                if scores is not None and (batch_scores := score(outputs, batch_targets)) is not None:
                    scores[first : first + batch] = batch_scores
            if kept:
                batch_sums.append(judge(tree_map(lambda *parts: torch.cat(parts), *kept), targets))
    finally:
        model.train(was_training)
    total = batch_sums[0]
    for sums in batch_sums[1:]:
        total = total + sums
    return total


def _require_memory(task: Task, outputs: Outputs, batch: int, count: int) -> None:
    """Raise TickdslError if the outputs for `count` inputs take more than MAX_KEPT_BYTES, judged by a batch of them."""
    size = sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
    if size * count > MAX_KEPT_BYTES * batch:
        raise TickdslError(
            f"the outputs for {count:,} test inputs take {size * count / batch / 2**30:.1f} GiB, and the task"
            f" `{task.name}` needs all of them at once, at most {MAX_KEPT_BYTES / 2**30:g} GiB",
            "use a smaller test set",
        )


@contextmanager
def same_noise(task: Task, device: torch.device) -> Iterator[None]:
    """Let a network that draws in tests draw the same numbers in each, and leave torch's generators as they were."""
    if not task.draws_in_tests:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(NOISE_SEED)
        yield


def evaluation_from_sums(task: Task, sums: Sequence[float], count: int) -> EvaluationResult:
    """The result for the task's sums over `count` images. Raises TickdslError if one of its figures is missing."""
    figures = task.figures(sums, count)
    missing = [name for name in ("loss", *(metric.name for metric in task.metrics)) if name not in figures]
    if missing:
        raise TickdslError(
            f"the figures of the task `{task.name}` lack {missing[0]}", "return its metrics and `loss` from `figures`"
        )
    return EvaluationResult(figures, figures[task.primary.name], count)
