#!/usr/bin/env python3
"""Finds the members of segments with DuckDB and with Runnel, in two real event logs, as of several instants. Every member must be the same."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import events
from conversions import DuckDb, named
from equality import Checks
from product import Runnel, server

MINUTE = 60_000
DAY = 24 * 60 * MINUTE

# Per log: what people look at, what they do, what they do after that, and what is the goal; and how long that takes.
LOGS = {
    "gmerch-ga360": (("view_item", "add_to_cart", "begin_checkout", "purchase"), 30 * MINUTE),
    "bpi2012-loan": (("A_SUBMITTED", "A_ACCEPTED", "O_SENT", "A_ACTIVATED"), 7 * DAY),
}


class Peer(DuckDb):
    """Visitors by conditions, each as a query for those of whom it holds."""

    def __init__(self, file: Path):
        super().__init__(file, columns=())

    def happened(self, name: str, now: int, least: int, most: int, within: int) -> str:
        return f"""SELECT visitor FROM events WHERE time < {now} GROUP BY visitor
            HAVING count(*) FILTER ({named([name])} AND time >= {now - within}) BETWEEN {least} AND {most}"""

    def absent(self, after: str, without: str, now: int, length: int) -> str:
        return f"""SELECT visitor FROM events WHERE time < {now} GROUP BY visitor
            HAVING max(time) FILTER ({named([after])}) < {now - length}
            AND coalesce(max(number) FILTER ({named([without])}), 0) < max(number) FILTER ({named([after])})"""

    def sequence(self, names: tuple[str, ...], now: int, window: int) -> str:
        tables = ", ".join(f"(SELECT * FROM events WHERE {named([name])} AND time < {now}) AS e{at}" for at, name in enumerate(names))
        follow = [f"e{at}.visitor = e0.visitor AND e{at}.time >= e{at - 1}.time" for at in range(1, len(names))]
        last = f"e{len(names) - 1}.time <= e0.time + {window}"
        return f"SELECT DISTINCT e0.visitor FROM {tables} WHERE {' AND '.join([*follow, last])}"

    def members(self, sql: str) -> set[str]:
        return {visitor for (visitor,) in self.rows(f"SELECT DISTINCT visitor FROM ({sql})")}


def duration(ms: int) -> str:
    return f"{ms}ms"


def found(runnel: Runnel, now: int, *asked: str) -> list[str]:
    command = [str(server.binary()), "ask", "segment", *runnel.place, *asked, "--as-of", str(now), "--members"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return listed.stdout.split()


def compare(checks: Checks, name: str, runnel: Runnel, peer: Peer) -> None:
    (look, act, follow, goal), length = LOGS[name]
    first, last = peer.one("SELECT min(time), max(time) FROM events")
    whole = last - first + 1
    exact = peer.one(f"SELECT max(time) FROM events WHERE {named([act])}")[0]
    # Among them one at which an event is exactly so old, and the one after.
    for now in (first + whole // 3, first + 2 * whole // 3, exact + length, exact + length + 1, last + 1, last + 40 * DAY):
        conditions = {
            f"{look} twice or more": (
                ("--did", f"{look}:2"),
                peer.happened(look, now, 2, 1_000_000, 366 * DAY),
            ),
            f"{act} once or twice within": (
                ("--did", f"{act}:1-2", "--within", duration(length)),
                peer.happened(act, now, 1, 2, length),
            ),
            f"no {goal}": (("--did-not", goal), peer.happened(goal, now, 0, 0, 366 * DAY)),
            f"{act} without {goal}": (
                ("--after", act, "--without", goal, "--for", duration(length)),
                peer.absent(act, goal, now, length),
            ),
            f"{look}, {act}, {follow}": (
                ("--steps", f"{look},{act},{follow}", "--window", duration(length)),
                peer.sequence((look, act, follow), now, length),
            ),
            f"{look}, {act}, but not {follow}": (
                ("--steps", f"{look},{act},{follow}", "--window", duration(length), "--reached", "2", "--not-reached", "3"),
                f"{peer.sequence((look, act), now, length)} EXCEPT {peer.sequence((look, act, follow), now, length)}",
            ),
        }
        for what, (asked, sql) in conditions.items():
            mine, theirs = found(runnel, now, *asked), peer.members(sql)
            checks.equal(f"{name}, as of {now}: {what}: each once", len(mine), len(set(mine)))
            checks.equal(f"{name}, as of {now}: {what}", set(mine), theirs)
        # Several at once: what all of them have.
        both = peer.members(peer.happened(look, now, 2, 1_000_000, 366 * DAY)) & peer.members(
            peer.happened(act, now, 1, 2, 366 * DAY)
        )
        mine = found(runnel, now, "--did", f"{look}:2", "--did", f"{act}:1-2")
        checks.equal(f"{name}, as of {now}: both", set(mine), both)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="runnel-segments-") as temporary:
        for name in LOGS:
            file = events.real_set(name)
            if file is None:
                checks.skip(name, f"{events.data_folder()} is not on this machine")
                continue
            runnel, peer, before = Runnel(Path(temporary) / name), Peer(file), checks.passed
            runnel.load(file)
            compare(checks, name, runnel, peer)
            print(f"{name}: {checks.passed - before} numbers equal", flush=True)
    print(f"{checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped")
    return 1 if checks.failed or not (checks.passed or checks.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
