"""The compose file, as data."""

import functools
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
OVERRIDE = DEPLOY / "compose.grafana.yaml"


@functools.cache
def load(path: Path = FILE) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def processes() -> dict[str, dict]:
    """The services that run the program."""
    return {name: one for name, one in load()["services"].items() if one.get("build")}


def secrets(service: dict) -> dict[str, str]:
    """The secrets of a service: the path in its container, and the name."""
    long = [{"source": one, "target": one} if isinstance(one, str) else one for one in service.get("secrets", [])]
    return {f"/run/secrets/{one['target']}": one["source"] for one in long}
