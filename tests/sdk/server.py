"""Starts `runnel serve` on a free port of the loopback interface, makes its keys, and ends it."""

import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[2]
# How long a server may take to start or to end, in seconds.
PATIENCE = 30


def binary() -> Path:
    """The program under test: RUNNEL_BIN, or the release build of this tree."""
    named = os.environ.get("RUNNEL_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(named) if named else target / "release" / "runnel"


def run(*arguments: str) -> dict:
    """Runs the command line with `--output json` and gives what it printed."""
    command = [str(binary()), *arguments, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr or done.stdout}")
    return json.loads(done.stdout)


def create_key(data: Path, tenant: str, kind: str) -> str:
    """Makes a key of a kind (write, read, admin, erase) while no server holds the data folder."""
    return run("keys", "create", "--data-dir", str(data), "--tenant", tenant, "--kind", kind)["secret"]


class Server:
    """A running server; use it as a context manager."""

    def __init__(self, data: Path, *arguments: str):
        self.log = (data / "serve.log").open("w+", encoding="utf-8")
        command = [str(binary()), "serve", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--output", "json"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        try:
            self.address = json.loads(self._first_line())["listening"]
        except Exception:
            self.process.kill()
            self.process.wait()
            raise
        self.channel = grpc.insecure_channel(self.address)

    def _first_line(self) -> str:
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            # The pipe is read to its end, so that the server never waits for a reader.
            for line in self.process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        try:
            line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            line = ""
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"runnel serve did not say where it listens:\n{self.log.read()}")
        return line

    def stop(self) -> int:
        """Asks the server to end and gives its exit code; ends it by force when it does not."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.close()
        return code

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries a key."""
    return (("authorization", f"Bearer {secret}"),)
