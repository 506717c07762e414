"""The arm `imp` of plans/colt.plan by hand: what a plan of six lines replaces, in plain torch.

No checkpoints, no resuming, no work shared between arms or runs, no monitor, no report, no structured pruning.
Needs torch and numpy; reads the digits that tickdsl ships.

    python benchmarks/by_hand.py [--seeds N]
"""

import argparse
import math
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIGITS = Path(__file__).parents[1] / "tickdsl" / "training" / "data" / "digits.npz"
EPOCHS, BATCH, LR, MILESTONES, GAMMA, DECAY = 8, 64, 0.1, (5, 7), 0.2, 5e-4
ROUNDS, SHARE, WITHIN = 4, 0.4, 1.0


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with np.load(DIGITS) as file:
        parts = [
            torch.from_numpy(file[name]) for name in ("train_images", "train_labels", "test_images", "test_labels")
        ]
    images = parts[0].float().reshape(-1, 1, 8, 8)
    mean, std = images.mean(), images.std()
    scaled = [(part.float().reshape(-1, 1, 8, 8) - mean) / std for part in (parts[0], parts[2])]
    return scaled[0], parts[1].long(), scaled[1], parts[3].long()


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


def prunable(model: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.weight": m.weight for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def train(model: nn.Module, data: tuple[Tensor, ...], masks: dict[str, Tensor], seed: int) -> float:
    images, labels, test_images, test_labels = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, MILESTONES, GAMMA)
    weights = prunable(model)
    model.train()
    for _ in range(EPOCHS):
        for index in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimizer.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    weights[name].mul_(mask)
        schedule.step()
    model.eval()
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
    quantiles = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    half = quantiles[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    mean = statistics.mean(differences)
    verdict = "winning" if mean - half > -WITHIN else "losing" if mean + half < -WITHIN else "undecided"
    return f"{mean:+.2f} ± {half:.2f} points  {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(1, parser.parse_args().seeds + 1)
    torch.set_num_threads(1)
    data = load()
    tickets: dict[int, list[float]] = {}
    controls: dict[int, list[float]] = {}
    for seed in seeds:
        model = network(seed)
        initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        masks = {name: torch.ones_like(weight) for name, weight in prunable(model).items()}
        dense = train(model, data, masks, seed)
        for level in range(1, ROUNDS + 1):
            masks = prune(model, masks)
            load_masked(model, initial, masks)
            tickets.setdefault(level, []).append(train(model, data, masks, seed) - dense)
            fresh = network(seed + 1000)
            load_masked(fresh, fresh.state_dict(), masks)
            controls.setdefault(level, []).append(train(fresh, data, masks, seed) - dense)
    for level in tickets:
        print(f"round {level}  ticket {interval(tickets[level])}   fresh weights {interval(controls[level])}")


if __name__ == "__main__":
    main()
