"""Whether a plan asks for what the tasks of its models and data sets have; found before anything runs.

`check` reports these findings. A task that the catalogue names is known without torch and without the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tickdsl.engine.graph_cache import image_shape_and_classes, task_of
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.lang.vocabulary import DROP, METRICS, is_test_result
from tickdsl.lang.writing.unparse import condition as condition_text
from tickdsl.plan.model import Arm, Condition, Data, Distill, Model, Options, Plan, Retrain
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.step_builder import TaskOf
from tickdsl.plan.steps import TASKS_WITH_FEATURES
from tickdsl.plugins import is_plugin
from tickdsl.plurals import plural
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens, no_augmented_image
from tickdsl.training.catalogue.models import VECTOR_TASKS
from tickdsl.training.catalogue.tasks import TASK_INFOS, TaskInfo
from tickdsl.training.recipes.losses import LOSSES, builtin_loss

#: Examples of models that a message names.
_MAX_MODELS = 4
#: Tasks that judge by the features of a classifier, which is trained on the labels of the same images.
_JUDGED_BY_CLASSES = ("generate",)
#: Tasks whose losses weigh classes or labels.
_WITH_CLASS_WEIGHTS = ("classify", "segment", "tag")


@attrs.frozen
class DataKnowledge:
    """What is known of a data set: the task that a model learns from it, the shape of its inputs, and its classes.

    classes: the number of classes or labels, to be asked for only if the task has them.

    Each function returns None for what is known only after reading the data.
    """

    task: Callable[[Model, Data], TaskInfo | None]
    shape: Callable[[Data], InputShape | None]
    classes: Callable[[Data], int | None] = lambda data: None

    @classmethod
    def from_catalogue(cls) -> DataKnowledge:
        """What the catalogue says; torch is not loaded."""
        return cls(
            _catalogue_task,
            lambda data: catalogue.DATASETS[data.name].shape,
            lambda data: catalogue.known_classes(data.name, data.options),
        )

    @classmethod
    def from_data(cls, root: Path) -> DataKnowledge:
        """All of it: data sets are read, and plug-ins imported. The functions raise TickdslError if that fails."""
        return cls(
            lambda model, data: task_info(task_of(model, data, root)),
            lambda data: image_shape_and_classes(data, root)[0],
            lambda data: image_shape_and_classes(data, root)[1],
        )


def task_info(name: str) -> TaskInfo:
    """What plans can ask of a task. Raises TickdslError if there is none of this name, or a plug-in is no task."""
    if name in TASK_INFOS:
        return TASK_INFOS[name]
    from tickdsl.training.tasks import TASKS, Task, find_task

    task = find_task(name)
    try:
        task.bind(label_smoothing=0.1)
        has_label_smoothing = True
    except TickdslError:
        has_label_smoothing = False
    return TaskInfo(
        name,
        task.metrics,
        task.has_classes,
        label_smoothing=has_label_smoothing,
        temperature=type(task).soften is not Task.soften,
        parts_in_turn=bool(task.phases),
        probabilities=task.takes_probabilities,
        averages=type(task).average is not Task.average,
        alike=tuple(known for known, builtin in TASKS.items() if isinstance(task, type(builtin))),
    )


def require_fit(plan: Plan, task_of: TaskOf) -> None:
    """Raise TickdslError if an arm, a condition or a metric of the plan does not fit the task of its data."""
    knowledge = DataKnowledge(
        lambda model, data: task_info(task_of(model, data)), lambda data: catalogue.DATASETS[data.name].shape
    )
    arms = (finding for arm in (*plan.arms, *plan.helpers) for finding in arm_findings(arm, knowledge))
    for finding in (*arms, *plan_findings(plan, knowledge)):
        if finding.severity == "error":
            raise TickdslError(finding.message, finding.help or "")


def arm_findings(arm: Arm, known: DataKnowledge) -> Iterator[Diagnostic]:
    """Yield findings about an arm and the task of its data."""
    several = list(_check_several_inputs(arm, arm.data, known.shape(arm.data)))
    if several:
        yield from several
        return
    misfit = model_misfit(arm.model, arm.data, known)
    if misfit is not None:
        yield misfit
        return
    task = known.task(arm.model, arm.data)
    if task is not None:
        yield from _check_arm(arm, task, known)
    if arm.transfer is None:
        return
    misfit = model_misfit(arm.model, arm.transfer.data, known)
    if misfit is not None:
        yield attrs.evolve(misfit, span=arm.transfer.data.span, secondary=(Label(arm.model.span, "the network"),))
        return
    other = known.task(arm.model, arm.transfer.data)
    if other is not None:
        for tail in arm.transfer.tail:
            if isinstance(tail, Retrain):
                yield from _check_recipe(tail.recipe, other, arm.transfer.data, known, tail.span)
        if task is not None and arm.transfer.head == "keep" and task.name != other.name:
            yield Diagnostic(
                "TD478",
                f"the outputs of {arm.data.name} are those of the task {task.name}, which {arm.transfer.data.name} "
                f"does not have: its task is {other.name}",
                arm.transfer.span,
                help="use `head=reset`",
            )


def plan_findings(plan: Plan, known: DataKnowledge) -> Iterator[Diagnostic]:
    """Yield findings about the questions of a plan and the tasks of its arms."""
    yield from _check_report(plan, known)
    for arm in (*plan.arms, *plan.helpers):
        data = arm.data if arm.transfer is None else arm.transfer.data
        task, shape = known.task(arm.model, data), known.shape(data)
        if task is None:
            continue
        for stop in plan.stops:
            yield from _check_condition(stop, task, data)
        if "ensemble" in plan.metrics and not task.averages:
            yield Diagnostic(
                "TD480",
                f"`report ensemble` averages the outputs of networks, but the task of {data.name} is {task.name}, "
                "whose outputs have no average",
                plan.report_span or data.span,
                secondary=(Label(data.span, "the data"),),
                help="remove `ensemble`",
            )
        if "robustness" in plan.metrics:
            reason = f"its task is {task.name}" if not task.has_classes else ""
            if isinstance(shape, NamedShapes):
                reason = "it has several inputs"
            reason = reason or ("its inputs are tokens" if shape is not None and is_tokens(shape) else "")
            if reason:
                yield Diagnostic(
                    "TD476",
                    f"`report robustness` measures classifiers of images, but {data.name} is other data: {reason}",
                    plan.report_span or data.span,
                    secondary=(Label(data.span, "the data"),),
                    help="remove `robustness`",
                )


def _catalogue_task(model: Model, data: Data) -> TaskInfo | None:
    name = catalogue.MODELS[model.name].task or catalogue.DATASETS[data.name].task
    return TASK_INFOS.get(name) if name is not None else None


def model_misfit(model: Model, data: Data, known: DataKnowledge) -> Diagnostic | None:
    """The finding about a model that does not take the inputs of a data set, or is not made for its task."""
    info, shape, task = catalogue.MODELS[model.name], known.shape(data), known.task(model, data)
    if isinstance(shape, NamedShapes) or data.options.get("inputs"):
        return _several_inputs_misfit(model, data, shape)
    inputs = None if shape is None else "tokens" if is_tokens(shape) else "images"
    if inputs is None and catalogue.noun(data.name) == "sample":
        inputs = "tokens"  # texts, whose length and vocabulary are known after reading them
    labelled = catalogue.DATASETS[data.name].task in (None, "classify")
    problem = None
    if inputs is not None and info.inputs not in (inputs, "any"):
        problem = f"{model.name} takes {info.inputs}, but the inputs of {data.name} are {inputs}"
    elif task is not None and not info.task and info.tasks and task.alike and not set(task.alike) & set(info.tasks):
        problem = f"{model.name} is made for {join_or(info.tasks, 8)}, but the task of {data.name} is {task.name}"
    elif info.task in _JUDGED_BY_CLASSES and not labelled:
        problem = f"{model.name} is judged by a classifier of the same images, but {data.name} has no classes"
    if problem is None:
        return None
    fitting = [
        other.name
        for other in catalogue.MODELS.builtin.values()
        if other.is_builtin
        and other.inputs in (inputs, "any")
        and (labelled or other.task not in _JUDGED_BY_CLASSES)
        and (task is None or bool(other.task) or set(task.alike) & set(other.tasks))
    ]
    suitable = f"any {info.inputs}" if info.task else f"{join_or(info.tasks or ('any task',), 8)} on {info.inputs}"
    models = f"use other data, or a model for this data: {join_or(fitting, _MAX_MODELS)}" if fitting else ""
    return Diagnostic(
        "TD472",
        problem,
        model.span,
        secondary=(Label(data.span, "the data"),),
        help=_vocabulary_help(info, data, inputs) or models or f"use data for {model.name}: {suitable}",
    )


def _several_inputs_misfit(model: Model, data: Data, shape: InputShape | None) -> Diagnostic | None:
    """The finding about a model that takes one input only, if the data have several."""
    if catalogue.MODELS[model.name].takes_several_inputs:
        return None
    names = ", ".join(shape if isinstance(shape, NamedShapes) else data.options["inputs"])
    return Diagnostic(
        "TD443",
        f"{model.name} takes one input, but {data.name} has several: {names}",
        model.span,
        secondary=(Label(data.span, "the data"),),
        help="use a network of your own whose `forward` takes them by keyword, or one of hf",
    )


def _vocabulary_help(info: catalogue.ModelInfo, data: Data, inputs: str | None) -> str:
    """How arrays of integers become tokens; empty if the data or the model have none."""
    if info.inputs != "tokens" or inputs != "images" or data.name != "arrays":
        return ""
    return "if the arrays are tokens, set `vocabulary=` to how many there are, or use a model for images"


def _check_report(plan: Plan, known: DataKnowledge) -> Iterator[Diagnostic]:
    """Yield findings about metrics of `report` that no arm's task has."""
    tasks = {arm.judged_on.name: known.task(arm.model, arm.judged_on) for arm in plan.arms}
    if not tasks or None in tasks.values():
        return
    names = dict.fromkeys(name for task in tasks.values() if task is not None for name in task.metric_names)
    for metric in plan.metrics:
        if metric not in (*METRICS, *names) and not is_plugin("metric", metric):
            of_data = "; ".join(
                f"the task of {data} is {task.name}" for data, task in tasks.items() if task is not None
            )
            yield Diagnostic(
                "TD473",
                f"`report {metric}`: no arm has {metric}: {of_data}",
                plan.report_span or plan.arms[0].span,
                label=did_you_mean(metric, [*names, *METRICS]) or "",
                help=f"use {join_or([*names], 8)}, or remove it",
            )


