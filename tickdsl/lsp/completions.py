"""The words allowed at a position, with their meanings, for completion and hover."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.lang.meaning.settings import ADAM_DEFAULTS, TRAIN_DEFAULTS
from tickdsl.lang.option_schemas import OptionType
from tickdsl.lsp.cursor import CursorContext
from tickdsl.plugins import LIBRARIES, PluginError, Registry
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import is_tokens
from tickdsl.training.catalogue.purposes import data_purpose, fits, model_purpose
from tickdsl.training.catalogue.tasks import TASK_INFOS, TASK_METRICS
from tickdsl.training.recipes.augmentations import AUGMENTATIONS
from tickdsl.training.recipes.losses import LOSSES
from tickdsl.training.recipes.recipe import OPTIMISERS, SCHEDULES

#: Kind of an option -> the names that it takes.
_REGISTRIES: Mapping[str, Registry[Any]] = {
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "optimiser": OPTIMISERS,
    "augmentations": AUGMENTATIONS,
}
#: What `by` takes in statements other than `prune`.
_RANKINGS = {"refill": vocabulary.REFILL_CRITERIA, "grow": vocabulary.GROWTH_CRITERIA}
_NOT_YET = "not supported in this version"


@attrs.frozen
class CompletionEntry:
    """A word to complete.

    kind: the name of an LSP CompletionItemKind. detail: the syntax, in one line. ready: whether this version supports
    the word.
    """

    word: str
    kind: str
    detail: str = ""
    meaning: str = ""
    ready: bool = True

    @property
    def markdown(self) -> str:
        head = f"`{self.detail or self.word}`"
        parts = [head, self.meaning, "" if self.ready else f"*{_NOT_YET}*"]
        return "\n\n".join(part for part in parts if part)


@attrs.frozen
class DefinedNames:
    """The variables and arms that a plan defines: name -> statement text."""

    variables: Mapping[str, str]
    arms: Mapping[str, str]
    #: The model and the data set that the plan names first, if any.
    model: str = ""
    data: str = ""


#: Statement -> the only unit that it works on.
_UNITS = {"evolve": ("weights",), "grow": ("weights",), "refill": ("filters",)}


def complete(context: CursorContext, names: DefinedNames) -> list[CompletionEntry]:
    """The words that the parser accepts at a position."""
    entries: list[CompletionEntry] = []
    used = {token.type for token in context.before} - {"IN", "EXCEPT"}
    if "PRUNE" in context.accepts:
        entries += _statements(context.enclosing)
    else:
        entries += [
            CompletionEntry(word, "Keyword", meaning=meaning)
            for word, meaning in vocabulary.CLAUSE_WORDS.items()
            if word.upper() in context.accepts - used
        ]
        if "_TIMES" in context.accepts - used:
            entries.append(CompletionEntry("x", "Keyword", "x N", "repeat the prune and what follows it N times"))
    for terminal in sorted(context.accepts & vocabulary.CLOSED_WORDS.keys()):
        entries += [
            CompletionEntry(word, "EnumMember", meaning=text)
            for word, text in vocabulary.CLOSED_WORDS[terminal].items()
            if terminal != "UNIT" or word in _UNITS.get(context.statement, (word,))
        ]
    if "DOLLAR" in context.accepts:
        entries += [CompletionEntry(f"${name}", "Variable", text) for name, text in names.variables.items()]
    if "NAME" in context.accepts and context.before:
        entries += _names(context, names)
    return entries


def _statements(enclosing: tuple[str, ...]) -> Iterator[CompletionEntry]:
    kinds = {"definition", "setting", "pipeline", "question"}
    if "cycle" in enclosing:
        kinds = {"pipeline"}
    elif enclosing:
        kinds = {"setting", "pipeline"}
    for word, form in vocabulary.STATEMENTS.items():
        if form.kind in kinds:
            yield CompletionEntry(word, "Keyword", form.form, form.summary)


def _names(context: CursorContext, names: DefinedNames) -> Iterable[CompletionEntry]:
    """The names allowed at a position, depending on the words before it."""
    statement, option = context.statement, _option(context)
    if option is not None:
        return _values(_schema(context).get(option))
    before = _clause(context)
    if before == "MODEL" or (before == "TO" and statement in ("stretch", "squeeze")):
        return _models(names.data)
    if before in ("ON", "DATA") or (before == "TO" and statement == "transfer"):
        return _datasets(names.model)
    if before == "BY":
        return _words(_RANKINGS[statement]) if statement in _RANKINGS else _criteria(context)
    if before == "VIA":
        return _words(option_schemas.VIAS)
    if before == "COMPARE":
        return [
            *_arms(names),
            *_meanings(vocabulary.CONTROLS),
            CompletionEntry(vocabulary.ALL_ARMS, "Keyword", meaning=vocabulary.WORD_SUMMARIES[vocabulary.ALL_ARMS]),
        ]
    if before == "REPORT":
        listed = dict.fromkeys([*vocabulary.METRICS, *_task_metrics(names)], True)
        return [*_meanings(listed), *_added(registries.REPORT_METRICS, "EnumMember")]
    if before in ("WHEN", "UNTIL"):
        return _condition_metrics(names)
    if before == "RETRAIN":
        builtin = registries.SCHEDULES.builtin.items()
        known = [CompletionEntry(word, "EnumMember", meaning=schedule.summary) for word, schedule in builtin]
        return [*known, *_added(registries.SCHEDULES, "EnumMember")]
    if (before == "FROM" and statement != "prune") or (statement == "report" and before in ("OF", "TO")):
        return [*_arms(names), *_meanings({"dense": True})]
    if before == "MATCHING" or (statement == "union" and before == "OF"):
        return _arms(names)
    if before in ("AT", "TO", "FROM"):
        return [CompletionEntry(word, "EnumMember", meaning=text) for word, text in vocabulary.MOMENT_WORDS.items()]
    if before in ("LET", "SWEEP", "ARM", "IN", "EXCEPT"):
        return []
    return _options(context)


def _clause(context: CursorContext) -> str:
    """The terminal before the name at a position, or before the list of names it is in."""
    kinds = [token.type for token in context.before]
    while len(kinds) > 2 and kinds[-1] == "_COMMA":
        kinds = kinds[:-2]
        if kinds[-1:] == ["DOLLAR"]:
            kinds.pop()
    return kinds[-1] if kinds else ""


def _option(context: CursorContext) -> str | None:
    """The key of the option whose value is at the position; None if it is not an option's value."""
    kinds = [token.type for token in context.before]
    end = len(kinds) - 1
    if "LSQB" in kinds and "RSQB" not in kinds[(opened := len(kinds) - 1 - kinds[::-1].index("LSQB")) :]:
        end = opened - 1
    if end > 0 and kinds[end] == "EQUAL" and kinds[0] != "LET":
        return str(context.before[end - 1])
    return None


