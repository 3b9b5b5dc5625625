"""How fast DuckDB answers the question, with the fastest exact SQL that we found.

ASOF joins from the far end: every event of a step finds the newest event of the step before whose chain has come that far, and carries
that chain's entry along. Two forms compete: one joins on visitor and time, the other on one 64-bit key of both. One pass of window
functions a step is exact as well, and more than ten times slower, so that only the comparison of counts runs it.
"""

import duckdb
from load import Load
from measure import Measured, measure
from questions import DAY, SHOP

WINDOW = 7 * DAY
STEPS = range(1, len(SHOP) + 1)


def chain(*, keyed: bool) -> str:
    """The relations l1…l6: events of a step that a chain reaches, with the newest such chain's entry."""
    # A key is visitor << 32 | time, so that one inequality orders by both; entries of another visitor are too far away or refused.
    event, same = ("key", "") if keyed else ("visitor, time", "e.visitor = b.visitor AND ")
    at, entry = ("key", "key") if keyed else ("time", "time")
    parts = [f"l1 AS MATERIALIZED (SELECT {event}, {entry} AS entry FROM events WHERE kind = 1)"]
    for step in STEPS[1:]:
        inside = f"e.{at} - b.entry <= {WINDOW}" + (" AND e.key >> 32 = b.entry >> 32" if keyed else "")
        columns = "e.key" if keyed else "e.visitor, e.time"
        parts.append(
            f"l{step} AS MATERIALIZED (SELECT {columns}, b.entry FROM (SELECT {event} FROM events WHERE kind = {step}) e"
            f" ASOF JOIN l{step - 1} b ON {same}e.{at} >= b.{at} WHERE {inside})"
        )
    return "WITH " + ", ".join(parts)


def visitor(keyed: bool) -> str:
    return "key >> 32" if keyed else "visitor"


def counts(*, keyed: bool) -> str:
    who = visitor(keyed)
    return f"{chain(keyed=keyed)} SELECT " + ", ".join(f"(SELECT count(DISTINCT {who}) FROM l{step})" for step in STEPS)


def with_times(*, keyed: bool) -> str:
    """Counts, and the median time to convert of the best chains: earliest completion, then latest entry."""
    who, at = visitor(keyed), "key" if keyed else "time"
    best = f"SELECT min({at}) - arg_min(entry, {at}) AS took FROM l{len(SHOP)} GROUP BY {who}"
    return f"{counts(keyed=keyed)}, (SELECT quantile_disc(took, 0.5) FROM ({best}))"


def by_channel(*, keyed: bool) -> str:
    who, at = visitor(keyed), "key" if keyed else "time"
    levels = " UNION ALL ".join(f"SELECT {who} AS who, {step} AS level FROM l{step}" for step in STEPS)
    columns = ", ".join(f"count(*) FILTER (level >= {step})" for step in STEPS)
    return (
        f"{chain(keyed=keyed)}, best AS (SELECT who, max(level) AS level FROM ({levels}) GROUP BY who),"
        f" touch AS (SELECT {who} AS who, arg_min(source, {at}) AS split FROM events GROUP BY 1)"
        f" SELECT split, {columns} FROM best JOIN touch USING (who) GROUP BY split ORDER BY split"
    )


def run(load: Load, repeats: int) -> list[Measured]:
    """Every form of every question; the caller takes the best."""
    database = duckdb.connect()
    database.execute("SET threads = 2")
    name = f"DuckDB {duckdb.__version__}"
    found = []
    for keyed in (False, True):
        database.execute(
            "CREATE OR REPLACE TABLE events AS SELECT kind, source, "
            + ("(number::UBIGINT << 32) | offset_ms AS key" if keyed else "number AS visitor, offset_ms AS time")
            + f" FROM '{load.parquet}'"
        )
        form = "ASOF joins on one key" if keyed else "ASOF joins"
        for question, sql in (("funnel", counts), ("with times", with_times), ("by channel", by_channel)):
            text = sql(keyed=keyed)
            rows, times = measure(lambda text=text: database.execute(text).fetchall(), repeats)
            found.append(Measured(name, form, question, times, answer(question, rows)))
    database.close()
    return found


def answer(question: str, rows: list[tuple]) -> dict:
    """The counts in the form in which all answers are compared."""
    if question == "by channel":
        return {"rows": {int(split): [int(count) for count in rest] for split, *rest in rows}}
    counted = [int(count) for count in rows[0]]
    found = {"reached": counted[: len(SHOP)]}
    return {**found, "median_ms": counted[len(SHOP)]} if question == "with times" else found
