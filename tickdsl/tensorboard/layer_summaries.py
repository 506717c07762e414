"""Summaries of the remaining layers of a network, as a text table and as an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tensorboardX import summary
from tensorboardX.proto.summary_pb2 import Summary

from tickdsl.records.events import Layers, Network
from tickdsl.results import formatting

_ROW, _CELL, _GAP, _LETTER_WIDTH = 16, 34, 1, 7
_BACKGROUND, _FOREGROUND, _FULL = (255, 255, 255), (27, 31, 36), (0, 114, 178)


def layers_table(network: Network, left: Layers) -> Summary:
    """A text summary: a Markdown table of the layers after one round."""
    lines = ["| layer | kind | group | outputs | weights | weights left |", "|:--|:--|:--|--:|--:|--:|"]
    for layer in network.layers:
        outputs = left.outputs.get(layer.path, layer.outputs)
        weights = left.weights.get(layer.path, layer.weights)
        share = formatting.percent(weights / layer.weights if layer.weights else 1.0)
        lines.append(
            f"| {layer.path} | {layer.kind} | {layer.group or '–'} | {outputs} of {layer.outputs} "
            f"| {weights} of {layer.weights} | {share} |"
        )
    return summary.text("structure/layers", "\n".join(lines))


def layers_image(network: Network, rounds: Mapping[int, Layers]) -> Summary:
    """An image summary: a row per layer, a column per round so far, darker where more weights remain."""
    levels = sorted(rounds)
    label = _LETTER_WIDTH * max(len(layer.path) for layer in network.layers) + 12
    image = Image.new("RGB", (label + _CELL * len(levels), _ROW * (len(network.layers) + 1)), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(11)
    for column, level in enumerate(levels):
        draw.text((label + _CELL * column + 8, 2), str(level), fill=_FOREGROUND, font=font)
    for row, layer in enumerate(network.layers, start=1):
        draw.text((4, _ROW * row + 2), layer.path, fill=_FOREGROUND, font=font)
        for column, level in enumerate(levels):
            kept = rounds[level].weights.get(layer.path, layer.weights)
            share = kept / layer.weights if layer.weights else 1.0
            colour = tuple(
                round(light + share * (dark - light)) for light, dark in zip(_BACKGROUND, _FULL, strict=True)
            )
            x, y = label + _CELL * column, _ROW * row
            draw.rectangle((x, y, x + _CELL - 1 - _GAP, y + _ROW - 1 - _GAP), fill=colour)
            ink = _BACKGROUND if share > 0.55 else _FOREGROUND
            draw.text((x + 6, y + 1), f"{100 * share:.0f}", fill=ink, font=font)
    return summary.image("structure/weights_left", np.asarray(image), dataformats="HWC")
