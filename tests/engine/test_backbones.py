"""Networks for segmentation whose backbone comes from a classifier or its ticket, and classifiers from a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from plan_tickets import plan_ticket, written
from safetensors.torch import save_file
from step_runner import StepRunner, step_runner
from test_plans_from_tickets import is_nested
from torch import Tensor, nn

from tickdsl.checks import check_file
from tickdsl.graph import compact
from tickdsl.graph.structure import Structure
from tickdsl.training.models import create
from tickdsl.training.part_map import PartMap

SIDE = 16
SHAPES, TAGS = (f"data {name} size={SIDE} train=40 test=20\n" for name in ("shapes", "shapes-tags"))
TRAIN = "train 1ep batch=20 opt=adam lr=0.002\nseeds 1\n"
FILTERS = "prune filters local 20%; rewind weights to init\n"


@attrs.frozen
class Case:
    """A network that weights come from, with its number of outputs, and the one that they go into."""

    source: str
    outputs: int
    target: str
    parts: str
    data: str
    options: Mapping[str, Any] = {}
    masks: bool = False
    blocks: int = 0

    @property
    def head(self) -> str:
        options = "".join(f" {name}={value}" for name, value in self.options.items())
        return f'model {self.target}{options} weights="t.safetensors" map="{self.parts}"\n{self.data}{TRAIN}'

    def ticket(self) -> Any:
        return plan_ticket(
            self.source, self.options, classes=self.outputs, shape=(3, SIDE, SIDE),
            masks=self.masks, blocks=self.blocks,
        )  # fmt: skip

    @property
    def part(self) -> PartMap:
        part = PartMap.of_model({"map": self.parts, "weights": "t"})
        assert part is not None
        return part


UNET = {"width": 0.25}
ENCODER = Case("unet-encoder", 10, "unet", "encoder*=encoder*", SHAPES, UNET)
CASES = {
    "filters and weights": attrs.evolve(ENCODER, masks=True),
    "layers": attrs.evolve(ENCODER, blocks=2),
    "one level": attrs.evolve(ENCODER, parts="encoder1=encoder1", masks=True),
    "to a classifier": Case("unet", 4, "unet-encoder", "encoder*=encoder*", TAGS, UNET, masks=True),
}
TORCHVISION_CASES = {
    "features": Case("mobilenet_v3_large", 10, "torchvision.deeplabv3_mobilenet_v3_large", "features=backbone", SHAPES),
    "a whole network": Case("resnet50", 10, "torchvision.fcn_resnet50", "=backbone", SHAPES),
    "from the backbone": Case("torchvision.fcn_resnet50", 4, "resnet50", "backbone=", TAGS),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def errors(case: Case, text: str = FILTERS) -> list[Any]:
    Path("test.plan").write_text(case.head + text)
    return [found for found in check_file("test.plan").diagnostics if found.severity == "error"]


def initial(study: StepRunner, key: str) -> tuple[dict[str, Tensor], Structure]:
    """The weights and the structure from which a training starts."""
    parents = study.study.step(key).parents
    return study.weights(parents["weights"]), study.structure(parents["structure"])


def outputs_by_module(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What each module of a network returns for images, the last time it is called."""
    found: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        return lambda _module, _inputs, output: found.__setitem__(name, output)

    handles = [module.register_forward_hook(record(name)) for name, module in network.named_modules()]
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return {name: output for name, output in found.items() if isinstance(output, Tensor)}


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=name) for name, case in CASES.items()),
        *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in TORCHVISION_CASES.items()),
    ],
)
def test_the_part_is_the_same_network_with_the_same_structure(case: Case, tmp_path: Path) -> None:
    ticket = case.ticket()
    written(tmp_path / "t.safetensors", ticket)
    assert errors(case) == []
    study = step_runner(tmp_path, FILTERS, head=case.head)
    weights, structure = initial(study, study.measured_step("dense", 0))
    network = study.context.dense_network(study.study.step(study.measured_step("dense", 0)))
    part, ours = case.part, network.graph.parameters
    # Nothing of the part is lost, and nothing else is pruned.
    for theirs, mine in ((ticket.structure.kept, structure.kept), (ticket.structure.masks, structure.masks)):
        expected = {target: value for name, value in theirs.items() for target in part.targets(name, ours)}
        groups = network.graph.groups_by_producer
        expected = {name if name in mine else groups.get(name, name): value for name, value in expected.items()}
        assert mine.keys() == expected.keys()
        assert all((mine[name] == value).all() for name, value in expected.items())
    removed = {target for name in ticket.structure.removed_blocks for target in part.targets(name, ours)}
    assert structure.removed_blocks == removed
    assert structure.kept or structure.removed_blocks
    state = {name: tensor for name, tensor in ticket.weights.items() if part.targets(name, weights)}
    renamed = part.rename(state, weights, "t")
    assert renamed and all(torch.equal(weights[name], tensor) for name, tensor in renamed.items())
    # The modules of the part compute the same, to the bit; those that read only modules of the part.
    smaller = compact(network.module, network.graph, structure)
    smaller.load_state_dict(weights)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    theirs, mine = outputs_by_module(ticket.network(), images), outputs_by_module(smaller, images)
    same = [(name, target) for name in theirs if name for target in part.targets(name, weights) if target in mine]
    assert len(same) >= 5, same
    for name, target in same:
        if mine[target].shape == theirs[name].shape:  # a segmenter dilates later stages instead of striding
            assert torch.equal(mine[target], theirs[name]), name