def _check_arm(arm: Arm, task: TaskInfo, known: DataKnowledge) -> Iterator[Diagnostic]:
    data = arm.data
    yield from _check_recipe(arm.recipe, task, data, known, arm.recipe_span, arm.recipe_places)
    if arm.fork is not None:
        yield from _check_recipe(arm.fork.recipe, task, data, known, arm.fork.recipe_span, arm.fork.recipe_places)
    shape = known.shape(data)
    if shape is not None and is_tokens(shape):
        yield from _check_token_recipe(arm.recipe, task, data, arm.recipe_span, arm.recipe_places)
        for group in arm.distinct_rounds.values():
            for tail in group.tail:
                if isinstance(tail, Retrain):
                    own = {name: value for name, value in tail.recipe.items() if value != arm.recipe.get(name)}
                    yield from _check_token_recipe(own, task, data, tail.span)
    if arm.split is not None and arm.split.by == "classes" and not task.has_classes:
        yield Diagnostic(
            "TD475",
            f"`split classes`: {data.name} has no classes, its task is {task.name}",
            arm.split.span,
            secondary=(Label(data.span, "the data"),),
            help="use `split samples`",
        )
    measured = data if arm.transfer is None else arm.transfer.data
    tested = known.task(arm.model, measured)
    for group in arm.distinct_rounds.values():
        if group.prune.ends is not None and tested is not None:
            yield from _check_condition(group.prune.ends, tested, measured)
        if group.prune.by == "grasp-halves" and not task.has_classes:
            yield Diagnostic(
                "TD477",
                f"`by grasp-halves` halves the classes, but {data.name} has none: its task is {task.name}",
                group.prune.by_span or group.prune.span,
                secondary=(Label(data.span, "the data"),),
                help="use `by grasp`",
            )
        if group.prune.scope == SEARCHED and task.name in TASKS_WITH_FEATURES:
            yield Diagnostic(
                "TD458",
                f"`{SEARCHED}` cannot compare networks of the task {task.name}: they are judged in the features of a "
                "classifier, which an evaluation does not have",
                group.prune.span,
                secondary=(Label(data.span, "the data"),),
                help="use the scope `local` or `global`",
            )
        for tail in group.tail:
            if isinstance(tail, Retrain):
                yield from _check_recipe(tail.recipe, task, data, known, tail.span)
            if isinstance(tail, Distill):
                yield from _check_distillation(tail, task)


