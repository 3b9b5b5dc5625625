"""How fast Runnel imports the events and answers the question over gRPC.

Every answer is a full one: states, matured and projected rates, times, intervals. Each call asks as of another millisecond, so that
nothing is gained by keeping answers.
"""

import re
import tempfile
import time
from pathlib import Path

from load import CHANNELS, ORIGIN, Load
from measure import Measured, measure
from product import TENANT, server
from questions import DAY, SHOP

import stubs as generator

WINDOW = 7 * DAY
# After the last window of the load, so that every unit has its final state.
AS_OF = ORIGIN + 60 * DAY


def run(load: Load, repeats: int, folder: Path) -> tuple[list[Measured], dict]:
    """Imports into a new data folder, serves it, asks it warm; also figures on import, disk and memory."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="runnel-") as temporary:
        data = Path(temporary)
        key = server.bearer(server.create_key(data, TENANT, "read"))
        start = time.perf_counter()
        summary = server.run("import", str(load.csv), "--data-dir", str(data), "--tenant", TENANT)
        took = time.perf_counter() - start
        figures = {
            "import_seconds": took,
            "import_events_per_second": load.events / took,
            "import_summary": summary,
            "disk_bytes_per_event": sum(file.stat().st_size for file in data.rglob("*") if file.is_file()) / load.events,
        }
        with server.Server(data) as running, tempfile.TemporaryDirectory(prefix="runnel-stubs-") as generated:
            found, first = runnel_times(running, key, Path(generated), repeats)
            figures["first_answer_seconds"] = first
            figures["resident_bytes_per_event"] = resident_bytes(running.process.pid) / load.events
    return found, figures


def runnel_times(running, key, generated: Path, repeats: int) -> tuple[list[Measured], float]:
    """Warm calls of QueryFunnel against a running server, and the seconds of the very first one, which loads the journeys."""
    stubs = generator.generate(generated)
    funnel, query = stubs.funnel, stubs.query
    service = funnel.FunnelServiceStub(running.channel)
    steps = [funnel.Step(any_of=[query.EventMatch(event=name)]) for name in SHOP]
    column = query.Selector(property="channel")
    breaks = {
        "funnel": None,
        "by channel": funnel.BreakDown(column=column, at=funnel.BREAK_DOWN_AT_FIRST_TOUCH),
        "by channel of the entry": funnel.BreakDown(column=column, at=funnel.BREAK_DOWN_AT_STEP, step=1),
    }
    asked = 0

    def ask(break_down):
        nonlocal asked
        asked += 1
        definition = funnel.FunnelDefinition(steps=steps, window_ms=WINDOW)
        request = funnel.QueryFunnelRequest(inline=definition, as_of_ms=AS_OF + asked, break_down=break_down)
        return service.QueryFunnel(request, metadata=key, timeout=300)

    start = time.perf_counter()
    ask(None)
    first = time.perf_counter() - start
    found = []
    for question, break_down in breaks.items():
        reply, seconds = measure(lambda break_down=break_down: ask(break_down), repeats)
        found.append(Measured("Runnel", "QueryFunnel over gRPC, warm", question, seconds, answer(question, reply)))
    return found, first


def answer(question: str, reply) -> dict:
    """The counts in the form in which all answers are compared."""
    if question.startswith("by channel"):
        rows = {CHANNELS.index(row.value.string_value) + 1: list(row.reached) for row in reply.rows if row.HasField("value")}
        rest = sum(sum(row.reached) for row in reply.rows if not row.HasField("value"))
        return {"rows": rows, "rest": rest}
    return {"reached": [step.reached for step in reply.steps], "median_ms": reply.time_to_convert.p50_ms}


def resident_bytes(process: int) -> int:
    """Resident memory of a process on Linux, from /proc."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) * 1024


def kernel_times(printed: Path) -> list[Measured]:
    """The kernel's own time, from what the benchmark `product` printed over the same simulated shop."""
    found = []
    for line in printed.read_text(encoding="utf-8").splitlines():
        match = re.match(r"warm(, by)? .*\bkernel ([0-9.]+) ms", line)
        if match:
            question = "by channel" if match[1] else "funnel"
            found.append(Measured("Runnel", "kernel, of the benchmark `product`", question, [float(match[2]) / 1_000], {}))
    return found
