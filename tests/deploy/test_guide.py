"""The guide and the comments of deploy/ say the numbers that the source has."""

import re

import chart
import compose
import source
import yaml

GUIDE = (chart.ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
FIGURES = (chart.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
VALUES = (chart.CHART / "values.yaml").read_text(encoding="utf-8")


def test_how_long_open_calls_get():
    drain = source.drain()
    assert f"then gives open calls {drain} s." in GUIDE
    assert f"A process lets open calls finish for {drain} s," in VALUES
    assert f"Longer than the {drain} s that open calls get" in compose.FILE.read_text(encoding="utf-8")


def test_the_oldest_redis():
    major, minor = re.findall(r"\d+", source.constant("crates/storage/src/hot/node.rs", "OLDEST"))
    assert f"one Redis ({major}.{minor} or newer)" in GUIDE
    assert f"# Redis {major}.{minor} or newer" in VALUES


def test_the_settings_of_postgresql_are_those_that_are_measured():
    measured = dict(re.findall(r"-c (\w+)=(\w+)", source.constant("services/runnel/benches/cluster.rs", "SETTINGS")))
    table = re.search(r"(?s)### Settings of PostgreSQL\n.*?\n\n(\|.*?)\n\n", GUIDE).group(1)
    said = {}
    for row in table.splitlines()[2:]:
        names, value = (re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:3])
        said |= dict.fromkeys(names, value[0])
    assert said == measured
    assert all(f"`{name}={value}`" in FIGURES for name, value in measured.items())


def test_the_migration_by_hand_names_everybody_whom_the_chart_s_names(minimal):
    named = dict(re.findall(r'(RUNNEL_POSTGRES\w*)="\$\(address (\w+)\)"', GUIDE))
    assert "runnel migrate\n```" in GUIDE
    assert named == {
        name: variable["valueFrom"]["secretKeyRef"]["key"]
        for name, variable in minimal.pod("migrate").variables.items()
        if name.startswith("RUNNEL_POSTGRES")
    }


def test_how_large_a_tenant_the_limits_are_enough_for():
    bytes_an_event = int(re.search(r"and (\d+) bytes for each event of the largest tenant;", GUIDE).group(1))
    values = yaml.safe_load(VALUES)
    millions = []
    for service in ("funnel", "segmentation"):
        limit = int(values[service]["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
        millions.append(int((limit - (values[service]["memoryMb"] << 20) * 5 // 4) / bytes_an_event / 1e6))
    said = re.search(r"a tenant of (\d+)\s+million events in funnel and of (\d+) million in segmentation", GUIDE)
    assert list(map(int, said.groups())) == millions
    assert VALUES.count(f"a quarter more, and {bytes_an_event} bytes for each event of the largest tenant") == 2
    assert list(map(int, re.findall(r"# .*?(\d+) million events", VALUES))) == millions