def _check_several_inputs(arm: Arm, data: Data, shape: InputShape | None) -> Iterator[Diagnostic]:
    """Check that nothing is asked for that only single inputs have."""
    if not data.options.get("inputs") and not isinstance(shape, NamedShapes):
        return
    if data.options.get("vocabulary"):
        problem = "`vocabulary=` is for tokens as the only input; the values of several inputs are counted"
        yield Diagnostic("TD445", problem, data.span, help="remove `vocabulary=`")
    retrainings = [
        (tail.recipe, tail.span, None)
        for group in arm.distinct_rounds.values()
        for tail in group.tail
        if isinstance(tail, Retrain) and tail.recipe != arm.recipe
    ]
    for recipe, span, places in ((arm.recipe, arm.recipe_span, arm.recipe_places), *retrainings):
        for name in ("mixup", "cutmix"):
            if recipe.get(name):
                problem = f"`{name}=` mixes images of a single input, but {data.name} has several inputs"
                yield _unfit_option(name, problem, f"remove `{name}=`", data, span, places, "TD445")
        if recipe.get("resize_from"):
            problem = f"`resize-from=` resizes images of a single input, but {data.name} has several inputs"
            yield _unfit_option("resize_from", problem, "remove `resize-from=`", data, span, places, "TD445")
        if recipe.get("augment") and isinstance(shape, NamedShapes) and shape.augmented is None:
            problem, help = no_augmented_image(shape)
            yield _unfit_option("augment", problem, help, data, span, places, "TD445")


