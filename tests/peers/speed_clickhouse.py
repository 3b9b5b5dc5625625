"""How fast ClickHouse answers the question, with an ordinary schema and with the best one that we found.

windowFunnel gives levels only: no states, no times, no quantiles. It is compared as it is, which is in its favour.
"""

import csv

from chdb import session
from load import Load
from measure import Measured, measure
from questions import DAY, SHOP
from sql import window_funnel

WINDOW = 7 * DAY
NAMES = [f"name = '{name}'" for name in SHOP]
KINDS = [f"kind = {kind}" for kind in range(1, len(SHOP) + 1)]
WANTED = f"name IN ({', '.join(repr(name) for name in SHOP)})"
# Timestamps of windowFunnel are unsigned integers.
NATURAL_TIME = "toUInt64(toUnixTimestamp64Milli(time))"

SCHEMAS = {
    # name: columns, what fills them, engine
    "ordinary schema": (
        "visitor String, time DateTime64(3), name LowCardinality(String), channel LowCardinality(String)",
        "visitor, time, name, channel",
        "MergeTree ORDER BY (visitor, time)",
    ),
    "small integers": (
        "visitor UInt32, time UInt32, kind UInt8, source UInt8",
        "number AS visitor, offset_ms AS time, kind, source",
        "MergeTree ORDER BY (visitor, time)",
    ),
    "small integers in memory": (
        "visitor UInt32, time UInt32, kind UInt8, source UInt8",
        "number AS visitor, offset_ms AS time, kind, source",
        "Memory",
    ),
}
SETTINGS = " SETTINGS max_threads = 2"
IN_ORDER = ", optimize_aggregation_in_order = 1"


def questions(schema: str) -> list[tuple[str, str, str]]:
    """(question, note, SQL) for a schema."""
    if schema == "ordinary schema":
        filtered = window_funnel(NAMES, WINDOW, NATURAL_TIME, where=WANTED)
        plain = window_funnel(NAMES, WINDOW, NATURAL_TIME, group="argMin(channel, time)")
        return [("funnel", "event filter", filtered), ("by channel", "", plain)]
    return [
        ("funnel", "", window_funnel(KINDS, WINDOW)),
        ("funnel", "event filter", window_funnel(KINDS, WINDOW, where="kind > 0")),
        ("by channel", "", window_funnel(KINDS, WINDOW, group="argMin(source, time)")),
    ]


def run(load: Load, repeats: int) -> list[Measured]:
    """Every schema and setting; the caller takes the best."""
    database = session.Session()

    def rows(sql: str) -> list[list[str]]:
        return list(csv.reader(database.query(sql, "CSV").bytes().decode().splitlines()))

    name = "ClickHouse " + rows("SELECT version()")[0][0]
    rows("CREATE DATABASE IF NOT EXISTS peers ENGINE = Atomic")
    found = []
    for schema, (columns, source, engine) in SCHEMAS.items():
        rows("DROP TABLE IF EXISTS peers.events SYNC")
        rows(f"CREATE TABLE peers.events ({columns}) ENGINE = {engine}")
        # One thread keeps the file's order, by visitor and time, also where the engine does not sort.
        rows(f"INSERT INTO peers.events SELECT {source} FROM file('{load.parquet}', Parquet) SETTINGS max_threads = 1, max_insert_threads = 1")
        sorts = engine.startswith("MergeTree")
        if sorts:
            rows("OPTIMIZE TABLE peers.events FINAL")
        for settings in (SETTINGS, SETTINGS + IN_ORDER) if sorts else (SETTINGS,):
            for question, note, sql in questions(schema):
                text = sql.replace("FROM events", "FROM peers.events") + settings
                result, times = measure(lambda text=text: rows(text), repeats)
                form = ", ".join(filter(None, (schema, note, "aggregation in order" if IN_ORDER in settings else "")))
                found.append(Measured(name, form, question, times, answer(question, result)))
    database.close()
    return found


def answer(question: str, rows: list[list[str]]) -> dict:
    """The counts in the form in which all answers are compared."""
    if question == "by channel":
        splits = ((int(split) if split.isdigit() else split, rest) for split, *rest in rows)
        return {"rows": {split: [int(count) for count in rest] for split, rest in splits}}
    return {"reached": [int(count) for count in rows[0]]}
