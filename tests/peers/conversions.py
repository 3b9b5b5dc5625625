#!/usr/bin/env python3
"""Counts the conversions of a template, sessions and which micro-conversions go before the purchase with DuckDB and with Runnel.

DuckDB reads the file itself and knows nothing of Runnel but the catalogue that it exported. Every number must be equal.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import events
from equality import Checks, shuffled
from product import Runnel, server

GAP = 30 * 60_000
PAGES = ("page_view", "pageview", "$pageview", "page", "screen_view", "Page Viewed")
HORIZONS = {"1h": 3_600_000, "24h": 86_400_000}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def named(names) -> str:
    return "name IN (" + ", ".join(quoted(name) for name in names) + ")"


class DuckDb:
    """Events of the file with their sessions: visitor, time, name, order inside the visitor, session."""

    def __init__(self, file: Path, columns: tuple[str, ...] = ("page", "channel", "device")):
        self.base = duckdb.connect()
        more = "".join(f", {column}" for column in columns)
        self.base.execute(
            f"""
            CREATE TABLE events AS
            WITH rows AS (
                SELECT DISTINCT ON (visitor_id, occurred_at, event_id)
                    visitor_id AS visitor, epoch_ms(occurred_at::TIMESTAMP) AS time, name, event_id{more}
                FROM read_csv({quoted(str(file))}, all_varchar = true)
            ), ordered AS (
                SELECT *, row_number() OVER (PARTITION BY visitor ORDER BY time, event_id) AS number,
                    time - lag(time) OVER (PARTITION BY visitor ORDER BY time, event_id) AS gap
                FROM rows
            )
            SELECT *, count(*) FILTER (gap IS NULL OR gap > {GAP}) OVER (
                PARTITION BY visitor ORDER BY number ROWS UNBOUNDED PRECEDING) AS session
            FROM ordered
            """
        )

    def one(self, sql: str) -> tuple[int, ...]:
        return tuple(int(value) for value in self.base.execute(sql).fetchone())

    def rows(self, sql: str) -> list[tuple]:
        return self.base.execute(sql).fetchall()

    def mark(self, conversion: dict) -> None:
        """Makes the table `marks` of the events at which a conversion happens and counts."""
        ((kind, rule),) = conversion["rule"].items()
        if kind == "event":
            sql = f"SELECT * FROM events WHERE {named(match['event'] for match in rule['anyOf'])}"
        elif kind == "session" and "durationMs" in rule:
            sql = f"""SELECT * EXCLUDE (start) FROM (SELECT *, min(time) OVER (PARTITION BY visitor, session) AS start
                FROM events) WHERE time - start >= {rule['durationMs']}
                QUALIFY row_number() OVER (PARTITION BY visitor, session ORDER BY number) = 1"""
        elif kind == "session":
            sql = f"""SELECT * FROM events WHERE {named(PAGES)}
                QUALIFY row_number() OVER (PARTITION BY visitor, session ORDER BY number) = {rule['pages']}"""
        elif kind == "visit" and "number" in rule:
            sql = f"""SELECT * FROM events WHERE session = {rule['number']}
                QUALIFY row_number() OVER (PARTITION BY visitor ORDER BY number) = 1"""
        else:
            sql = f"""SELECT * FROM events WHERE gap > {GAP} AND gap <= {rule['returningWithinMs']}"""
        if conversion.get("counting") == "COUNTING_ONCE_A_VISITOR":
            sql = f"SELECT * FROM ({sql}) QUALIFY row_number() OVER (PARTITION BY visitor ORDER BY number) = 1"
        self.base.execute(f"CREATE OR REPLACE TABLE marks AS {sql}")

    def counts(self) -> tuple[int, ...]:
        return self.one("SELECT count(*), count(DISTINCT visitor), count(DISTINCT (visitor, session)) FROM marks")

    def reached(self, goal: str, horizon: int) -> tuple[int, int, int | None]:
        """Visitors, those who reach the goal within the horizon after their first time, and the median time of these."""
        return self.base.execute(
            f"""
            WITH first AS (SELECT * FROM marks QUALIFY row_number() OVER (PARTITION BY visitor ORDER BY number) = 1),
            goals AS (SELECT visitor, time, number FROM events WHERE {goal}),
            reached AS (
                SELECT first.visitor, min(goals.time - first.time) AS took
                FROM first LEFT JOIN goals ON goals.visitor = first.visitor AND goals.number <> first.number
                    AND goals.time >= first.time AND goals.time <= first.time + {horizon}
                GROUP BY first.visitor
            )
            SELECT count(*), count(took), quantile_disc(took, 0.5) FROM reached
            """
        ).fetchone()


def number(value) -> int:
    return int(value or 0)


def compare(checks: Checks, file: Path, runnel: Runnel, peer: DuckDb) -> None:
    ask = lambda *what: server.run("ask", *what, *runnel.place)  # noqa: E731
    server.run("catalog", "apply", "--template", "shop", *runnel.place)
    again = server.run("catalog", "apply", "--template", "shop", *runnel.place)
    unchanged = {change["action"] for change in again["changes"]}
    checks.equal("applying a template again changes nothing", unchanged, {"CATALOG_ACTION_UNCHANGED"})
    exported = subprocess.run(
        [str(server.binary()), "catalog", "export", *runnel.place], capture_output=True, text=True, check=True
    )
    catalogue = {one["name"]: one for one in json.loads(exported.stdout)["conversions"]}

    table = ask("conversions")
    found = {one["conversion"]["name"]: one for one in table["conversions"]}
    checks.equal("conversions in the table", set(found), set(catalogue))
    everyone = peer.one("SELECT count(DISTINCT visitor), count(DISTINCT (visitor, session)) FROM events")
    checks.equal("visitors and sessions", (number(table["visitors"]), number(table["sessions"])), everyone)
    goal = named(match["event"] for match in catalogue["purchase"]["rule"]["event"]["anyOf"])
    answers = {name: ask("micro-to-macro", "purchase", "--horizon", name) for name in HORIZONS}
    before = {
        name: {one["micro"]["name"]: one for one in answer["micros"]} for name, answer in answers.items()
    }
    for name, conversion in catalogue.items():
        peer.mark(conversion)
        counts = tuple(number(found[name].get(key)) for key in ("events", "visitors", "sessions"))
        checks.equal(f"{name}: events, visitors, sessions", counts, peer.counts())
        if conversion["role"] != "ROLE_MICRO":
            continue
        for horizon, ms in HORIZONS.items():
            one = before[horizon][name]
            visitors, reached, median = peer.reached(goal, ms)
            mine = (number(one.get("visitors")), number(one.get("reached")))
            checks.equal(f"{name}: visitors, and who buys within {horizon}", mine, (visitors, reached))
            if reached:
                shown = number(one["timeToMacro"]["p50Ms"])
                near = abs(shown - median) <= max(0.01 * median, 1) or reached % 2 == 0
                checks.equal(f"{name}: median {shown} beside {median}", near, True)

    for column in ("channel", "device"):
        rows = peer.rows(
            f"SELECT {column}, count(*) FROM (SELECT * FROM events WHERE gap IS NULL OR gap > {GAP}) GROUP BY 1"
        )
        for by in (column, f"session.{column}"):
            split = ask("sessions", "--by", by, "--top", "1000")
            mine = {
                row["value"].get("value", {}).get("stringValue"): number(row["counts"]["sessions"])
                for row in split["rows"]
            }
            checks.equal(f"sessions by {by}", mine, dict(rows))
    total = ask("sessions")["total"]
    single = peer.one(
        "SELECT count(*), count(*) FILTER (n = 1) FROM (SELECT count(*) AS n FROM events GROUP BY visitor, session)"
    )
    checks.equal("sessions, single events", (number(total["sessions"]), number(total["singleEvent"])), single)
    hours = ask("trend", "@purchase,@cart", "--interval", "hour")
    for at, name in enumerate(("purchase", "cart")):
        peer.mark(catalogue[name])
        by_hour = dict(peer.rows("SELECT time // 3600000, count(*) FROM marks GROUP BY 1"))
        points = hours["series"][at]["points"]
        starts = [int(bucket["fromMs"]) // 3_600_000 for bucket in hours["buckets"]]
        mine = {start: number(one.get("events")) for start, one in zip(starts, points) if number(one.get("events"))}
        checks.equal(f"{name} by hour", mine, by_hour)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="runnel-conversions-") as temporary:
        folder = Path(temporary)
        file = events.real_set("gmerch-ga360")
        if file is None:
            checks.skip("gmerch-ga360", f"{events.data_folder()} is not on this machine")
        else:
            peer = DuckDb(file)
            for name, source, batch in (
                ("as it is", file, None),
                ("shuffled", shuffled(file, folder / "shuffled.csv"), 137),
            ):
                runnel = Runnel(folder / name.replace(" ", "-"))
                runnel.load(source, batch=batch)
                before = checks.passed
                compare(checks, source, runnel, peer)
                print(f"gmerch-ga360, {name}: {checks.passed - before} numbers equal", flush=True)
            known = peer.one(
                "SELECT count(*), count(DISTINCT visitor) FROM events WHERE name = 'purchase'"
            ) + peer.one("SELECT count(DISTINCT (visitor, session)) FROM events")
            checks.equal("purchases, buyers, sessions", known, (45, 42, 2513))
    print(f"{checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped")
    return 1 if checks.failed or not (checks.passed or checks.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
