"""Dashboard and alerts ask for what the program measures, every alert is explained, and fires when it should."""

import json
import re
import subprocess
from pathlib import Path

import chart
import compose
import pytest
import telemetry
import yaml

SCENARIOS = Path(__file__).resolve().parent / "alerts.yaml"
GUIDE = chart.ROOT / "docs" / "deploy.md"


def rules() -> dict[str, dict]:
    groups = yaml.safe_load(telemetry.ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_metric_and_label_is_the_program_s():
    for where, question in telemetry.questions().items():
        unknown = {telemetry.base(name) for name in question.metrics} - telemetry.metrics() - telemetry.ADDED_METRICS
        assert not unknown, f"{where}: no metric {sorted(unknown)}"
        unknown = question.labels - telemetry.labels() - telemetry.ADDED_LABELS
        assert not unknown, f"{where}: no label {sorted(unknown)}"


def test_every_value_of_a_label_is_one_that_the_program_writes():
    known = telemetry.literals() | {text.removeprefix("/") for text in telemetry.literals()}
    known |= {"runnel", *chart.SERVICES}
    for where, question in telemetry.questions().items():
        unknown = {(label, value) for label, value in question.values if value not in known}
        assert not unknown, f"{where}: never written: {sorted(unknown)}"


def test_what_is_measured_is_shown():
    shown = {telemetry.base(name) for question in telemetry.questions().values() for name in question.metrics}
    assert telemetry.metrics() <= shown


def test_names_of_an_expression_are_found():
    found = telemetry.read(
        'sum by (le, code) (rate(a_total{x="1",y=~"UP|DOWN"}[5m])) / b_seconds > 0.5 and c unless d offset 1h'
    )
    assert found.metrics == {"a_total", "b_seconds", "c", "d"}
    assert found.labels == {"le", "code", "x", "y"}
    assert found.values == {("x", "1"), ("y", "UP"), ("y", "DOWN")}


def test_promtool_finds_no_fault(promtool):
    done = subprocess.run([promtool, "check", "rules", telemetry.ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should(promtool):
    done = subprocess.run([promtool, "test", "rules", SCENARIOS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways():
    tried = {}
    for scenario in yaml.safe_load(SCENARIOS.read_text(encoding="utf-8"))["tests"]:
        for one in scenario["alert_rule_test"]:
            tried.setdefault(one["alertname"], set()).add(bool(one.get("exp_alerts")))
    assert tried == {name: {True, False} for name in rules()}


def test_every_alert_is_explained():
    guide = GUIDE.read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^#+ (Runnel[A-Z]\w+)$", guide)
    assert sorted(headings) == sorted(rules())
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/deploy.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_dashboard_is_whole():
    dashboard = json.loads(telemetry.DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    identities = [panel["id"] for panel in panels]
    assert len(identities) == len(set(identities))
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", json.dumps(panels)))
    assert used == variables


def test_compose_and_chart_show_the_same_labels(full):
    (monitor,) = full.of("ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    labels = {one["targetLabel"]: one for one in endpoint["relabelings"]}
    assert labels["job"]["replacement"] == "runnel" and "component" in labels
    assert endpoint["honorLabels"] and endpoint["path"] == "/metrics"
    selected = monitor["spec"]["selector"]["matchLabels"]
    scraped = [one for one in full.of("Service") if selected.items() <= one["metadata"]["labels"].items()]
    components = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in scraped]
    assert sorted(components) == sorted(chart.SERVICES), "each process is read once"
    for one in scraped:
        assert endpoint["port"] in {port["name"] for port in one["spec"]["ports"]}

    prometheus = yaml.safe_load((compose.DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "runnel" and job["honor_labels"]
    assert [one["target_label"] for one in job["relabel_configs"]] == ["component"]
    (found,) = job["dns_sd_configs"]
    assert sorted(found["names"]) == sorted(chart.SERVICES)
    for name in found["names"]:
        assert compose.processes()[name]["environment"]["RUNNEL_OPS_LISTEN"] == f"0.0.0.0:{found['port']}"


def test_the_operator_gets_the_same_rules(full):
    (rule,) = full.of("PrometheusRule")
    assert rule["spec"] == yaml.safe_load(telemetry.ALERTS.read_text(encoding="utf-8"))
    (dashboard,) = full.of("ConfigMap")
    assert json.loads(dashboard["data"]["runnel.json"]) == json.loads(telemetry.DASHBOARD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("planted", ["runnel_commit_total", "runnel_commits_seconds_bucket"])
def test_a_metric_that_is_not_there_is_found(planted):
    assert telemetry.base(planted) not in telemetry.metrics()
