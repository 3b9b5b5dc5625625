"""The processes start with what compose file and chart give them: real ones, over a database that asks for passwords.

Only addresses differ from what is deployed: names of services become ports of the loopback interface.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import chart
import compose
import grpc
import pytest

sys.path.insert(1, str(chart.ROOT / "tests" / "sdk"))

import stubs as generator  # noqa: E402

PATIENCE = 30
USERS = ("owner", "ingest", "compaction", "query", "admin")
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end_with_parent() -> None:
    """Runs in a child before its program starts: it is interrupted when the tests are gone, however they ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)


@contextmanager
def running(command: list, **options):
    """A process, for as long as the block lasts."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def programs() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    for folder in [*reversed(installed), *map(Path, os.environ.get("PATH", "").split(os.pathsep))]:
        if all((folder / program).exists() for program in ("initdb", "postgres", "psql")):
            return folder
    message = "PostgreSQL is not on this machine"
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed") / "secrets"
    subprocess.run([compose.DEPLOY / "compose" / "make-secrets", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def database(secrets):
    """The port of a PostgreSQL that asks for passwords, with the users of roles.sql."""
    bin_folder, port = programs(), free_port()
    # PostgreSQL refuses to run as root.
    who = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        password, data = folder / "password", folder / "data"
        shutil.copyfile(secrets / "postgres", password)
        if who:
            shutil.chown(folder, who["user"], who["group"])
            shutil.chown(password, who["user"], who["group"])
        initdb = [bin_folder / "initdb", "-A", "scram-sha-256", "-U", "postgres", "-E", "UTF8", f"--pwfile={password}"]
        subprocess.run([*initdb, "-D", data], check=True, capture_output=True, cwd=folder, **who)
        settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "max_connections=200")
        options = [part for setting in settings for part in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            command = [bin_folder / "postgres", "-D", data, *options]
            with running(command, stdout=log, stderr=log, cwd=folder, **who):
                make_users(bin_folder / "psql", port, secrets)
                yield port


@pytest.fixture(scope="module")
def redis():
    """The port of a Redis that is started as in the compose file, where it is installed."""
    if not shutil.which("redis-server"):
        yield None
        return
    port = free_port()
    command = [*compose.load()["services"]["redis"]["command"], "--bind", "127.0.0.1", "--port", str(port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        yield port


def make_users(psql: Path, port: int, secrets: Path) -> None:
    """Runs roles.sql twice: what is there is brought up to date."""
    environment = os.environ | {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": (secrets / "postgres").read_text(encoding="ascii"),
        "PGDATABASE": "postgres",
    }
    ready = [psql, "-X", "-q", "-c", "SELECT 1"]
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(ready, env=environment, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "PostgreSQL did not start"
        time.sleep(0.1)
    # As the compose file has it, but for the places of the files.
    entry = compose.load()["services"]["roles"]["entrypoint"]
    places = {"/run/secrets": str(secrets), "/roles.sql": str(compose.DEPLOY / "postgres" / "roles.sql")}
    command = [psql, *(re.sub(r"/run/secrets|/roles\.sql", lambda found: places[found[0]], part) for part in entry[1:])]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def of_compose(secrets: Path, folder: Path, port: int, _) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command and variables of each process of the compose file."""
    found = {}
    for name, service in compose.processes().items():
        files = {}
        for path, secret in compose.secrets(service).items():
            text = (secrets / compose.load()["secrets"][secret]["file"].removeprefix("./secrets/")).read_text("ascii")
            own = folder / f"{name}-{secret}"
            own.write_text(text.replace("postgres:5432:", f"127.0.0.1:{port}:"), encoding="ascii")
            own.chmod(0o600)
            files[path] = str(own)
        variables = {key: files.get(value, str(value)) for key, value in service["environment"].items()}
        found[name] = (service["command"], variables)
    return found


