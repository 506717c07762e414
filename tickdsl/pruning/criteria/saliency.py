"""Criteria that score weights by backpropagation, also at initialisation: SNIP, GraSP and SynFlow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.pruning.criteria.backpropagation import (
    ByName,
    add_to,
    batch_losses,
    gradients,
    has_initial_statistics,
    mean_gradients,
    prunable_weights,
    require_scores,
    use_batch_statistics,
)
from tickdsl.pruning.criteria.flow_mode import FlowMode
from tickdsl.pruning.criteria.protocol import Batch, Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.score_aggregation import (
    average_scores,
    block_scores,
    flatten_rows,
    producer_slices,
)
from tickdsl.pruning.criteria.shared_batches import share_batches
from tickdsl.training.catalogue.input_shapes import FLAGS, INTEGERS, InputShape, NamedShapes, is_tokens
from tickdsl.training.named_tensors import NamedTensors, joined_inputs, run_network, tensors_of

#: The sample of SNIP and GraSP: 10 images per class, as in the configurations of GraSP's authors and in Tanaka et al.
#: (2020). SNIP's own code uses 100 images of CIFAR-10.
TEN_PER_CLASS = Sample(per_class=10)


class Saliency(Criterion):
    """A score per weight, from which the scores of larger units follow.

    A filter's score is the sum over its incoming weights (their joint first-order effect), averaged over the coupled
    layers. A layer's score is the mean over its weights; Jordao et al. (2023) take the mean over a block's filters.
    """

    def saliency(self, context: ScoringContext) -> ByName:
        """The scores of convolution and linear weights of the compact network, by name, in their shapes.

        Weights that no gradient reaches are left out.
        """
        raise NotImplementedError

    def weights(self, context: ScoringContext, names: Sequence[str]) -> list[Tensor]:
        scores_by_name = self.saliency(context)
        require_scores(names, scores_by_name, self.name)
        return [scores_by_name[name].cpu().double().flatten() for name in names]

    def channels(self, context: ScoringContext, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        scores_by_name = self.saliency(context)
        producers = [producer_slices(context, group) for group in groups]
        self._require(context, (p.parameter for slices in producers for p in slices), scores_by_name)
        return [
            average_scores(
                context,
                group,
                [(p, flatten_rows(scores_by_name[p.parameter], p.dim).sum(1)) for p in slices],
                self.name,
            )
            for group, slices in zip(groups, producers, strict=True)
        ]

    def layers(self, context: ScoringContext, blocks: Sequence[Block]) -> Tensor:
        scores_by_name = self.saliency(context)
        self._require(context, (name for block in blocks for name in block.parameters), scores_by_name)
        return torch.stack([block_scores(context, block, scores_by_name).mean() for block in blocks])

    def _require(self, context: ScoringContext, parameters: Iterable[str], scores: ByName) -> None:
        """Raise TickdslError if one of the parameters is a convolution or linear weight without a score."""
        weights = dict.fromkeys(name for name in parameters if name in context.graph.weights)
        require_scores(weights, scores, self.name)


class Snip(Saliency):
    """Connection sensitivity |w · dL/dw| (Lee et al. 2019, equation 6), on the loss of one batch, for
    classifiers the cross entropy.

    While batch norm has not seen an image, it uses the batch's statistics; afterwards, its running ones. The code of
    the authors and that of Tanaka et al. (2020) always use the running ones. Those normalise nothing before training,
    so the logits of a deep ResNet grow until the softmax saturates, and few images have a gradient at all. The paper's
    division by the sum of all scores is omitted, since it does not change the order.
    """

    name = "snip"
    units = ("weights", "filters", "neurons", "heads", "head-dims", "layers", "blocks")
    needs = ("data", "gradients")
    shares_batches = True

    def saliency(self, context: ScoringContext) -> ByName:
        module = context.network(context.structure).eval()
        if has_initial_statistics(module):
            use_batch_statistics(module)
        weights = prunable_weights(context, module)
        batches = share_batches(context, context.batches(TEN_PER_CLASS))
        found = mean_gradients(context, module, weights, batches)
        return {name: (weights[name] * gradient).detach().abs() for name, gradient in found.items()}


class Grasp(Saliency):
    """A weight's contribution to the gradient flow, w · Hg (Wang et al. 2020, equation 8).

    The paper scores by -w · Hg and removes the *highest* scores: weights whose removal increases the squared gradient
    norm, or decreases it least. The sign is flipped here, so that high scores are kept, as for all criteria. g and Hg
    are taken from the cross entropy of the logits divided by 200, over convolution and linear weights; outputs that are
    no logits are not divided. Batch norm uses batch statistics, as in the authors' code, here of all images of a batch.
    Unlike in that code, linear layers are not re-initialised for scoring. `GraspHalves` splits the images as
    that code does.
    """

    name = "grasp"
    units = Snip.units
    needs = ("data", "gradients")
    shares_batches = True
    temperature = 200.0

    def batches(self, context: ScoringContext) -> Sequence[Batch]:
        """The batches of images; each has its own batch statistics."""
        return context.batches(TEN_PER_CLASS)

    def saliency(self, context: ScoringContext) -> ByName:
        module = use_batch_statistics(context.network(context.structure))
        weights = prunable_weights(context, module)
        batches = share_batches(context, self.batches(context))
        # Other implementations of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            temperature = self.temperature if context.logits else 1.0
            mean = mean_gradients(context, module, weights, batches, temperature)
            products: ByName = {name: torch.zeros_like(weights[name]) for name in mean}
            for loss in batch_losses(context, module, batches, temperature):
                flow = gradients(loss, weights, create_graph=True)
                add_to(products, _second_derivatives(mean, flow, weights))
        products = batches.add_up_by_name(products)
        return {name: (weights[name] * product).detach() for name, product in products.items()}


class GraspHalves(Grasp):
    """GraSP with the images of the authors' code: sorted by class, and halved.

    Each half holds half of the classes, and is normalised by its own batch statistics. See `pruner/GraSP.py` in
    github.com/alecwangcq/GraSP.
    """

    name = "grasp-halves"

    def batches(self, context: ScoringContext) -> Sequence[Batch]:
        drawn = super().batches(context)
        if not context.logits or any(labels.dim() != 1 for _, labels in drawn):
            raise TickdslError("`by grasp-halves` halves the classes, but the data have none", "use `by grasp`")
        images, labels = joined_inputs([images for images, _ in drawn]), torch.cat([labels for _, labels in drawn])
        order = labels.argsort(stable=True)
        half = len(order) // 2
        return [(images[part], labels[part]) for part in (order[:half], order[half:]) if len(part)]


def _second_derivatives(mean: ByName, flow: ByName, weights: ByName) -> ByName:
    """The gradients of the product of the mean gradient and a batch's gradient."""
    dots = [(mean[name] * gradient).sum() for name, gradient in flow.items()]
    if not dots:
        return {}
    try:
        return gradients(torch.stack(dots).sum(), weights)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TickdslError(
            f"`by grasp` needs second derivatives, which an operator of the network does not have: {error}",
            "use `by snip` or `by synflow`",
        ) from error


