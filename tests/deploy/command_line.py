"""What the program's own help says of its subcommands: options, variables, and what must be given."""

import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Help:
    """A subcommand."""

    text: str
    # Options, with the variable that stands for each, if one does.
    options: dict[str, str | None]
    # Options without which it does not start.
    required: set[str]

    @property
    def variables(self) -> set[str]:
        # What is logged is no option; the help of the format names it.
        log = {"RUNNEL_LOG"} if "RUNNEL_LOG " in self.text else set()
        return {variable for variable in self.options.values() if variable} | log


def binary() -> Path:
    """The program under test: RUNNEL_BIN, or the release build of this tree."""
    named = os.environ.get("RUNNEL_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(named) if named else target / "release" / "runnel"


@functools.cache
def describe(program: Path, subcommand: str) -> Help:
    """Reads `runnel SUBCOMMAND --help`."""
    done = subprocess.run(
        [program, subcommand, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    options: dict[str, str | None] = {}
    for block in re.split(r"(?m)^ {2,6}(?=(?:-\w, )?--[a-z])", done.stdout)[1:]:
        name = re.search(r"--([a-z][a-z0-9-]*)", block).group(1)
        variable = re.search(r"\[env: ([A-Z][A-Z0-9_]*)", block)
        options[name] = variable.group(1) if variable else None
    usage = re.search(r"(?m)^Usage: .*$", done.stdout).group(0)
    return Help(done.stdout, options, set(re.findall(r"--([a-z][a-z0-9-]*)", usage.split("[OPTIONS]")[-1])))
