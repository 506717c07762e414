"""All of torchvision's classification networks: removal is exact, alone and together, for channels and for blocks."""

from __future__ import annotations

import pytest
import torch
from graph_oracle import check_exact, make_telling, thinned

from tickdsl.graph import Cost, Structure, compact, cost, trace
from tickdsl.training.torchvision_import import import_torchvision

torchvision = import_torchvision()
MODELS = torchvision.models.list_models(module=torchvision.models)
#: Built, traced and made compact; but too large for a comparison in double precision in a test.
HUGE = {"regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32"}
SMALL = {"resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"}


def build(name: str) -> torch.nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, **options)
    return make_telling(model.double() if name not in HUGE else model).eval()


def example(name: str) -> torch.Tensor:
    size = 299 if name == "inception_v3" else 224
    draw = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, size, size, generator=draw, dtype=torch.float32 if name in HUGE else torch.float64)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SMALL else pytest.mark.slow) for n in MODELS])
def test_removal_is_exact_on_every_torchvision_network(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = build(name), example(name)
    graph = trace(model, inputs[:1])
    assert not graph.unknown
    structure = thinned(graph, 0.4)
    if name in HUGE:
        small = compact(model, graph, structure)
        with torch.no_grad():
            assert small(inputs[:1]).shape == (1, 1000)
    else:
        small = check_exact(model, graph, structure, inputs)
    left = sum(parameter.numel() for parameter in small.parameters())
    assert left == cost(graph, structure).params < 0.6 * cost(graph, Structure.dense(graph)).params
    small.train()
    assert small(inputs) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "r3d_18"]
)
def test_removal_is_exact_for_segmentation_and_video(name: str) -> None:
    torch.manual_seed(0)
    options = {} if "lraspp" in name or "r3d" in name else {"aux_loss": True}
    if "r3d" not in name:
        options["weights_backbone"] = None
    model = make_telling(torchvision.models.get_model(name, weights=None, **options).double()).eval()
    shape = (2, 3, 8, 64, 64) if "r3d" in name else (2, 3, 96, 96)
    inputs = torch.randn(shape, dtype=torch.float64)
    graph = trace(model, inputs)
    check_exact(model, graph, thinned(graph, 0.4), inputs)


@pytest.mark.slow
def test_removal_is_exact_for_a_detection_backbone() -> None:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d)
    model = make_telling(backbone.double()).eval()
    inputs = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    graph = trace(model, inputs)
    check_exact(model, graph, thinned(graph, 0.4), inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v3_small", "swin_t", "convnext_tiny", "vit_b_16"])
def test_every_block_can_go_alone(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = build(name), example(name)[:1]
    graph = trace(model, inputs)
    free = [block for block in graph.blocks if block.reason is None]
    assert free
    dense = cost(graph, Structure.dense(graph))
    for block in free:
        structure = Structure.dense(graph).remove_block(block.name)
        small = check_exact(model, graph, structure, inputs)
        found = cost(graph, structure)
        assert isinstance(found, Cost) and found.macs < dense.macs
        assert found.params == sum(parameter.numel() for parameter in small.parameters())
