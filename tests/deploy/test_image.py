"""The image: linted, small in what it is built from, and run as nobody."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import chart
import compose
import pytest
import yaml

DOCKERFILE = compose.DEPLOY / "Dockerfile"
IGNORE = chart.ROOT / ".dockerignore"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"))
    return [tuple(line.split(maxsplit=1)) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    every = instructions()
    start = max(at for at, (word, _) in enumerate(every) if word == "FROM")
    return every[start:]


def sent(paths: list[str]) -> set[str]:
    """The paths that reach the builder. Knows the patterns that .dockerignore uses: `*`, `!PATH`, `**/NAME`."""
    kept = set(paths)
    for pattern in IGNORE.read_text(encoding="utf-8").splitlines():
        if not pattern or pattern.startswith("#"):
            continue
        if pattern == "*":
            kept = set()
        elif pattern.startswith("!"):
            name = pattern.removeprefix("!")
            kept |= {path for path in paths if path == name or path.startswith(f"{name}/")}
        elif pattern.startswith("**/"):
            kept = {path for path in kept if pattern.removeprefix("**/") not in path.split("/")}
        else:
            pytest.fail(f"{pattern} is a kind of pattern that this check does not know")
    return kept


def tracked() -> list[str]:
    command = ["git", "-C", chart.ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [path for path in listed if path and (chart.ROOT / path).is_file()]


def test_hadolint_finds_no_fault(tmp_path):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n", encoding="utf-8")
    assert subprocess.run([hadolint, wrong], capture_output=True, check=False).returncode != 0


def test_bases_can_be_named_by_digest():
    declared = {argument.split("=")[0] for word, argument in instructions() if word == "ARG"}
    bases = [argument.split()[0] for word, argument in instructions() if word == "FROM"]
    assert bases == ["${BUILD_BASE}", "${RUN_BASE}"]
    assert {"BUILD_BASE", "RUN_BASE"} <= declared
    for word, argument in instructions():
        if word == "ARG":
            assert re.search(r":[^/]*[a-z0-9]$", argument) and "latest" not in argument, argument
    built = {service["build"]["args"]["RUN_BASE"] for service in compose.processes().values()}
    (default,) = [argument.split("=")[1] for word, argument in instructions() if argument.startswith("RUN_BASE=")]
    # The base with a shell is the same release of the same image.
    assert built == {default.replace(":nonroot", ":debug-nonroot")}


def test_the_image_holds_nothing_to_work_with():
    words = [word for word, _ in last_stage()]
    assert set(words) <= {"FROM", "LABEL", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert ("USER", "65532:65532") in last_stage()
    assert ("ENTRYPOINT", '["/usr/local/bin/runnel"]') in last_stage()
    (ports,) = [argument.split() for word, argument in last_stage() if word == "EXPOSE"]
    assert ports == ["7070", "9464"]


def test_chart_and_image_agree(minimal):
    for pod in minimal.pods:
        assert pod.spec["securityContext"]["runAsUser"] == 65532
        assert pod.ports <= {7070, 9464}


def test_the_build_gets_the_sources_and_nothing_else():
    paths = tracked()
    found = sent(paths)
    needed = {path for path in paths if path.startswith(("crates/", "proto/", "services/"))}
    assert needed <= found and {"Cargo.toml", "Cargo.lock", "LICENSE"} <= found
    kept_out = [
        ".env",
        "target/release/runnel",
        "deploy/secrets/pepper",
        "deploy/.env",
        ".git/config",
        "crates/a/target/b",
    ]
    assert not sent([*paths, *kept_out]) & set(kept_out)
    assert not [path for path in found if path.startswith(("deploy/", "docs/", "tests/sdk/", "tests/deploy/", "."))]


def test_cargo_reads_what_the_build_gets(tmp_path):
    for path in sent(tracked()):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(chart.ROOT / path, target)
    command = ["cargo", "metadata", "--offline", "--no-deps", "--format-version", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "services" / "runnel" / "src" / "main.rs").exists()


def test_the_toolchain_is_new_enough():
    (image,) = [argument.split("=")[1] for word, argument in instructions() if argument.startswith("BUILD_BASE=")]
    offered = tuple(map(int, re.search(r"rust:(\d+)\.(\d+)", image).groups()))
    wanted = re.search(r'rust-version = "(\d+)\.(\d+)"', (chart.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert offered >= tuple(map(int, wanted.groups()))


def test_the_chart_s_image_is_a_value(helm):
    digest = "sha256:" + "ab" * 32
    images = {
        pod.container["image"]
        for pod in chart.render(helm, "minimal", "--set", f"image.digest={digest},image.tag=1.2.3").pods
    }
    assert images == {f"registry.example.com/runnel@{digest}"}
    meta = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    images = {pod.container["image"] for pod in chart.render(helm, "minimal").pods}
    assert images == {f"registry.example.com/runnel:{meta['appVersion']}"}
