"""The guide and the comments of deploy/ say the numbers that the source has."""

import re

import chart
import compose
import source

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
