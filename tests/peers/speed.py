#!/usr/bin/env python3
"""Times one funnel in ClickHouse, DuckDB and Runnel: same events, same two cores, equal counts, one table of ratios.

Six steps of a shop within seven days, unit visitor, over 20 million simulated events of 2 million visitors unless told otherwise.
Writes target/figures/peers.json. The load is made once and kept in target/peers.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import load as loading
import speed_clickhouse
import speed_duckdb
import speed_runnel
from events import ROOT
from measure import Measured
from questions import SHOP
from product import server

# Durations come from a histogram with this relative error.
RELATIVE_ERROR = 0.01


def disagreements(all_measured: list[Measured]) -> list[str]:
    """Sentences about answers that differ; the first one measured of each question is the reference."""
    reference: dict[str, Measured] = {}
    faults = []
    for measured in filter(lambda measured: measured.answer, all_measured):
        answer = normal(measured.answer)
        for key, value in answer.items():
            first = reference.setdefault(f"{measured.question}/{key}" if key != "reached" else key, measured)
            expected = normal(first.answer)[key]
            same = abs(value - expected) <= RELATIVE_ERROR * expected + 1 if key == "median_ms" else value == expected
            if not same:
                faults.append(
                    f"{measured.product} ({measured.form}, {measured.question}) says {key} = {value},"
                    f" {first.product} ({first.form}) says {expected}"
                )
    total = reached(all_measured)
    for measured in filter(lambda measured: "rows" in measured.answer, all_measured):
        sums = [sum(counts) for counts in zip(*measured.answer["rows"].values(), strict=True)]
        if sums != total:
            faults.append(f"{measured.product} ({measured.form}, {measured.question}): rows sum to {sums}, not {total}")
    return faults


def normal(answer: dict) -> dict:
    """An answer with channels by name and without empty rows."""
    rows = answer.get("rows")
    if rows is None:
        return answer
    named = {(loading.CHANNELS[split - 1] if isinstance(split, int) else split): counts for split, counts in rows.items()}
    return {**answer, "rows": {channel: counts for channel, counts in sorted(named.items()) if any(counts)}, "rest": answer.get("rest", 0)}


def best(all_measured: list[Measured], product: str, question: str, form: str = "") -> Measured | None:
    """The fastest way of a product to answer a question."""
    ways = [
        measured
        for measured in all_measured
        if measured.product.startswith(product) and measured.question == question and form in measured.form
    ]
    return min(ways, key=lambda measured: measured.median, default=None)


def table(all_measured: list[Measured], events: int) -> str:
    """Every way of asking, and how many times longer than Runnel it takes."""
    ours = {
        form: {question: best(all_measured, "Runnel", question, form) for question in ("funnel", "by channel")}
        for form in ("gRPC", "kernel")
    }
    lines = [f"{'question':<24}{'product':<24}{'form':<58}{'ms':>9}{'ns/event':>10}{'× gRPC':>9}{'× kernel':>10}"]
    for measured in sorted(all_measured, key=lambda measured: (measured.question, measured.median)):
        compared = "by channel" if measured.question.startswith("by channel") else "funnel"
        ratios = [
            f"{measured.median / reference.median:.1f}" if reference else "–"
            for reference in (ours["gRPC"][compared], ours["kernel"][compared])
        ]
        lines.append(
            f"{measured.question:<24}{measured.product:<24}{measured.form:<58}{measured.median * 1e3:>9.1f}"
            f"{measured.median * 1e9 / events:>10.2f}{ratios[0]:>9}{ratios[1]:>10}"
        )
    return "\n".join(lines)


def two_cores() -> None:
    """Keeps this process and its children on two cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=2_000_000, help="about ten events each")
    parser.add_argument("--repeats", type=int, default=5, help="runs that count, after one to warm up")
    parser.add_argument("--products", default="clickhouse,duckdb,runnel", help="which, separated by commas")
    parser.add_argument("--kernel", type=Path, help="what the benchmark `product` printed, for the kernel's own times")
    parser.add_argument("--folder", type=Path, default=ROOT / "target" / "peers", help="where the load is kept")
    parser.add_argument("--output", type=Path, help="where the figures go; target/figures/peers.json")
    chosen = parser.parse_args()
    products = chosen.products.split(",")
    if "runnel" in products and not server.binary().is_file():
        parser.error(f"{server.binary()} does not exist; build it, or name another one in RUNNEL_BIN")
    two_cores()
    load = loading.prepare(chosen.folder, chosen.visitors)
    print(f"{load.events:,} events, {load.visitors:,} visitors: {' > '.join(SHOP)} within 7 days", flush=True)
    measured: list[Measured] = []
    figures: dict = {}
    if "clickhouse" in products:
        measured += speed_clickhouse.run(load, chosen.repeats)
    if "duckdb" in products:
        measured += speed_duckdb.run(load, chosen.repeats)
    if "runnel" in products:
        found, figures = speed_runnel.run(load, chosen.repeats * 3, chosen.folder)
        measured += found
    if chosen.kernel:
        measured += speed_runnel.kernel_times(chosen.kernel)
    print(table(measured, load.events))
    print("ClickHouse gives levels only; DuckDB counts, and times where it says so; Runnel always states, rates and times.")
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"Runnel {name.replace('_', ' ')}: {value:,.2f}")
    faults = disagreements(measured)
    print("\n".join(f"DIFFERS: {fault}" for fault in faults) or f"All counts are equal: {reached(measured)}")
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "events": load.events,
        "visitors": load.visitors,
        "runnel": figures,
        "measured": [{**vars(one), "median_ms": one.median * 1e3} for one in measured],
        "differences": faults,
    }
    output = chosen.output or ROOT / "target" / "figures" / "peers.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if faults else 0


def reached(all_measured: list[Measured]) -> list[int]:
    """The counts that all agree on."""
    return next(measured.answer["reached"] for measured in all_measured if "reached" in measured.answer)


if __name__ == "__main__":
    sys.exit(main())