def _check_recipe(
    recipe: Options, task: TaskInfo, data: Data, known: DataKnowledge, span: object, places: object = None
) -> Iterator[Diagnostic]:
    smoothing = float(recipe.get("label_smoothing", 0) or 0)
    if smoothing and not task.label_smoothing:
        problem = f"label-smoothing={smoothing:g}: the loss of the task {task.name} has none"
        yield _unfit_option("label_smoothing", problem, "remove `label-smoothing=`", data, span, places)
    for name in ("mixup", "cutmix"):
        if recipe.get(name) and not task.probabilities:
            problem = f"`{name}=` mixes images of classes, but the task of {data.name} is {task.name}"
            yield _unfit_option(name, problem, f"remove `{name}=`", data, span, places)
    if recipe.get("resize_from") and task.alike and not set(task.alike) & set(VECTOR_TASKS):
        problem = f"`resize-from=` resizes images, but not the targets of the task {task.name}"
        yield _unfit_option("resize_from", problem, "remove `resize-from=`", data, span, places)
    yield from _check_loss(recipe, task, data, span, places)
    yield from _check_classes(recipe, task, data, known, span, places)
    accumulate = int(recipe.get("accumulate", 1) or 1)
    if accumulate > 1 and task.parts_in_turn:
        problem = (
            f"accumulate={accumulate}: the task {task.name} trains parts of the network in turn, "
            "each on the whole batch"
        )
        help = "remove `accumulate=`, or use a smaller `batch=`"
        yield _unfit_option("accumulate", problem, help, data, span, places)


def _check_loss(recipe: Options, task: TaskInfo, data: Data, span: object, places: object) -> Iterator[Diagnostic]:
    """Check the loss, the weights of classes and the sampling of a recipe."""
    text, subject = recipe.get("loss"), f"the task of {data.name} is {task.name}"
    info = builtin_loss(text)
    fitting = [name for name, known in LOSSES.builtin.items() if set(known.tasks) & set(task.alike)]
    if text is not None and task.parts_in_turn:
        problem = f"loss={text}: the task {task.name} trains parts of the network in turn, by losses of its own"
        yield _unfit_option("loss", problem, "remove `loss=`", data, span, places)
    elif info is not None and not set(info.tasks) & set(task.alike):
        problem = f"loss={text} is for {join_or(info.tasks, 8)}, but {subject}"
        help = f"use {join_or(fitting, 8)}, or remove `loss=`" if fitting else "remove `loss=`"
        yield _unfit_option("loss", problem, help, data, span, places)


def _check_classes(
    recipe: Options, task: TaskInfo, data: Data, known: DataKnowledge, span: object, places: object
) -> Iterator[Diagnostic]:
    """Check the weights of classes and the sampling of a recipe."""
    subject, weights = f"the task of {data.name} is {task.name}", recipe.get("class_weights", ())
    balanced = recipe.get("sampling", "uniform") == "balanced"
    if balanced and not task.has_classes:
        problem = f"`sampling=balanced` draws classes alike, but {subject}"
        yield _unfit_option("sampling", problem, "remove `sampling=`", data, span, places)
    if weights and not set(task.alike) & set(_WITH_CLASS_WEIGHTS):
        problem = f"`class-weights=` weighs classes or labels, but {subject}"
        yield _unfit_option("class_weights", problem, "remove `class-weights=`", data, span, places)
    elif weights == "balanced" and balanced:
        problem = "`class-weights=balanced` and `sampling=balanced` both make up for rare classes: they count twice"
        anywhere = attrs.evolve(data, span=None)
        yield _unfit_option("sampling", problem, "remove one of them", anywhere, span, places, "TD467")
    elif weights and weights != "balanced":
        classes = known.classes(data)
        if classes is not None and classes != len(weights):
            noun = "label" if "tag" in task.alike else "class"
            problem = (
                f"`class-weights=` has {plural(len(weights), 'weight')}, but {data.name} has {plural(classes, noun)}"
            )
            help = "give one for each, in their order, or write `class-weights=balanced`"
            yield _unfit_option("class_weights", problem, help, data, span, places, "TD468")


