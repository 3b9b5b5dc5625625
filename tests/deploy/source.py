"""What the program's source says of itself, where only the source does."""

import re

import chart

SERVE = "crates/chassis/src/serve.rs"


def constant(path: str, name: str) -> str:
    """The expression of a constant."""
    text = (chart.ROOT / path).read_text(encoding="utf-8")
    (found,) = re.findall(rf"(?ms)^(?:pub(?:\([a-z]+\))? )?const {name}: [^=;]+=\s*(.*?);$", text)
    return found


def seconds(path: str, name: str) -> int:
    """A constant that is a whole number of seconds."""
    return int(re.fullmatch(r"Duration::from_secs\((\d+)\)", constant(path, name)).group(1))


def drain() -> int:
    """For how many seconds a process that is asked to stop lets open calls finish."""
    return seconds(SERVE, "DRAIN")
