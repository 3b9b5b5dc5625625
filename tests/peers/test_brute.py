"""The brute force against every chain of small journeys, and against vectors of the definition."""

import random

import brute
import pytest


def journey(text: str) -> brute.Journey:
    """`A0 B10` is an A at second 0 and a B at second 10."""
    return sorted((int(word[1:]) * 1_000, word[0]) for word in text.split())


@pytest.mark.parametrize(
    ("events", "window", "steps", "level", "time"),
    [
        ("A0 A30 B45 C75", 60, "ABC", 3, 45),
        ("A0 A10 B20", 60, "AB", 2, 10),
        ("A0 B60", 60, "AB", 2, 60),
        ("A0 B61", 60, "AB", 1, 0),
        ("A5 B5", 60, "AB", 2, 0),
        ("A5", 60, "AA", 1, 0),
        ("A0 A10", 50, "AA", 2, 10),
        ("A0 A100", 50, "AA", 1, 0),
        ("A1 B2 X3 C4", 60, "ABC", 3, 3),
        ("A1 C2 B3 C4", 60, "ABC", 3, 3),
        ("A1 B2 A3 B4 C5", 60, "ABC", 3, 2),
        ("A0 B10 A50 C65", 60, "ABC", 2, 10),
        ("A0 B10 A50 B55 C65", 60, "ABC", 3, 15),
        ("A1 A2 B2", 60, "AB", 2, 0),
        ("C1 B2 A3", 60, "ABC", 1, 0),
        ("B1", 60, "AB", 0, 0),
    ],
)
def test_vectors(events, window, steps, level, time):
    found = brute.best(journey(events), list(steps), window * 1_000)
    assert (found.level if found else 0) == level
    if found:
        assert found.completion - found.entry == time * 1_000


def test_brute_force_equals_the_list_of_all_chains():
    generator = random.Random(20_260_105)
    for _ in range(5_000):
        events = sorted((generator.randrange(8), generator.choice("ABC")) for _ in range(generator.randrange(9)))
        steps = [generator.choice("ABC") for _ in range(generator.randrange(2, 5))]
        window = generator.randrange(9)
        assert brute.best(events, steps, window) == brute.exhaustive(events, steps, window), (events, steps, window)


def test_answers_count_every_step_once():
    journeys = {"one": journey("A0 B1 C2"), "two": journey("A0 B1"), "three": journey("B0")}
    found = brute.answer(journeys, ["A", "B", "C"], 60_000)
    assert found == brute.Answer([2, 2, 1], [2_000])
    assert brute.tied(journey("A0 B0"), ["A", "B"])
    assert not brute.tied(journey("A0 X0"), ["A", "B"])
