"""Run a step: one function per operation. A step reads the results of its parents from the store and adds its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.machine.precision import precision_of
from tickdsl.engine.run_masks import load_mask
from tickdsl.engine.steps import alignment, changed_weights, judging_features, measurements, similarity, trainings
from tickdsl.engine.steps.context import Context, Metrics, required_seed
from tickdsl.engine.steps.early_bird import prune_when_settled
from tickdsl.engine.steps.elastic_layers import carried_from, with_own_layers
from tickdsl.engine.steps.fixed_noise import fixed_noise
from tickdsl.engine.steps.initial_weights import verify_weights
from tickdsl.engine.steps.latency_targets import latency_metrics, latency_of_target, with_latency
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.engine.steps.pruning_in_steps import prune_in_steps
from tickdsl.engine.steps.result_files import STRUCTURE, save_data_description, save_weights
from tickdsl.engine.steps.samples import save_samples
from tickdsl.engine.steps.scoring_context import make_scoring_context, scoring_of_prune
from tickdsl.engine.steps.search import evaluate_candidate, search_and_prune
from tickdsl.engine.steps.tested_images import evaluate_on, judged_images, result_figures
from tickdsl.engine.steps.ticket_start import starts_from_ticket, ticket_structure, ticket_weights
from tickdsl.graph.indexing import fan_in_shares, removed_parameters
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, full_state_dict, slice_state_dict
from tickdsl.plan.plugin_code import verify_plugin_code
from tickdsl.plan.search_steps import is_search
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria.protocol import Sample, masked_state
from tickdsl.pruning.elastic_structure import carry_structure
from tickdsl.pruning.elastic_weights import carry_weights
from tickdsl.pruning.equal_cost import equal_cost_structure
from tickdsl.pruning.growth import GRADIENT_BATCH, GRADIENT_IMAGES, grow_weights
from tickdsl.pruning.overlap import overlap
from tickdsl.pruning.random_structure import random_structure
from tickdsl.pruning.refill import SALIENCY_BATCH, SALIENCY_IMAGES, refill_filters
from tickdsl.pruning.regroup import regroup_masks
from tickdsl.pruning.rounds import prune
from tickdsl.training.batch_statistics import STATISTICS_BATCH, STATISTICS_IMAGES, recompute_statistics
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.devices import autocast_type, float32_format
from tickdsl.training.models import classifier_path, create, reinitialise
from tickdsl.training.models.fresh_weights import scale_to_fan_in
from tickdsl.training.models.initialiser_record import InitialisationRecorder
from tickdsl.training.rng import generator, stream_seed

Operation = Callable[[Step, Context, Path, Mapping[str, Step]], Metrics]


def run_step(step: Step, context: Context, prefixes: Mapping[str, Step]) -> Metrics:
    """Run a step, store its result and return its metrics.

    `prefixes` ({moment: step}) are rewind points whose results a training stores on its way. Raises TickdslError if the
    step cannot run or the code of a plug-in has changed, Stopped if the run was stopped.
    """
    start_time = time.monotonic()
    verify_plugin_code(step.args)
    operation = _OPERATIONS[step.operation]
    with float32_format(precision_of(step), context.device):
        return context.store_result(step, lambda folder: operation(step, context, folder, prefixes), start_time)


def follow_step(step: Step, context: Context) -> None:
    """Run a step together with the process that stores its result; what this one would store is thrown away."""
    verify_plugin_code(step.args)
    with float32_format(precision_of(step), context.device), tempfile.TemporaryDirectory() as folder:
        _OPERATIONS[step.operation](step, context, Path(folder), {})


def _init(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Initial weights, by role.

    `init`: those of the dense network. `random-init`: fresh ones, drawn for the pruned network as it is.
    `random-structure`: slices of the dense network's, scaled to the remaining fan-in unless they are pretrained.
    `head`: slices of the dense network's, never pretrained, with a classifier drawn for the inputs that are left.
    """
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    role = step.args.get("role", "init")
    model, seed = step.args["model"], required_seed(step)
    is_fresh = role == "random-init"
    # Only the network that is pruned starts from pretrained weights; the controls and new heads start from fresh ones.
    options = architecture_options(model["options"]) if role in ("random-init", "head") else model["options"]
    if starts_from_ticket(options):
        save_weights(folder, _weights_of_ticket(step, network, structure))
        return {}
    recorder = InitialisationRecorder()
    with nullcontext() if role == "init" else recorder:
        dense = create(
            model["name"],
            classes=network.classes,
            shape=network.shape,
            seed=stream_seed(seed, role) if is_fresh else seed,
            options=options,
        )
    if "weights" in options and "fingerprint" in model:
        verify_weights(model, dense, lambda message: context.hooks.step_warning(step.key, message))
    origins = recorder.origins(dense)
    module = compact(dense, network.graph, structure)
    shares = fan_in_shares(network.graph, structure)
    if is_fresh:
        reinitialise(module, seed=seed, role=role, name=model["name"], origins=origins, fan_in_shares=shares)
    elif role == "random-structure":
        scale_to_fan_in(
            dict(module.named_parameters()), {name: s for name, s in shares.items() if origins[name].is_random}
        )
    elif role == "head" and any(name.startswith(f"{classifier_path(module)}.") for name in shares):
        # Where it keeps all inputs, it stays the dense network's, so that tickets of masks share one initialisation.
        reinitialise(module, seed=seed, role="init", name=model["name"], origins=origins, fan_in_shares=shares)
    save_weights(folder, module.state_dict())
    return {}


