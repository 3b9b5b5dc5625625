"""Measures a call: once to warm up, then several times; the median counts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One way of asking one question, and how long it took."""

    product: str
    form: str
    question: str
    seconds: list[float]
    answer: dict

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(call: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """What the call gave, and the seconds of each of its later runs."""
    result = call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return result, seconds