@pytest.mark.parametrize("masks", [False, True])
def test_further_prunes_go_on_from_the_part(masks: bool, tmp_path: Path) -> None:
    case = attrs.evolve(ENCODER, masks=masks)
    written(tmp_path / "t.safetensors", case.ticket())
    prune = "prune weights global 30% x 2 except head" if masks else "prune filters local 20% x 2 except head"
    study = step_runner(
        tmp_path, f"{prune}; rewind weights to init\ncompare random-init, random-structure, dense\n", case.head
    )
    dense = study.measured_step("dense", 0)
    _, outer = initial(study, dense)
    assert study.study.step(dense).operation == "train"
    graph = study.context.dense_network(study.study.step(dense)).graph
    for level in study.levels("ticket"):
        inner = study.structure(level.structure)
        assert is_nested(inner, outer, graph) and study.metrics(level.ticket)["metric"] == "miou"
        outer = inner
    fresh = study.weights(study.study.step(study.measured_step("random-init", 2)).parents["weights"])
    trained, name = study.weights(study.levels("ticket")[-1].ticket), "encoder1.conv1.weight"
    assert {name: tensor.shape for name, tensor in fresh.items()} == {n: t.shape for n, t in trained.items()}
    # Controls start from weights of their own, the ticket from those of the file.
    kept = study.context.weights(study.study.step(dense).parents["weights"], outer, graph)
    assert not torch.equal(fresh[name], kept[name])


def test_plain_weights_of_a_backbone(tmp_path: Path) -> None:
    classifier = create("unet-encoder", classes=10, shape=(3, SIDE, SIDE), seed=5, options=UNET)
    save_file(classifier.state_dict(), tmp_path / "t.safetensors")
    assert errors(ENCODER) == []
    study = step_runner(tmp_path, FILTERS, head=ENCODER.head)
    init = study.weights(study.study.step(study.measured_step("dense", 0)).parents["weights"])
    plain = ENCODER.head.replace(' weights="t.safetensors" map="encoder*=encoder*"', "")
    other = step_runner(tmp_path, FILTERS, head=plain)
    fresh = other.weights(other.study.step(other.measured_step("dense", 0)).parents["weights"])
    loaded = classifier.state_dict()
    assert init.keys() == fresh.keys()
    for name, tensor in init.items():
        assert torch.equal(tensor, loaded[name] if name.startswith("encoder") else fresh[name]), name


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"parts": "decoder*=decoder*"}, "has no part `decoder*`"),
        ({"parts": "encoder*=backbone*"}, "this network has no part `backbone*`"),
        ({"parts": "encoder1=encoder2"}, "and `encoder2.bn1.bias` is 8 here"),
        ({"options": {"width": 0.25, "depth": 3}}, "has no weights for `encoder4"),
        ({"options": {"width": 0.25, "depth": 1}}, "and this network has no `encoder3"),
        ({"options": {"width": 0.5}}, "is 4 in t.safetensors, and"),
    ],
)
def test_parts_that_do_not_fit_are_found_before_the_run(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors", ENCODER.ticket())
    (found,) = errors(attrs.evolve(ENCODER, **changes))
    assert found.code == "TD442" and problem in found.message and found.help, found


def test_a_part_that_reads_what_was_pruned_elsewhere_does_not_fit(tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors", ENCODER.ticket())
    (found,) = errors(attrs.evolve(ENCODER, parts="encoder2=encoder2"))  # encoder1 has lost filters in the ticket
    assert found.code == "TD442" and "`encoder2.conv1.weight` is 6×3×3×3 in t.safetensors" in found.message, found
