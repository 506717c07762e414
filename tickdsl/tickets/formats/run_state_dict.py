"""Run exported weights with the code beside them, in a process without tickdsl.

    python run_state_dict.py FOLDER INPUTS [SEED]

FOLDER: holds `network.py` and `weights.safetensors`. INPUTS: a folder with the inputs in `inputs.pt`: images, uint8
[N, C, H, W], or numbers, float32 [N, …]; gets the outputs, float32 [N, …], as a list in `outputs.pt`. SEED: of what the
network draws. This is a script.
"""

import sys
from pathlib import Path

BATCH = 1000


def main(folder: str, inputs_folder: str, seed: str = "") -> None:
    """Load the network, run it, and write its outputs."""
    import torch

    sys.path.insert(0, folder)
    import network  # type: ignore[import-not-found]

    model = network.load()
    inputs = torch.load(Path(inputs_folder) / "inputs.pt", weights_only=True, mmap=True)
    # A part of a network that takes no images has nothing to normalise.
    prepare = getattr(network, "normalize", lambda part: part)
    if seed:
        torch.manual_seed(int(seed))
    with torch.no_grad():
        parts = [
            model(prepare(part / 255 if part.dtype == torch.uint8 else part)) for part in torch.split(inputs, BATCH)
        ]
    columns = zip(*((part,) if isinstance(part, torch.Tensor) else part for part in parts), strict=True)
    torch.save([torch.cat(tensors).float() for tensors in columns], Path(inputs_folder) / "outputs.pt")


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the code.
    sys.modules["tickdsl"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
