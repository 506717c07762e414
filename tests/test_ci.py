"""The subset of slow tests that every change has to pass has one or more of every kind."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
SUBSET = (TESTS.parent / ".ci" / "slow-subset.txt").read_text("utf-8").split("\n")[:-1]
#: Files whose slow tests are alike one that is in the subset or fast, or which need a GPU.
COVERED = {
    "tests/engine/machine/test_compile_auto.py": "the compiler: tests/training/step/test_compilation.py",
    "tests/engine/scheduler/test_runs_on_a_bucket.py": "its own fast tests, with fewer runs",
    "tests/engine/scheduler/test_runs_on_a_network_disk.py": "its own fast tests, with fewer runs",
    "tests/engine/scheduler/test_simulated_runs.py": "its own fast tests, with fewer runs",
    "tests/engine/test_every_system.py": "its own fast tests, and the tests of each statement",
    "tests/engine/test_building.py": "its own fast tests, with smaller networks",
    "tests/cli/test_sparse_training_runs.py": "its own fast test, and tests/engine/test_sparse_training.py",
    "tests/test_gpu_script.py": "the benchmarks that the script calls",
    "tests/training/test_gpu.py": "skipped without a GPU; tests/second_device",
    "tests/tickets/test_parts.py": "its own fast tests, with one part",
    "tests/tickets/test_state_dict.py": "its own fast tests, with smaller networks",
    "tests/training/parallel/test_shared_generators.py": "tests/training/parallel/test_shared_trainings.py",
    "tests/lang/test_mutations.py": "its own fast tests, with fewer mutations",
}


def has_slow_tests(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "slow" and ast.unparse(node) == "pytest.mark.slow"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )


def test_every_file_with_slow_tests_is_in_the_subset() -> None:
    files = {path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("test_*.py") if has_slow_tests(path)}
    subset = {line.partition("::")[0] for line in SUBSET}
    assert files - subset == set(COVERED)
    assert subset <= files


def test_the_subset_names_each_test_once() -> None:
    assert len(SUBSET) == len(set(SUBSET)) > 50
    assert all("::test_" in line for line in SUBSET)


def test_every_kind_of_end_and_every_family_of_networks_is_in_the_subset() -> None:
    text = "\n".join(SUBSET)
    for kind in ("killed_again", "stop_keeps", "paused", "sigterm", "killed_worker", "two_runs", "takes_over"):
        assert kind in text
    families = (
        "alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet", "mobilenet",
        "regnet", "resnext", "swin_t", "swin_v2", "vgg", "vit_b", "quantized", "lraspp", "fcn", "r3d", "s3d", "swin3d",
        "mvit", "fasterrcnn", "ssdlite",
    )  # fmt: skip
    assert [family for family in families if f"every_torchvision_network[{family}" not in text] == []