# -- tables


def _models(data: str) -> Iterator[CompletionEntry]:
    """The models; those that fit a data set of the catalogue first."""
    known, other = catalogue.MODELS.builtin, catalogue.DATASETS.builtin.get(data)
    for name in sorted(known, key=lambda name: other is not None and not fits(known[name], other)):
        info = known[name]
        purpose = model_purpose(info)
        yield CompletionEntry(name, "Class", f"{name}  {purpose}", f"{info.summary}\n\nFor {purpose}.")
    yield from _added(catalogue.MODELS, "Class")
    for prefix in LIBRARIES:
        yield from _library_models(prefix)


@functools.cache
def _library_models(prefix: str) -> tuple[CompletionEntry, ...]:
    """The networks of a library, if it is installed; remembered, since they are many."""
    library, entries = LIBRARIES[prefix], []
    for name in library.names():
        known_as = f"{prefix}.{name}"
        purpose = model_purpose(catalogue.MODELS[known_as])
        origin = f"{library.package} {library.version}"
        entries.append(CompletionEntry(known_as, "Class", f"{known_as}  {purpose}", f"{origin}\n\nFor {purpose}."))
    return tuple(entries)


def _datasets(model: str) -> Iterator[CompletionEntry]:
    """The data sets; those that fit a model of the catalogue first."""
    known, other = catalogue.DATASETS.builtin, catalogue.MODELS.builtin.get(model)
    for name in sorted(known, key=lambda name: other is not None and not fits(other, known[name])):
        info = known[name]
        kind = "sequences" if info.shape and is_tokens(info.shape) else "images"
        facts = [data_purpose(info)] if data_purpose(info) else []
        facts += [f"{info.train:,} training and {info.test:,} test {kind}"] if info.train else []
        detail = f"{name}  {info.task}" if info.task else ""
        yield CompletionEntry(name, "Class", detail, f"{info.summary}\n\n{', '.join(facts)}".strip())
    yield from _added(catalogue.DATASETS, "Class")


def _criteria(context: CursorContext) -> Iterator[CompletionEntry]:
    unit = next((str(token) for token in context.before if token.type == "UNIT"), None)
    for name, criterion in registries.CRITERIA.builtin.items():
        if unit is None or unit in criterion.units:
            needs = f"; needs {', '.join(criterion.needs)}" if criterion.needs else ""
            ranks = f"Ranks {', '.join(criterion.units)}{needs}."
            yield CompletionEntry(name, "Function", meaning=f"{criterion.summary}\n\n{ranks}")
    yield from _added(registries.CRITERIA, "Function")


def _added(known: Registry[Any], kind: str) -> Iterator[CompletionEntry]:
    """The plug-ins of installed packages, described from their source; nothing is imported."""
    for name, plugin in known.added.items():
        yield CompletionEntry(name, kind, meaning=f"{plugin.summary}\n\n{plugin.origin}".strip())


