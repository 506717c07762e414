"""Pictures of what a network makes of a few test images, kept with the result of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.records.samples import SAMPLES
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import isolated_rng
from tickdsl.training.named_tensors import run_network
from tickdsl.training.tasks import as_float32
from tickdsl.training.tasks.pixels import COLUMNS

#: The test images that a network is shown.
_IMAGES = 32
#: The seed of its noise.
_NOISE_SEED = 0


def save_samples(folder: Path, model: nn.Module, data: Dataset, device: torch.device) -> None:
    """Save a grid of pictures in `folder`, if the task has pictures: equal ones for equal weights.

    model: on the device; it is left in the mode that it is in.
    """
    inputs, targets = (tensor[:_IMAGES].to(device) for tensor in (data.test_inputs, data.test_targets))
    was_training = model.training
    model.eval()
    with torch.no_grad(), isolated_rng(device):
        torch.manual_seed(_NOISE_SEED)
        pictures = data.task.pictures(as_float32(run_network(model, data.preprocess(device)(inputs))), targets)
    model.train(was_training)
    if pictures is not None:
        save_grid(folder / SAMPLES, pictures.cpu())


def save_grid(path: Path, pictures: Tensor) -> None:
    """Save pictures uint8 [N, C, H, W] as a PNG file, eight in a row, one black pixel apart.

    One channel is grey, three are colours; of any other number, the first is shown.
    """
    if pictures.shape[1] != 3:
        pictures = pictures[:, :1]
    padded = F.pad(pictures, (1, 0, 1, 0))
    blank = padded.new_zeros((-len(padded) % COLUMNS, *padded.shape[1:]))
    rows = torch.stack(torch.split(torch.cat([padded, blank]), COLUMNS))  # [R, 8, C, H, W]
    grid = F.pad(rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2), (0, 1, 0, 1))  # [C, R H, 8 W]
    array = grid.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(path, format="PNG")