class SynFlow(Saliency):
    """Synaptic flow |w · dR/dw|, where R is the sum of the outputs for an input of ones (Tanaka et al. 2020, alg. 1).

    Tokens have no ones: every embedding of them gives the sum of all its rows, as for an input that is one in each
    place of the vocabulary.
    All parameters and buffers are replaced by their absolute values, and batch norm uses its running statistics,
    including the running means, as in the authors' code. Before training, batch norm is then a constant factor and the
    total flow of all layers is equal, so no layer is emptied before the others. Use it in many rounds: `to 95% x 100`.
    Computed in float64, since the flow grows with each layer. A network with several outputs is scored by the sum of
    all. Noise that it draws counts as an input, so it is replaced by ones, and a generator's tanh, which the flow would
    saturate, is left out.
    """

    name = "synflow"
    units = ("weights", "filters", "neurons", "heads", "head-dims")
    needs = ("network",)

    def saliency(self, context: ScoringContext) -> ByName:
        module = context.network(context.structure).double().eval()
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():  # others are indices, counts or masks
                    tensor.abs_()
        weights = prunable_weights(context, module)
        device = next(iter(weights.values())).device
        try:
            with FlowMode(open_tanh=bool(context.phases)):
                flow = _flow(module, context.shape, device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise TickdslError(
                f"`by synflow` runs the network in float64, which its code does not accept: {error}",
                "let the network's code use the dtype of its inputs, or use another criterion",
            ) from error
        found = gradients(flow, weights)
        return {name: (weights[name] * gradient).detach().abs() for name, gradient in found.items()}


def _flow(module: nn.Module, shape: InputShape, device: torch.device) -> Tensor:
    """The sum of a network's outputs for an input of ones; for tokens, with the sum of all rows of their embeddings."""
    inputs = _ones(shape, device)
    tokens = [tensor for tensor in tensors_of(inputs) if tensor.dtype == torch.long]
    if not tokens:
        return _sum_of_outputs(run_network(module, inputs))
    found: list[str] = []

    def sum_of_rows(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not args or all(args[0] is not each for each in tokens):
            return None  # an embedding of something else, such as of positions
        found.append("tokens")
        assert isinstance(layer, nn.Embedding)
        return layer.weight.sum(0).expand_as(output)

    with ExitStack() as stack:
        for layer in module.modules():
            if isinstance(layer, nn.Embedding):
                stack.callback(layer.register_forward_hook(sum_of_rows).remove)
        total = _sum_of_outputs(run_network(module, inputs))
    if not found and not isinstance(shape, NamedShapes):
        raise TickdslError(
            "`by synflow` replaces the embedding of the tokens, but no `nn.Embedding` of the network reads them",
            "embed the network's inputs by `nn.Embedding`, or use another criterion",
        )
    return total


def _ones(shape: InputShape, device: torch.device) -> Any:
    """An input of ones, float64; tokens are 1 too, and flags are set."""
    if isinstance(shape, NamedShapes):
        return NamedTensors(
            {
                known.name: torch.ones(1, *known.sizes, dtype=torch.bool, device=device)
                if known.kind == FLAGS
                else _ones(known.shape, device)
                if known.kind == INTEGERS and len(known.sizes) == 1
                else torch.ones(
                    1, *known.sizes, dtype=torch.long if known.kind == INTEGERS else torch.float64, device=device
                )
                for known in shape.inputs
            }
        )
    if is_tokens(shape):
        return torch.ones(1, shape[0], dtype=torch.long, device=device).clamp_max(shape[1] - 1)
    return torch.ones(1, *shape, dtype=torch.float64, device=device)


def _sum_of_outputs(outputs: Any) -> Tensor:
    """The sum of all tensors that a network returns."""
    return torch.stack([leaf.sum() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]).sum()