def of_chart(secrets: Path, folder: Path, _, minimal) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command and variables of each container of the chart, with its Secrets as docs/deploy.md makes them."""
    passwords = {user: (secrets / f"runnel_{user}").read_text("ascii") for user in USERS}
    contents = {
        ("runnel-postgres", user): f"postgres://runnel_{user}:{passwords[user]}@postgres:5432/runnel" for user in USERS
    }
    contents |= {(f"runnel-{name}", name): (secrets / name).read_text("ascii") for name in ("context", "pepper")}
    found = {}
    for pod in minimal.pods:
        files = {}
        for volume in pod.spec.get("volumes", []):
            for item in volume["secret"]["items"]:
                own = folder / f"{pod.service}-{volume['name']}-{item['path']}"
                own.write_text(contents[volume["secret"]["secretName"], item["key"]], encoding="ascii")
                files[f"/etc/runnel/{volume['name']}/{item['path']}"] = str(own)
        variables = {}
        for name, variable in pod.variables.items():
            if "valueFrom" in variable:
                key = variable["valueFrom"]["secretKeyRef"]
                variables[name] = contents[key["name"], key["key"]]
            else:
                variables[name] = files.get(variable["value"], variable["value"])
        found[pod.service] = (pod.container["args"], variables)
    return found


class Deployed:
    """The four processes, and their ports."""

    def __init__(self, program: Path, processes: dict, database: int, redis: int | None, folder: Path):
        self.program, self.processes, self.folder = program, processes, folder
        self.database, self.redis = database, redis
        self.ports = {name: {"RUNNEL_LISTEN": free_port(), "RUNNEL_OPS_LISTEN": free_port()} for name in chart.SERVICES}
        self.said: dict[str, dict] = {}

    def local(self, name: str, variable: str, value: str) -> str:
        """A variable's value on this machine."""
        if variable in ("RUNNEL_LISTEN", "RUNNEL_OPS_LISTEN"):
            return f"127.0.0.1:{self.ports[name][variable]}"
        value = value.replace("@postgres:5432/", f"@127.0.0.1:{self.database}/")
        value = value.replace("redis://redis:6379", f"redis://127.0.0.1:{self.redis}")
        other = re.fullmatch(r"http://(?:rel-runnel-)?([a-z]+)(?:\.[a-z.]+)?:7070", value)
        return f"http://127.0.0.1:{self.ports[other.group(1)]['RUNNEL_LISTEN']}" if other else value

    def environment(self, name: str) -> dict[str, str]:
        # Nothing of this shell but where programs are. Telemetry and Redis may be gone at any moment.
        absent = {"OTEL_EXPORTER_OTLP_ENDPOINT"} | ({"RUNNEL_REDIS"} if self.redis is None else set())
        variables = {key: value for key, value in self.processes[name][1].items() if key not in absent}
        local = {key: self.local(name, key, value) for key, value in variables.items()}
        return {"PATH": os.environ["PATH"], "RUNNEL_OUTPUT": "json", **local}

    def migrate(self) -> None:
        command = [self.program, *self.processes["migrate"][0]]
        done = subprocess.run(command, env=self.environment("migrate"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self, stack: ExitStack, name: str) -> None:
        command, log = [self.program, *self.processes[name][0]], self.folder / f"{name}.log"
        errors = stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            running(command, env=self.environment(name), stdout=subprocess.PIPE, stderr=errors, text=True)
        )
        line = process.stdout.readline()
        assert line, f"{name} did not start: {log.read_text(encoding='utf-8')}"
        self.said[name] = json.loads(line)
        assert self.said[name]["listening"] == f"127.0.0.1:{self.ports[name]['RUNNEL_LISTEN']}"

    def probe(self, name: str, path: str) -> str:
        """What a process answers to those who run it, once it answers well."""
        address = f"http://127.0.0.1:{self.ports[name]['RUNNEL_OPS_LISTEN']}{path}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return urllib.request.urlopen(address, timeout=PATIENCE).read().decode()
            except urllib.error.URLError as fault:
                assert time.monotonic() < deadline, f"{name}{path}: {fault}"
                time.sleep(0.1)


