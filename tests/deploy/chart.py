"""Renders the chart, and gives what is in it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "chart" / "runnel"
VALUE_SETS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
SERVICES = ("gateway", "ingest", "funnel", "segmentation")
NAMESPACE = "shop"
# Seconds that a process may need when its open calls are over.
CLOSING = 5


class RenderError(Exception):
    """What helm says against these values."""


@dataclass
class Pod:
    """A pod as one of the rendered objects would make it."""

    service: str
    labels: dict
    spec: dict

    @property
    def container(self) -> dict:
        (container,) = self.spec["containers"]
        return container

    @property
    def variables(self) -> dict:
        return {variable["name"]: variable for variable in self.container["env"]}

    @property
    def ports(self) -> set[int]:
        return {port["containerPort"] for port in self.container.get("ports", [])}


@dataclass
class Rendered:
    """All objects of a release."""

    name: str
    objects: list[dict]

    def of(self, kind: str) -> list[dict]:
        return [one for one in self.objects if one["kind"] == kind]

    def named(self, kind: str, name: str) -> dict:
        (one,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return one

    @property
    def pods(self) -> list[Pod]:
        templates = [one["spec"]["template"] for one in self.objects if "template" in one.get("spec", {})]
        return [
            Pod(
                template["metadata"]["labels"]["app.kubernetes.io/component"],
                template["metadata"]["labels"],
                template["spec"],
            )
            for template in templates
        ]

    def pod(self, service: str) -> Pod:
        (pod,) = [pod for pod in self.pods if pod.service == service]
        return pod


def values(name: str) -> Path:
    return CHART / "ci" / f"{name}.yaml"


def render(helm: Path, name: str, *arguments: str) -> Rendered:
    """Renders a set of values; further arguments go to helm."""
    command = [helm, "template", "rel", CHART, "--namespace", NAMESPACE, "--values", values(name), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RenderError(done.stderr.strip())
    return Rendered(name, [one for one in yaml.safe_load_all(done.stdout) if one])
