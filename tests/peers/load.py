"""The events of the speed comparison: simulated once, kept as CSV for Runnel and as Parquet for the others.

The Parquet file has both schemas side by side, and is sorted by visitor and time: what a team would store as it comes (visitor
as text, time as a timestamp, name as text) and what one stores who tunes for this question (small integers).
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import events
from questions import SHOP

# Milliseconds since here fit 32 bits for 49 days.
ORIGIN = 1_767_225_600_000  # 2026-01-01T00:00:00Z
CHANNELS = ["organic", "direct", "paid_search", "social", "email", "referral", "affiliate"]


@dataclass(frozen=True)
class Load:
    """Files, and how much is in them."""

    csv: Path
    parquet: Path
    events: int
    visitors: int


def kind_of(name: str) -> int:
    """The code of a step's event; every other event has 0."""
    return SHOP.index(name) + 1


def case(column: str, values: list[str]) -> str:
    arms = " ".join(f"WHEN '{value}' THEN {code}" for code, value in enumerate(values, start=1))
    return f"CASE {column} {arms} ELSE 0 END::UTINYINT"


def prepare(folder: Path, visitors: int) -> Load:
    """Makes the files for that many visitors, unless they are there from an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    csv, parquet = folder / f"events-{visitors}.csv", folder / f"events-{visitors}.parquet"
    if not csv.exists():
        # A file gets its name when it is whole, so that a broken run leaves nothing that a later one trusts.
        events.simulate(csv.with_suffix(".part"), visitors, duplicates=False).replace(csv)
    database = duckdb.connect()
    database.execute("SET threads = 2")
    if not parquet.exists() or parquet.stat().st_mtime < csv.stat().st_mtime:
        part = parquet.with_suffix(".part")
        database.execute(
            f"CREATE TABLE raw AS SELECT visitor_id AS visitor, epoch_ms(occurred_at) AS at_ms, name, sequence, channel"
            f" FROM read_csv('{csv}', header = true, all_varchar = true, types = {{'occurred_at': 'TIMESTAMP'}})"
        )
        database.execute(
            f"COPY (SELECT raw.visitor, make_timestamp_ms(at_ms) AS time, name, channel, number,"
            f" (at_ms - {ORIGIN})::UINTEGER AS offset_ms, {case('name', SHOP)} AS kind, {case('channel', CHANNELS)} AS source"
            f" FROM raw JOIN (SELECT visitor, (row_number() OVER (ORDER BY visitor))::UINTEGER AS number"
            f" FROM (SELECT DISTINCT visitor FROM raw)) numbers ON raw.visitor = numbers.visitor"
            f" ORDER BY raw.visitor, at_ms, sequence::INT) TO '{part}' (FORMAT parquet, COMPRESSION zstd)"
        )
        part.replace(parquet)
    count = database.execute(f"SELECT count(*), count(DISTINCT number) FROM '{parquet}'").fetchone()
    database.close()
    return Load(csv, parquet, *count)