def _weights_of_ticket(step: Step, network: DenseNetwork, structure: Structure) -> Mapping[str, Tensor]:
    """The weights of the ticket that the plan starts from; a classifier for other classes has fresh ones, scaled."""
    model = step.args["model"]
    fresh = create(
        model["name"],
        classes=network.classes,
        shape=network.shape,
        seed=required_seed(step),
        options=architecture_options(model["options"]),
    )
    state, fresh_names = ticket_weights(step, network, fresh, structure)
    shares = fan_in_shares(network.graph, structure)
    scale_to_fan_in(state, {name: share for name, share in shares.items() if name in fresh_names})
    return state


def _ticket(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The structure of the ticket that the plan starts from."""
    structure = ticket_structure(step, context, context.dense_network(step))
    return _save_structure(structure, context, step, folder)


def _train(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    return trainings.prepare_training(step, context, prefixes).run(folder)


def _prune(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    if "settles" in step.args:
        settled = prune_when_settled(step, context, network, structure)
        save_weights(folder, settled.weights)
        settling_metrics = {"settled": settled.settled, "epoch": settled.epoch, "distances": settled.distances}
        return {**_save_structure(settled.structure, context, step, folder), **settling_metrics}
    step = with_own_layers(step, context, network)
    matched = context.structure(step.parents["matched"], network.graph) if "matched" in step.parents else None
    if matched is not None and "iterations" in step.args:
        return _save_structure(prune_in_steps(step, context, network, structure, matched), context, step, folder)
    scoring = scoring_of_prune(step, context)
    if is_search(step):
        pruned, search_metrics = search_and_prune(step, context, scoring, matched)
        return {**_save_structure(pruned, context, step, folder), **search_metrics}
    predicted = latency_of_target(step, context, network)
    with fixed_noise(step, context, "prune"):
        pruned = prune(scoring if predicted is None else with_latency(scoring, predicted), step.args, matched)
    latencies = {} if predicted is None else latency_metrics(predicted, context, network, pruned)
    return {**_save_structure(pruned, context, step, folder), **latencies}


def _mask(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The structure of a ticket of a stored run."""
    structure = load_mask(step.args["run"], context.store, context.dense_network(step).graph)
    return _save_structure(structure, context, step, folder)


def _overlap(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    network = context.dense_network(step)
    roles = sorted(step.parents, key=lambda role: int(role.split()[-1]))
    parts = [context.structure(step.parents[role], network.graph) for role in roles]
    return _save_structure(overlap(network.graph, parts, step.args["at_least"]), context, step, folder)


def _refill(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The structure with whole filters in place of single weights."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    state = context.weights(step.parents["weights"], structure, network.graph)
    scoring = make_scoring_context(step, context, network, structure, state)
    sample = Sample(total=SALIENCY_IMAGES, batch=SALIENCY_BATCH)
    batches = scoring.batches(sample) if step.args["by"] == "saliency" else ()
    with fixed_noise(step, context, "refill"):
        refilled = refill_filters(scoring, step.args, batches)
    return _save_structure(refilled, context, step, folder)


def _regroup(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The structure with dense blocks in place of single weights."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    return _save_structure(regroup_masks(network.graph, structure, step.args), context, step, folder)


def _grow(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The structure with pruned weights back in it."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    state = context.weights(step.parents["weights"], structure, network.graph)
    scoring = make_scoring_context(step, context, network, structure, state)
    origin: Mapping[str, Tensor] = {}
    if "origin" in step.parents:
        origin = context.weights(step.parents["origin"], structure, network.graph)
    sample = Sample(total=GRADIENT_IMAGES, batch=GRADIENT_BATCH)
    batches = scoring.batches(sample) if step.args.get("by") == "gradient" else ()
    with fixed_noise(step, context, "grow"):
        grown = grow_weights(scoring, step.args, origin, batches)
    return _save_structure(grown, context, step, folder)


def _random_structure(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    network = context.dense_network(step)
    structure = context.structure(step.parents["structure"], network.graph)
    step = with_own_layers(step, context, network)
    stream = generator(required_seed(step), "random-structure")
    base = context.structure(step.parents.get("base"), network.graph)
    if "match" in step.args:
        drawn = equal_cost_structure(network.graph, structure, stream, step.args["scope"], step.args["match"], base)
        return _save_structure(drawn, context, step, folder)
    in_blocks = step.args.get("form") == "blocks"
    drawn = random_structure(network.graph, structure, stream, step.args.get("layers", ()), base, in_blocks)
    return _save_structure(drawn, context, step, folder)


def _save_structure(structure: Structure, context: Context, step: Step, folder: Path) -> Metrics:
    structure.save(folder / STRUCTURE)
    return structure_metrics(context.dense_network(step).graph, structure)


def _transfer(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights of a network trained on other data, with the classifier of the parent `head`."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    body = context.weights(step.parents["weights"], structure, network.graph)
    head_weights = context.weights(step.parents["head"], structure, network.graph)
    head_path = classifier_path(network.module)
    save_weights(
        folder, {name: head_weights[name] if name.startswith(f"{head_path}.") else body[name] for name in head_weights}
    )
    return {}


def _elastic(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights, or else the structure, of a ticket as a deeper or shallower network of its family."""
    network = context.dense_network(step)
    source, mapping = carried_from(step, context, network, step.args)
    ticket = context.structure(step.parents.get("source"), source.graph)
    if "weights" not in step.parents:
        return _save_structure(carry_structure(ticket, source.graph, network.graph, mapping), context, step, folder)
    structure = context.structure(step.parents.get("structure"), network.graph)
    state = context.weights(step.parents["weights"], ticket, source.graph)
    gone = removed_parameters(network.graph, structure)
    names = [name for name in network.module.state_dict() if name not in gone]
    carried = carry_weights(full_state_dict(source.graph, state, ticket), names, mapping)
    save_weights(folder, slice_state_dict(network.graph, carried, Structure.dense(network.graph), structure))
    return {}


def _recalibrate(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights with statistics of batch norm that are computed anew, on images that the seed selects."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    module = _masked_module(step, context)
    sample = sample_batches(
        context.dataset(step.args["data"], step.seed),
        generator(required_seed(step), "recalibrate"),
        total=STATISTICS_IMAGES,
        batch=STATISTICS_BATCH,
        device=context.device,
    )
    with fixed_noise(step, context, "recalibrate"):
        recompute_statistics(module, (images for images, _ in sample))
    save_weights(folder, module.state_dict())
    return structure_metrics(network.graph, structure)


def _masked_module(step: Step, context: Context) -> nn.Module:
    """The network of a step on its device, with the weights of its parent, masks applied."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    state = context.weights(step.parents["weights"], structure, network.graph)
    return context.module(network, structure, masked_state(network.graph, structure, state)).to(context.device)


def _evaluate(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    data = judging_features.judged_data(step, context)
    module = _masked_module(step, context)
    autocast = autocast_type(step.args.get("precision", "fp32"), context.device)
    result, held_out = evaluate_on(module, data, context.device, autocast, context.ranks)
    if context.follows:
        return {}
    save_weights(folder, module.state_dict())
    save_data_description(folder, data)
    save_samples(folder, module, data, context.device)
    tested = judged_images(result.scores, data.test_targets, module.state_dict(), data.task)
    validation = {} if held_out is None else {"validation": dict(held_out.figures)}
    size = structure_metrics(network.graph, structure)
    return {**result_figures(data.task, result.figures), **validation, **tested, **size}


_OPERATIONS: dict[str, Operation] = {
    "features": judging_features.features,
    "init": _init,
    "train": _train,
    "prune": _prune,
    "overlap": _overlap,
    "refill": _refill,
    "regroup": _regroup,
    "grow": _grow,
    "mix": changed_weights.mix,
    "perturb": changed_weights.perturb,
    "align": alignment.align,
    "mask": _mask,
    "random-structure": _random_structure,
    "ticket": _ticket,
    "recalibrate": _recalibrate,
    "evaluate": _evaluate,
    "candidate": evaluate_candidate,
    "transfer": _transfer,
    "elastic": _elastic,
    "robustness": measurements.robustness,
    "latency": measurements.latency,
    "memory": measurements.memory,
    "barrier": measurements.barrier,
    "ensemble": measurements.ensemble,
    "similarity": similarity.similarity,
    "pruned": measurements.pruned,
    "metric": measurements.plugin_metric,
    "fid": measurements.fid,
}
