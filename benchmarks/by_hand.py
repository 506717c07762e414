"""The arm `imp` of plans/colt.plan by hand: what a plan of a few lines replaces, in plain torch.

No checkpoints, no resuming, no work shared between arms or runs, no monitor, no report, no structured pruning.
Needs torch and numpy; reads the part of MNIST that tickdsl ships.

    python benchmarks/by_hand.py [--seeds N] [--epochs N]
"""

import argparse
import math
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MNIST_SMALL = Path(__file__).parents[1] / "tickdsl" / "training" / "data" / "mnist-small.npz"
EPOCHS, BATCH, LR, MILESTONES, GAMMA, DECAY = 4, 60, 1.2e-3, (0.42, 0.62, 0.92), 0.2, 1e-4
SHARE, UNTIL, WITHIN = 0.5, 0.96, 1.0


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    with np.load(MNIST_SMALL) as file:
        images, labels, test_images, test_labels = (torch.from_numpy(file[name]) for name in names)
    mean, std = images.float().mean(), images.float().std()
    images, test_images = ((part.float().flatten(1) - mean) / std for part in (images, test_images))
    return images, labels.long(), test_images, test_labels.long()


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def prunable(model: nn.Module) -> dict[str, Tensor]:
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 2}
    weights.popitem()  # the classifier stays
    return weights


def train(model: nn.Module, data: tuple[Tensor, ...], masks: dict[str, Tensor], seed: int, epochs: int) -> float:
    images, labels, test_images, test_labels = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=DECAY)
    steps = epochs * math.ceil(len(labels) / BATCH)
    milestones = [round(share * steps) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, GAMMA)
    weights = prunable(model)
    for _ in range(epochs):
        for index in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    weights[name].mul_(mask)
    with torch.no_grad():
        return float((model(test_images).argmax(1) == test_labels).float().mean()) * 100


def prune(model: nn.Module, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = prunable(model)
    kept = torch.cat([weights[name].detach()[mask.bool()].abs() for name, mask in masks.items()])
    threshold = kept.kthvalue(max(1, round(SHARE * len(kept)))).values
    return {name: mask * (weights[name].detach().abs() > threshold) for name, mask in masks.items()}


def load_masked(model: nn.Module, state: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    model.load_state_dict(state)
    with torch.no_grad():
        for name, weight in prunable(model).items():
            weight.mul_(masks[name])


def interval(differences: list[float]) -> str:
    if len(differences) == 1:
        return f"{differences[0]:+.2f} points"
    quantiles = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    half = quantiles[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    mean = statistics.mean(differences)
    verdict = "winning" if mean - half > -WITHIN else "losing" if mean + half < -WITHIN else "undecided"
    return f"{mean:+.2f} ± {half:.2f} points  {verdict}"


def removed(model: nn.Module, masks: dict[str, Tensor]) -> float:
    zeros = sum(float((mask == 0).sum()) for mask in masks.values())
    return zeros / sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load()
    tickets: dict[int, list[float]] = {}
    controls: dict[int, list[float]] = {}
    for seed in range(1, arguments.seeds + 1):
        model, level = network(seed), 0
        initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        masks = {name: torch.ones_like(weight) for name, weight in prunable(model).items()}
        dense = train(model, data, masks, seed, arguments.epochs)
        while removed(model, masks) < UNTIL:
            level += 1
            masks = prune(model, masks)
            load_masked(model, initial, masks)
            tickets.setdefault(level, []).append(train(model, data, masks, seed, arguments.epochs) - dense)
            fresh = network(seed + 1000)
            load_masked(fresh, fresh.state_dict(), masks)
            controls.setdefault(level, []).append(train(fresh, data, masks, seed, arguments.epochs) - dense)
    for level in tickets:
        print(f"round {level}  ticket {interval(tickets[level])}   fresh weights {interval(controls[level])}")


if __name__ == "__main__":
    main()