def reached(call, request, key):
    """Makes a call, again while services are only just being found."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call(request, metadata=(("authorization", f"Bearer {key}"),), timeout=PATIENCE)
        except grpc.RpcError as fault:
            if fault.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return generator.generate(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module", params=[of_compose, of_chart], ids=["compose", "chart"])
def deployed(request, program, secrets, database, redis, minimal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    found = Deployed(program, request.param(secrets, folder, database, minimal), database, redis, folder)
    found.migrate()
    with ExitStack() as stack:
        for name in (*chart.SERVICES[1:], "gateway"):
            found.start(stack, name)
        yield found


@pytest.fixture(scope="module")
def operator(database, secrets):
    """The key that the first gateway on this database says, for those who come later."""
    return {}


def events(stubs) -> list:
    """One visitor bought long ago, another one is there."""
    now = int(time.time() * 1_000)
    visits = (("ann", "view", START), ("ann", "buy", START + 1_000), ("bob", "view", now))
    return [
        stubs.event.Event(event_id=str(at), visitor_id=visitor, name=name, time_ms=time_ms)
        for at, (visitor, name, time_ms) in enumerate(visits)
    ]


def definition(stubs):
    """From the view to the purchase, within a day."""
    steps = [stubs.funnel.Step(any_of=[stubs.query.EventMatch(event=name)]) for name in ("view", "buy")]
    return stubs.funnel.FunnelDefinition(steps=steps, window_ms=86_400_000)


def test_a_tenant_sends_and_asks(deployed, operator, stubs, request):
    operator.setdefault("key", deployed.said["gateway"].get("operatorKey"))
    channel = grpc.insecure_channel(deployed.said["gateway"]["listening"])
    admin = stubs.admin.AdminServiceStub(channel)
    tenant = request.node.callspec.id
    reached(admin.CreateTenant, stubs.admin.CreateTenantRequest(name=tenant), operator["key"])
    keys = {}
    for name, kind in (("write", stubs.admin.KEY_KIND_WRITE), ("read", stubs.admin.KEY_KIND_READ)):
        made = stubs.admin.CreateKeyRequest(tenant=tenant, kind=kind)
        keys[name] = reached(admin.CreateKey, made, operator["key"]).secret

    # As the user that appends; the report as the one that reads.
    ingest = stubs.ingest.IngestServiceStub(channel)
    batch = stubs.ingest.AppendRequest(request_id="1", events=events(stubs))
    assert reached(ingest.Append, batch, keys["write"]).accepted == 3
    report = reached(ingest.GetIngestReport, stubs.ingest.GetIngestReportRequest(), keys["write"])
    assert (report.counted, report.quarantined) == (3, 0)

    # As the one that reads, in two services; the definition as the one that keeps definitions.
    catalog = stubs.catalog.CatalogServiceStub(channel)
    names = reached(catalog.ListEventNames, stubs.catalog.ListEventNamesRequest(), keys["read"])
    assert {found.name for found in names.event_names} == {"view", "buy"}
    funnel = stubs.funnel.FunnelServiceStub(channel)
    asked = definition(stubs)
    inline = reached(funnel.QueryFunnel, stubs.funnel.QueryFunnelRequest(inline=asked), keys["read"])
    assert [step.reached for step in inline.steps] == [2, 1]
    saved = stubs.funnel.DefineFunnelRequest(name="checkout", definition=asked)
    assert reached(funnel.DefineFunnel, saved, keys["read"]).funnel.version == 1
    named = reached(funnel.QueryFunnel, stubs.funnel.QueryFunnelRequest(name="checkout"), keys["read"])
    assert [step.reached for step in named.steps] == [2, 1] and named.provenance.definition_version == 1
    segmentation = stubs.segmentation.SegmentationServiceStub(channel)
    present = stubs.segmentation.CountOpenSessionsRequest()
    assert reached(segmentation.CountOpenSessions, present, keys["read"]).open_sessions == 1
    first = stubs.segment.Occurrence(event=inline.resolved.steps[0].any_of[0])
    condition = stubs.segment.Condition(happened=stubs.segment.Happened(any_of=[first]))
    entered = stubs.segment.SegmentDefinition(condition=condition)
    segment = stubs.segmentation.DefineSegmentRequest(name="entered", definition=entered)
    assert reached(segmentation.DefineSegment, segment, keys["read"]).segment.version == 1
    counted = stubs.segmentation.CountSegmentRequest(segment=stubs.segment.SegmentRef(name="entered"))
    assert reached(segmentation.CountSegment, counted, keys["read"]).members == 2
    channel.close()


@pytest.mark.parametrize("service", chart.SERVICES)
def test_probes_and_metrics_are_where_they_are_looked_for(deployed, minimal, service):
    container = minimal.pod(service).container
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        deployed.probe(service, container[probe]["httpGet"]["path"])
    assert "runnel_build_info" in deployed.probe(service, "/metrics")


def test_each_user_may_do_its_own_and_nothing_else(deployed, database, secrets):
    """The users are no more than their names say: none owns anything but the owner, none passes by a policy."""
    psql = programs() / "psql"

    def ask(user: str, statement: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PGPASSWORD": (secrets / user).read_text("ascii")}
        address = f"host=127.0.0.1 port={database} user={user} dbname=runnel"
        command = [psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", address, "-c", statement]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for user in (f"runnel_{name}" for name in USERS):
        powers = (
            "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert ask(user, powers).stdout.strip() == "f", user
        made = ask(user, "CREATE TABLE planted (a integer); DROP TABLE planted")
        assert (made.returncode == 0) == (user == "runnel_owner"), user
    assert ask("runnel_query", "DELETE FROM journal").returncode != 0
    assert ask("runnel_ingest", "DELETE FROM journal").returncode != 0
    assert ask("runnel_query", "SELECT count(*) FROM keys").returncode != 0
