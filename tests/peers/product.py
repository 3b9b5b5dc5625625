"""Runnel on the command line: imports a file into a new data folder and asks it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))

import server  # noqa: E402
from questions import duration  # noqa: E402

TENANT = "shop"


class Runnel:
    """Embedded stores in a folder, opened anew by every command."""

    name = "Runnel"

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.place = ["--data-dir", str(folder), "--tenant", TENANT]

    def load(self, *files: Path, batch: int | None = None) -> dict:
        """Imports files and gives the summary."""
        more = [] if batch is None else ["--batch", str(batch)]
        return server.run("import", *map(str, files), *self.place, *more)

    def ask(self, steps: tuple[str, ...], window: int, *more: str) -> dict:
        """A funnel in the JSON mapping of the answer, in which 64-bit numbers are strings."""
        chosen = ["--steps", ",".join(steps), "--window", duration(window)]
        return server.run("ask", "funnel", *self.place, *chosen, *more)

    def reached(self, steps: tuple[str, ...], window: int) -> list[int]:
        return reached(self.ask(steps, window))


def reached(answer: dict) -> list[int]:
    """Units that reached each step; the JSON mapping leaves zeros out."""
    return [int(step.get("reached", 0)) for step in answer["steps"]]
