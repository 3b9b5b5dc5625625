"""The same funnels in other products: SQL for DuckDB and for ClickHouse (chdb runs it in the process).

Both read `events(visitor, time, name)`: time in milliseconds, every event once. Their answers mean the same as ours when no event
matches two steps; ClickHouse also wants visitors without ties, because its manual leaves their order open.
"""

import csv
from pathlib import Path

import duckdb
from chdb import session
from events import EventSet


def write_rows(events: EventSet, file: Path) -> Path:
    """Writes the distinct events of a set as CSV, for both products to load."""
    with file.open("w", encoding="utf-8", newline="") as text:
        out = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for visitor, journey in events.journeys.items():
            out.writerows((visitor, time, name) for time, name in journey)
    return file


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def asof_chain(columns: list[str], window: int) -> str:
    """DuckDB: every entry, joined to the next event of each further step. `columns` are conditions on an event."""
    parts = [f"l1 AS (SELECT visitor, time AS entry, time AS t1 FROM events WHERE {columns[0]})"]
    for number, condition in enumerate(columns[1:], start=2):
        before = f"l{number - 1}"
        kept = ", ".join(f"{before}.t{step}" for step in range(1, number))
        parts.append(
            f"l{number} AS (SELECT {before}.visitor, {before}.entry, {kept},"
            f" CASE WHEN e.time <= {before}.entry + {window} THEN e.time END AS t{number}"
            f" FROM {before} ASOF LEFT JOIN (SELECT visitor, time FROM events WHERE {condition}) e"
            f" ON {before}.visitor = e.visitor AND e.time >= {before}.t{number - 1})"
        )
    last = len(columns)
    level = " + ".join(f"(t{step} IS NOT NULL)::INT" for step in range(1, last + 1))
    counts = ", ".join(f"count(*) FILTER (level >= {step})" for step in range(1, last + 1))
    return (
        f"WITH {', '.join(parts)}, best AS (SELECT visitor, max({level}) AS level FROM l{last} GROUP BY visitor)"
        f" SELECT {counts} FROM best"
    )


def window_functions(columns: list[str], window: int, *, times: bool = False) -> str:
    """DuckDB: one pass of window functions a step, each carrying the newest entry whose chain has come that far.

    A frame by RANGE holds the events of the same instant too, so that ties favour the order of the steps.
    """
    over = "OVER (PARTITION BY visitor ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    inner = f"SELECT *, CASE WHEN {columns[0]} THEN time END AS s1 FROM events"
    for number, condition in enumerate(columns[1:], start=2):
        carried = f"SELECT *, max(s{number - 1}) {over} AS e{number - 1} FROM ({inner})"
        reached = f"({condition}) AND time - e{number - 1} <= {window}"
        inner = f"SELECT *, CASE WHEN {reached} THEN e{number - 1} END AS s{number} FROM ({carried})"
    last = len(columns)
    level = " ".join(f"WHEN count(s{step}) > 0 THEN {step}" for step in range(last, 0, -1))
    more = f", min(time) FILTER (s{last} IS NOT NULL) AS completion, arg_min(s{last}, time) AS entry" if times else ""
    counts = ", ".join(f"count(*) FILTER (level >= {step})" for step in range(1, last + 1))
    if times:
        counts += ", quantile_disc(completion - entry, 0.5)"
    return f"WITH best AS (SELECT visitor, CASE {level} ELSE 0 END AS level{more} FROM ({inner}) GROUP BY visitor) SELECT {counts} FROM best"


def window_funnel(columns: list[str], window: int, time: str = "time", where: str = "", group: str = "") -> str:
    """ClickHouse: its own aggregate function. With `group`, an aggregate per visitor that the counts are split by."""
    where = f" WHERE {where}" if where else ""
    split = f", {group} AS split" if group else ""
    levels = f"SELECT windowFunnel({window})({time}, {', '.join(columns)}) AS level{split} FROM events{where} GROUP BY visitor"
    counts = ", ".join(f"countIf(level >= {step})" for step in range(1, len(columns) + 1))
    return f"SELECT {'split, ' if group else ''}{counts} FROM ({levels})" + (" GROUP BY split ORDER BY split" if group else "")


class DuckDb:
    """An embedded DuckDB with one set of events."""

    name = f"DuckDB {duckdb.__version__}"

    def __init__(self, rows: Path):
        self.database = duckdb.connect()
        self.database.execute("SET threads = 2")
        columns = "{'visitor': 'VARCHAR', 'time': 'BIGINT', 'name': 'VARCHAR'}"
        self.database.execute(
            f"CREATE TABLE events AS FROM read_csv({quoted(str(rows))}, header = false, columns = {columns})"
        )

    def reached(self, steps: tuple[str, ...], window: int) -> list[int]:
        conditions = [f"name = {quoted(step)}" for step in steps]
        both = [
            list(self.database.execute(query).fetchone())
            for query in (asof_chain(conditions, window), window_functions(conditions, window))
        ]
        if both[0] != both[1]:
            raise AssertionError(f"DuckDB disagrees with itself: ASOF joins {both[0]}, window functions {both[1]}")
        return both[0]

    def close(self) -> None:
        self.database.close()


class ClickHouse:
    """ClickHouse in the process, with one set of events."""

    def __init__(self, rows: Path):
        self.session = session.Session()
        self.name = "ClickHouse " + self.query("SELECT version()")[0][0]
        self.query("CREATE DATABASE IF NOT EXISTS peers ENGINE = Atomic")
        self.query("DROP TABLE IF EXISTS peers.events")
        self.query(
            "CREATE TABLE peers.events (visitor String, time UInt64, name LowCardinality(String))"
            " ENGINE = MergeTree ORDER BY (visitor, time)"
        )
        schema = quoted("visitor String, time UInt64, name String")
        self.query(f"INSERT INTO peers.events SELECT * FROM file({quoted(str(rows))}, 'CSV', {schema})")

    def query(self, sql: str) -> list[list[str]]:
        text = self.session.query(sql, "CSV").bytes().decode()
        return list(csv.reader(text.splitlines()))

    def reached(self, steps: tuple[str, ...], window: int, *, tied: bool = True) -> list[int]:
        """With `tied` false, visitors of whom two events of the steps share a millisecond are left out."""
        conditions = [f"name = {quoted(step)}" for step in steps]
        names = ", ".join(map(quoted, steps))
        free = (
            f"SELECT visitor FROM events WHERE name IN ({names}) GROUP BY visitor HAVING count() = uniqExact(time)"
        )
        sql = window_funnel(conditions, window, where="" if tied else f"visitor IN ({free})")
        sql = sql.replace("FROM events", "FROM peers.events")
        return [int(count) for count in self.query(sql)[0]]

    def close(self) -> None:
        self.session.close()
