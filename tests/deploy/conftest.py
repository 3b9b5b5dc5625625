"""The programs, the rendered chart and the command line that the checks of deploy/ look at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import chart  # noqa: E402
import command_line  # noqa: E402
import tools  # noqa: E402


def _found(find):
    try:
        return find()
    except tools.Unavailable as why:
        if tools.in_ci():
            pytest.fail(str(why))
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def helm():
    return _found(tools.helm)


@pytest.fixture(scope="session")
def promtool():
    return _found(tools.promtool)


@pytest.fixture(scope="session")
def program():
    """The program under test."""
    path = command_line.binary()
    if not path.is_file():
        pytest.fail(f"{path} does not exist; build it with: cargo build --release -p runnel")
    return path


@pytest.fixture(scope="session", params=chart.VALUE_SETS)
def rendered(request, helm):
    """The chart with one of its sets of values, each in turn."""
    return chart.render(helm, request.param)


@pytest.fixture(scope="session")
def full(helm):
    """The chart with everything switched on."""
    return chart.render(helm, "full")


@pytest.fixture(scope="session")
def minimal(helm):
    """The chart with nothing but what must be said."""
    return chart.render(helm, "minimal")
