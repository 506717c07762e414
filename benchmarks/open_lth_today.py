"""Run open_lth's command line with today's torch and NumPy, with two repairs that touch none of its files.

    python benchmarks/open_lth_today.py DIR COMMAND [OPTION …]      DIR: a clone of facebookresearch/open_lth

1. It derives a class from its own `Model` and torch's `DistributedDataParallel`, whose base classes torch has since put
   into another order. That class, for several GPUs, is derived from a plain module here.
2. `numpy.product`, which NumPy 2 has removed, is `numpy.prod`.

torchvision is imported as in tickdsl, which also works if its compiled operators are those of another build of torch.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import torch

from tickdsl.training.torchvision_import import import_torchvision


class _OneProcess(torch.nn.Module):
    """Stands in for `DistributedDataParallel`; a run of one process never makes one."""


def main() -> None:
    folder, *arguments = sys.argv[1:]
    script = Path(folder).resolve() / "open_lth.py"
    import_torchvision()
    setattr(torch.nn.parallel, "DistributedDataParallel", _OneProcess)  # noqa: B010, which mypy sees through
    setattr(np, "product", np.prod)  # noqa: B010
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