def _check_token_recipe(
    recipe: Options, task: TaskInfo, data: Data, span: object, places: object = None
) -> Iterator[Diagnostic]:
    """Check that a recipe for tokens has no option for images; of a loss that cannot mix, `_check_recipe` tells."""
    for name, does in (("augment", "changes"), ("resize_from", "resizes"), ("mixup", "mixes"), ("cutmix", "mixes")):
        if recipe.get(name) and (name not in ("mixup", "cutmix") or task.probabilities):
            option = name.replace("_", "-")
            problem = f"`{option}=` {does} images, but the inputs of {data.name} are tokens"
            yield _unfit_option(name, problem, f"remove `{option}=`", data, span, places)


def _unfit_option(
    name: str, problem: str, help: str, data: Data, span: object, places: object, code: str = "TD474"
) -> Diagnostic:
    """A finding about an option of a recipe: at its place if that is known, else at the recipe."""
    place = places.get(name) if isinstance(places, dict) else None
    labels = () if data.span is None else (Label(data.span, "the data"),)
    if place is None:
        return Diagnostic(code, problem, span, secondary=labels, help=help)  # type: ignore[arg-type]
    return Diagnostic(code, problem, place.span, secondary=(*place.references, *labels), help=help)


def _check_distillation(distill: Distill, task: TaskInfo) -> Iterator[Diagnostic]:
    if distill.temperature_span is not None and not task.temperature and not task.parts_in_turn:  # TD490 then
        yield Diagnostic(
            "TD479",
            f"`temperature=` has no effect: the outputs of the task {task.name} are not softened",
            distill.temperature_span,
            help="remove it",
        )


def _check_condition(condition: Condition, task: TaskInfo, data: Data) -> Iterator[Diagnostic]:
    if condition.metric == DROP:
        yield from _check_drop(condition, task)
        return
    if not is_test_result(condition.metric):
        return
    written, metric = condition_text(condition), task.metric(condition.metric)
    if condition.metric not in task.metric_names:
        names = task.metric_names
        suggestion = did_you_mean(condition.metric, names)
        yield Diagnostic(
            "TD473",
            f"{data.name} has no {condition.metric}: its task is {task.name}, judged by {task.metrics[0].name}",
            condition.span or data.span,
            label=suggestion or "",
            secondary=(Label(data.span, "the data"),) if data.span is not None else (),
            help=f"use {join_or([*names, DROP], 8)}, or a size: `sparsity`, `params` or `flops`",
        )
    elif condition.percentage and (metric is None or metric.unit != "share"):
        in_unit = f" in {metric.unit}" if metric is not None and metric.unit else ""
        yield Diagnostic(
            "TD473",
            f"`{written}`: {condition.metric} is no share, so it has no percentage",
            condition.span or data.span,
            help=f"use a number{in_unit}",
        )
    elif metric is not None and metric.unit == "share" and not 0 <= condition.bound <= 1:
        yield Diagnostic(
            "TD473",
            f"`{written}`: {condition.metric} is a share, from 0% to 100%",
            condition.span or data.span,
            help="use a percentage",
        )


def _check_drop(condition: Condition, task: TaskInfo) -> Iterator[Diagnostic]:
    """Check that a condition on the drop has the unit of the primary metric."""
    primary, written = task.metrics[0], condition_text(condition)
    if primary.unit == "share" and not condition.percentage:
        problem = f"`{written}`: the {primary.name} is a percentage, so its drop is in points"
        help = f"use e.g. `drop {condition.comparison} 1%` for one point"
    elif primary.unit != "share" and condition.percentage:
        in_unit = f" in {primary.unit}" if primary.unit else ""
        problem = f"`{written}`: the {primary.name} is no percentage"
        help = f"use a number{in_unit}, e.g. `drop {condition.comparison} 0.5`"
    else:
        return
    yield Diagnostic("TD439", problem, condition.span, help=help)
