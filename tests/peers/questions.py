"""What every set is asked: step lists and windows, with the figures that are known beforehand."""

from dataclasses import dataclass

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SHOP = ["page_view", "view_item", "add_to_cart", "begin_checkout", "choose_payment", "purchase"]


@dataclass(frozen=True)
class Question:
    """A list of steps and a window in milliseconds; `known` are counts published for the set."""

    steps: tuple[str, ...]
    window: int
    known: tuple[int, ...] | None = None

    @property
    def distinct(self) -> bool:
        """Whether no event can serve two steps, so that every product means the same."""
        return len(set(self.steps)) == len(self.steps)

    def __str__(self) -> str:
        return f"{' > '.join(self.steps)} within {duration(self.window)}"


def duration(milliseconds: int) -> str:
    """A window as the command line takes it."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def ask(steps: str, *windows: int) -> list[Question]:
    names = tuple(name.strip() for name in steps.split(">"))
    return [Question(names, window) for window in windows]


QUESTIONS: dict[str, list[Question]] = {
    "gmerch-ga360": [
        Question(("view_item", "add_to_cart", "begin_checkout", "purchase"), DAY, (394, 133, 67, 30)),
        *ask("view_item > add_to_cart > begin_checkout > purchase", 5 * MINUTE, HOUR),
        *ask("page_view > quickview > add_to_cart > view_cart > checkout_payment > purchase", 10 * MINUTE, DAY),
        *ask("search > view_item > add_to_cart", 0, 90 * SECOND, 30 * MINUTE),
        *ask("view_sign_in > register", 59_999, MINUTE, 60_001),
        *ask("purchase > page_view", DAY),
        *ask("view_item > view_item > purchase", HOUR),
        *ask("add_to_cart > add_to_cart > add_to_cart", MINUTE, DAY),
    ],
    "otto-mini": [
        *ask("view_item > add_to_cart > purchase", 0, MINUTE, HOUR, 7 * DAY, 28 * DAY),
        *ask("add_to_cart > purchase", DAY),
        *ask("view_item > view_item > add_to_cart", 10 * MINUTE),
    ],
    "bpi2012-loan": [
        *ask("A_SUBMITTED > A_PREACCEPTED > A_ACCEPTED > O_SENT > O_SENT_BACK > A_ACTIVATED", 7 * DAY, 30 * DAY),
        *ask("A_PREACCEPTED > O_SENT > A_ACTIVATED", 366 * DAY),
        *ask("W_Completeren aanvraag:START > O_SENT > O_SENT_BACK > A_ACTIVATED", 14 * DAY),
        *ask("O_SENT > O_SENT_BACK > O_SENT > O_SENT_BACK", 60 * DAY),
        *ask("A_SUBMITTED > A_DECLINED", SECOND, HOUR),
    ],
    "simulated": [
        *ask(" > ".join(SHOP), 30 * MINUTE, DAY, 7 * DAY),
        *ask("view_item > add_to_cart > purchase", DAY),
        *ask("search > view_item > view_item", HOUR),
        *ask("newsletter_signup > purchase", 28 * DAY),
    ],
}
