"""Compact networks export to ONNX, with equal outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tickdsl.graph import Structure, compact, trace
from tickdsl.training.models import create

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet20", (3, 32, 32)),
        ("torchvision.shufflenet_v2_x0_5", (3, 64, 64)),
        ("torchvision.mobilenet_v2", (3, 64, 64)),
        ("torchvision.vit_b_32", (3, 224, 224)),
    ],
)
def test_onnx_computes_what_the_compact_network_does(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    model = create(name, classes=10, shape=shape, seed=0).eval()
    graph = trace(model, (torch.zeros(2, *shape),))
    structure = Structure.dense(graph)
    for group in graph.channels:
        if group.reason is None:
            structure = structure.remove(group.name, np.arange(group.size // 3))
    small = compact(model, graph, structure).eval()
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "small.onnx"
    torch.onnx.export(small, (images,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (actual,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    expected = small(images).detach().numpy()
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
