"""What the program measures, and what dashboard and rules ask for."""

import json
import re
from dataclasses import dataclass

import chart
import yaml

ROOT = chart.ROOT
ALERTS = chart.CHART / "files" / "alerts.yaml"
DASHBOARD = chart.CHART / "files" / "dashboard.json"
SOURCE = ROOT / "crates" / "chassis" / "src" / "metrics.rs"

# What Prometheus or the scrape configuration adds.
ADDED_METRICS = {"up"}
ADDED_LABELS = {"job", "component", "namespace", "instance", "le"}
# Words of PromQL that stand where a metric or a label could.
WORDS = {"by", "and", "or", "unless", "offset", "without", "on", "ignoring", "bool"}


@dataclass
class Question:
    """What an expression names."""

    metrics: set[str]
    labels: set[str]
    # Values that a label is compared with.
    values: set[tuple[str, str]]


def read(expression: str) -> Question:
    """Takes an expression apart, as far as names go."""
    labels, values = set(), set()
    for inside in re.findall(r"\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside):
            labels.add(label)
            alternatives = value.split("|") if "~" in operator else [value]
            values |= {
                (label, one) for one in alternatives if not re.search(r"[.*$]", one) or "/" in one and "*" not in one
            }
    for inside in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in inside.split(",")}
    bare = re.sub(r'\{[^}]*\}|\[[^]]*\]|"[^"]*"|\b(?:by|without)\s*\([^)]*\)', " ", expression)
    metrics = {name for name in re.findall(r"\b[a-z_]\w*\b(?!\s*\()", bare) if name not in WORDS}
    return Question(metrics, labels, values)


def questions() -> dict[str, Question]:
    """Every expression of the alerts and of the dashboard, by where it is."""
    found = {}
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            found[rule["alert"]] = read(rule["expr"])
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = read(target["expr"])
    return found


def _constants() -> set[str]:
    return set(re.findall(r'pub const \w+: &str = "(\w+)";', SOURCE.read_text(encoding="utf-8")))


def metrics() -> set[str]:
    """The metrics of the program, without what a histogram adds to its name."""
    return {name for name in _constants() if name.startswith(("runnel_", "process_"))}


def labels() -> set[str]:
    """The labels of the program's metrics."""
    return _constants() - metrics()


def base(name: str) -> str:
    """A metric's own name."""
    short = re.sub(r"_(bucket|sum|count)$", "", name)
    return short if short.endswith("_seconds") else name


def literals() -> set[str]:
    """Every string in the program's sources."""
    files = [*(ROOT / "crates").rglob("src/**/*.rs"), *(ROOT / "services").rglob("src/**/*.rs")]
    return {text for file in files for text in re.findall(r'"([^"\n]*)"', file.read_text(encoding="utf-8"))}
