"""The funnel by brute force, written from the definition and from nothing else.

Unit visitor, every entry tried (best chain), loose order, inclusive total window, ties in favour of the step order: a chain
takes one distinct event for each step, no later step before an earlier one, all within the window of the first. Of all
chains the best reaches the furthest step, then completes it earliest, then entered latest.
"""

from dataclasses import dataclass

Journey = list[tuple[int, str]]


@dataclass(frozen=True)
class Best:
    """What counts for one visitor: how far it came, when it got there, and when that chain began."""

    level: int
    entry: int
    completion: int


def follow(journey: Journey, first: int, steps: list[str], window: int) -> tuple[int, int]:
    """The furthest level, and its earliest completion, of the chains that enter with event `first`.

    Every step takes the earliest event that is left. Since a step names one event, two candidates of a step that differ in
    time never differ in anything else, so taking a later one opens nothing; `exhaustive` shows it.
    """
    entry = journey[first][0]
    used = {first}
    time, level = entry, 1
    for step in steps[1:]:
        candidates = [
            (at, index)
            for index, (at, name) in enumerate(journey)
            if name == step and index not in used and time <= at <= entry + window
        ]
        if not candidates:
            break
        time, index = min(candidates)
        used.add(index)
        level += 1
    return level, time


def best(journey: Journey, steps: list[str], window: int) -> Best | None:
    """The best chain of a visitor; None when it has no entry."""
    found = None
    for index, (at, name) in enumerate(journey):
        if name != steps[0]:
            continue
        level, completion = follow(journey, index, steps, window)
        key = (-level, completion, -at)
        if found is None or key < found[0]:
            found = (key, Best(level, at, completion))
    return found[1] if found else None


def exhaustive(journey: Journey, steps: list[str], window: int) -> Best | None:
    """The same by listing every chain; for a handful of events."""
    keys = []

    def extend(chain: list[int]) -> None:
        entry, last = journey[chain[0]][0], journey[chain[-1]][0]
        keys.append((-len(chain), last, -entry))
        if len(chain) == len(steps):
            return
        for index, (at, name) in enumerate(journey):
            if name == steps[len(chain)] and index not in chain and last <= at <= entry + window:
                extend([*chain, index])

    for index, (_, name) in enumerate(journey):
        if name == steps[0]:
            extend([index])
    if not keys:
        return None
    level, completion, entry = min(keys)
    return Best(-level, -entry, completion)


@dataclass(frozen=True)
class Answer:
    """What is compared: units that reached each step, and the times to convert in order."""

    reached: list[int]
    times_to_convert: list[int]


def answer(journeys: dict[str, Journey], steps: list[str], window: int) -> Answer:
    """The funnel over all visitors; the window in milliseconds."""
    wanted = set(steps)
    reached = [0] * len(steps)
    times = []
    for journey in journeys.values():
        # Only events of a step can be part of a chain.
        found = best([event for event in journey if event[1] in wanted], steps, window)
        if found is None:
            continue
        for level in range(found.level):
            reached[level] += 1
        if found.level == len(steps):
            times.append(found.completion - found.entry)
    return Answer(reached, sorted(times))


def tied(journey: Journey, steps: list[str]) -> bool:
    """Whether two events of the steps share a millisecond, where products differ in what they count."""
    times = [at for at, name in journey if name in steps]
    return len(times) != len(set(times))
