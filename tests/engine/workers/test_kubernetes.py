"""The manifest for KubeRay in the manual is what KubeRay and tickdsl take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tickdsl.cli import build_parser
from tickdsl.engine.workers.ray_options import RayOptions

yaml = pytest.importorskip("yaml")
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "several-machines.md"


@pytest.fixture
def manifest() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    parsed: dict[str, Any] = yaml.safe_load(block)
    return parsed


def test_the_manifest_is_a_job_with_a_head_and_workers_that_share_image_and_volume(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    cluster = manifest["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for pod, container in zip(pods, containers, strict=True):
        (volume,) = pod["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/shared"}]
    head, worker = (container["resources"]["limits"] for container in containers)
    assert "nvidia.com/gpu" not in head and worker["nvidia.com/gpu"] == "1"
    # A container that is given a number where Kubernetes wants a text is refused.
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())


def test_its_entrypoint_is_a_command_of_tickdsl(manifest: dict[str, Any]) -> None:
    folder, _, command = manifest["spec"]["entrypoint"].partition(" && ")
    assert folder == "cd /shared"
    program, *arguments = shlex.split(command)
    assert program == "tickdsl"
    assert build_parser().parse_args(arguments).workers == RayOptions("auto")
