"""The event sets that peers are compared on, and how they are read.

A set is a CSV file (gzip or plain) with the columns event_id, visitor_id, occurred_at, name and properties. The three
real sets lie beside the repository, in ../shared/data, or where RUNNEL_DATA says; the simulated one is made here.
"""

import csv
import gzip
import os
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def data_folder() -> Path:
    """Where the real event sets lie, whether or not they are there."""
    named = os.environ.get("RUNNEL_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def real_set(name: str) -> Path | None:
    """The file of a real event set, or None when this machine does not have it."""
    file = data_folder() / name / "events.csv.gz"
    return file if file.is_file() else None


def simulate(output: Path, visitors: int, seed: int = 1, *, duplicates: bool = True) -> Path:
    """Makes a file of simulated events; with the same arguments always the same bytes. Uses the built example where there is one."""
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "simulate"
    build = ["cargo", "run", "--release", "--quiet", "-p", "runnel-simulate", "--example", "simulate", "--"]
    command = [str(built)] if built.is_file() else build
    command += ["--visitors", str(visitors), "--seed", str(seed), "--format", "csv", "--output", str(output)]
    if not duplicates:
        command += ["--duplicates", "0"]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    return output


def milliseconds(occurred_at: str) -> int:
    """RFC 3339 in UTC with milliseconds, as milliseconds since the Unix epoch."""
    instant = datetime.fromisoformat(occurred_at.replace("Z", "+00:00"))
    since = instant - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


@dataclass
class EventSet:
    """A set in memory: for each visitor the (time in ms, name) of its distinct events, in order of time."""

    name: str
    file: Path
    journeys: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    rows: int = 0

    @property
    def events(self) -> int:
        return sum(len(journey) for journey in self.journeys.values())

    def names(self) -> Counter:
        return Counter(name for journey in self.journeys.values() for _, name in journey)


def open_text(file: Path):
    """Opens a CSV file as text, whether or not it is compressed."""
    opener = gzip.open if file.suffix == ".gz" else open
    return opener(file, "rt", encoding="utf-8", newline="")


def read(name: str, file: Path) -> EventSet:
    """Reads a set. An event counts once: its identity is visitor, time and event id."""
    result = EventSet(name, file)
    seen = set()
    with open_text(file) as text:
        for row in csv.DictReader(text):
            result.rows += 1
            time = milliseconds(row["occurred_at"])
            identity = (row["visitor_id"], time, row["event_id"])
            if identity in seen:
                continue
            seen.add(identity)
            result.journeys.setdefault(row["visitor_id"], []).append((time, row["name"]))
    for journey in result.journeys.values():
        journey.sort()
    return result
