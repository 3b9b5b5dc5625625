#!/usr/bin/env python3
"""Asks the same funnels of a brute force, DuckDB, ClickHouse and Runnel, and sees that every count is equal.

Runnel also gets each set a second time, in another order, and in batches of other sizes: nothing may change. Its times to
convert are compared with the brute force's. Sets that this machine does not have are skipped, and the last lines say so.
"""

import argparse
import csv
import random
import sys
import tempfile
import time
from pathlib import Path

import brute
import events
from product import Runnel, reached, server
from questions import QUESTIONS, Question
from sql import ClickHouse, DuckDb, write_rows

# Quantiles come from a histogram with this relative error; durations are whole milliseconds.
RELATIVE_ERROR = 0.01


class Checks:
    """Counts what was compared and what differed."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def equal(self, what: str, found, expected) -> None:
        if found == expected:
            self.passed += 1
        else:
            self.failed += 1
            print(f"    DIFFERS {what}: {found}, expected {expected}", flush=True)

    def skip(self, what: str, why: str) -> None:
        self.skipped += 1
        print(f"  SKIPPED {what}: {why}", flush=True)


def shuffled(source: Path, target: Path) -> Path:
    """The same file with its rows in another order."""
    with events.open_text(source) as text:
        header, *rows = csv.reader(text)
    random.Random(7).shuffle(rows)
    with target.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return target


def check_times(checks: Checks, what: str, answer: dict, times: list[int]) -> None:
    """The median of the times to convert lies at its rank, within the histogram's error."""
    quantiles = answer.get("timeToConvert", {})
    checks.equal(f"{what}: number of times to convert", int(quantiles.get("n", 0)), len(times))
    if not times:
        return
    median = int(quantiles["p50Ms"])
    middle = (len(times) - 1) / 2
    low = times[max(0, int(middle) - 1)] * (1 - RELATIVE_ERROR) - 1
    high = times[min(len(times) - 1, int(middle) + 2)] * (1 + RELATIVE_ERROR) + 1
    checks.equal(f"{what}: median {median} within {low:.0f} and {high:.0f}", low <= median <= high, True)


def check_states(checks: Checks, what: str, answer: dict) -> None:
    """Every unit is in one state, and the states add up to the steps."""
    totals = {key: int(answer["totals"].get(key, 0)) for key in ("entered", "converted", "dropped", "excluded", "open")}
    states = sum(totals[key] for key in ("converted", "dropped", "excluded", "open"))
    counts = reached(answer)
    checks.equal(f"{what}: states sum to entries", (states, totals["entered"]), (counts[0], counts[0]))
    checks.equal(f"{what}: converted reached the last step", totals["converted"], counts[-1])


def check_set(checks: Checks, name: str, file: Path, folder: Path, *, with_runnel: bool) -> None:
    data = events.read(name, file)
    questions = QUESTIONS[name]
    print(f"{name}: {data.rows:,} rows, {data.events:,} events, {len(data.journeys):,} visitors", flush=True)
    expected: dict[Question, brute.Answer] = {}
    for question in questions:
        expected[question] = brute.answer(data.journeys, list(question.steps), question.window)
        if question.known:
            checks.equal(f"brute force, {question}", tuple(expected[question].reached), question.known)

    rows = write_rows(data, folder / f"{name}.rows.csv")
    for peer in (DuckDb(rows), ClickHouse(rows)):
        apart = 0
        for question in filter(lambda question: question.distinct, questions):
            found, reference = peer.reached(question.steps, question.window), expected[question].reached
            if found != reference and isinstance(peer, ClickHouse):
                # Only visitors without ties are promised to be equal: leave the others out on both sides.
                apart += 1
                free = {who: path for who, path in data.journeys.items() if not brute.tied(path, list(question.steps))}
                reference = brute.answer(free, list(question.steps), question.window).reached
                found = peer.reached(question.steps, question.window, tied=False)
            checks.equal(f"{peer.name}, {question}", found, reference)
        peer.close()
        note = f"; {apart} of them over visitors without ties only" if apart else ""
        print(f"  {peer.name}: {sum(question.distinct for question in questions)} funnels{note}", flush=True)

    if not with_runnel:
        return
    variants = {
        "imported": (file, None),
        "imported a second time": (file, None),
        "shuffled": (shuffled(file, folder / f"{name}.shuffled.csv"), None),
        "in batches of 137": (file, 137),
    }
    for number, (variant, (source, batch)) in enumerate(variants.items()):
        # The second import goes into the first one's folder, the others into new ones.
        product = Runnel(folder / f"{name}.{'first' if number < 2 else number}")
        product.load(source, batch=batch)
        for question in questions:
            what = f"Runnel, {variant}, {question}"
            answer = product.ask(question.steps, question.window)
            checks.equal(what, reached(answer), expected[question].reached)
            check_times(checks, what, answer, expected[question].times_to_convert)
            check_states(checks, what, answer)
        print(f"  Runnel, {variant}: {len(questions)} funnels", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(QUESTIONS), help="which sets, separated by commas")
    parser.add_argument("--visitors", type=int, default=3_000, help="size of the simulated set")
    parser.add_argument("--without-runnel", action="store_true", help="compare the others only")
    chosen = parser.parse_args()
    if not chosen.without_runnel and not server.binary().is_file():
        parser.error(f"{server.binary()} does not exist; build it, or name another one in RUNNEL_BIN")
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="runnel-equality-") as temporary:
        folder = Path(temporary)
        for name in chosen.sets.split(","):
            file = events.simulate(folder / "simulated.csv", chosen.visitors) if name == "simulated" else events.real_set(name)
            if file is None:
                checks.skip(name, f"{events.data_folder() / name} is not on this machine")
                continue
            start = time.perf_counter()
            check_set(checks, name, file, folder, with_runnel=not chosen.without_runnel)
            print(f"  {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped")
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main())