def _task(names: DefinedNames) -> str:
    """The built-in task of the plan; empty if the catalogue does not know it."""
    data, model = catalogue.DATASETS.builtin.get(names.data), catalogue.MODELS.builtin.get(names.model)
    task = (model.task if model is not None else "") or (data.task if data is not None else None) or ""
    return task if task in TASK_INFOS else ""


def _task_metrics(names: DefinedNames) -> tuple[str, ...]:
    task = _task(names)
    return TASK_INFOS[task].metric_names if task else ()


def _condition_metrics(names: DefinedNames) -> Iterator[CompletionEntry]:
    """The metrics of conditions; those of the task of the plan first, if the catalogue knows it."""
    task, own = _task(names), _task_metrics(names)
    for word in dict.fromkeys([*own, vocabulary.DROP, *vocabulary.SIZE_METRICS, *vocabulary.CONDITION_METRICS]):
        metric = TASK_INFOS[task].metric(word) if word in own else TASK_METRICS.get(word)
        unit = "" if metric is None else {"share": "a percentage", "": "a number"}.get(metric.unit, f"in {metric.unit}")
        better = "" if metric is None else f", {'more' if metric.higher_is_better else 'less'} is better"
        meaning = vocabulary.WORD_SUMMARIES[word]
        yield CompletionEntry(word, "EnumMember", meaning=f"{meaning} ({unit}{better})" if unit else meaning)


def _arms(names: DefinedNames) -> list[CompletionEntry]:
    return [CompletionEntry(name, "Module", text) for name, text in names.arms.items()]


def _words(meanings: Mapping[str, str]) -> list[CompletionEntry]:
    return [CompletionEntry(word, "EnumMember", meaning=text) for word, text in meanings.items()]


def _meanings(words: Mapping[str, bool]) -> list[CompletionEntry]:
    return [
        CompletionEntry(word, "EnumMember", meaning=vocabulary.WORD_SUMMARIES[word], ready=ready)
        for word, ready in words.items()
    ]


def _schema(context: CursorContext) -> Mapping[str, OptionType | catalogue.Option]:
    """The options of the statement at a position. Those of `model` and `data` depend on the name."""
    name = str(context.before[1]).strip('"') if len(context.before) > 1 else ""
    try:
        if context.statement == "model":
            return catalogue.MODELS[name].options if name in catalogue.MODELS else {}
        if context.statement in ("stretch", "squeeze"):
            target = str(context.before[2]).strip('"') if len(context.before) > 2 else ""
            known = catalogue.MODELS[target].options if target in catalogue.MODELS else {}
            own = option_schemas.STATEMENT_OPTIONS[context.statement]
            return {**own, **catalogue.architecture_options(known)}
        if context.statement == "data":
            return catalogue.DATASETS[name].options if name in catalogue.DATASETS else {}
    except PluginError:  # reported by a diagnostic
        return {}
    return option_schemas.STATEMENT_OPTIONS.get(context.statement, {})


def _options(context: CursorContext) -> Iterator[CompletionEntry]:
    used = {str(a) for a, b in zip(context.before, context.before[1:], strict=False) if b.type == "EQUAL"}
    for key, option in _schema(context).items():
        if key not in used:
            default = _train_default(key) if context.statement == "train" else getattr(option, "default", None)
            yield CompletionEntry(f"{key}=", "Property", f"{key}={_value_form(option, default)}", option.summary)


def _train_default(key: str) -> Any:
    """The default of a `train` option, as text."""
    default = TRAIN_DEFAULTS.get(key)
    adam_default = ADAM_DEFAULTS.get(key, default)
    return default if adam_default == default else f"{default}; with adam {adam_default}"


def _value_form(option: OptionType | catalogue.Option, default: Any) -> str:
    """The form of an option's value: its type or words, range and default, e.g. `FLOAT > 0 (default 0.1)`."""
    bounds = ""
    if isinstance(option, OptionType):
        form = "|".join(option.words) if option.words else {"flag": "on|off"}.get(option.kind, option.kind.upper())
        if option.above is not None:
            bounds = f" > {option.above:g}"
    else:
        form = "PERCENTAGE" if option.is_share else option.type.__name__.upper()
    if option.least is not None:
        bounds = f" ≥ {option.least:g}"
    return form + bounds + (f" (default {default})" if default else "")


def _values(option: OptionType | catalogue.Option | None) -> list[CompletionEntry]:
    if not isinstance(option, OptionType):
        return []
    if option.kind == "metric":
        return _meanings(dict.fromkeys(TASK_METRICS, True))
    if option.kind in _REGISTRIES:
        registry = _REGISTRIES[option.kind]
        known = [
            CompletionEntry(word, "EnumMember", meaning=getattr(value, "summary", value))
            for word, value in registry.builtin.items()
        ]
        others = [CompletionEntry("none", "EnumMember")] if "none" in option.words else []
        return [*others, *known, *_added(registry, "EnumMember")]
    words = ("on", "off") if option.kind == "flag" else option.words
    return [CompletionEntry(word, "EnumMember", meaning=option.summary) for word in words]
