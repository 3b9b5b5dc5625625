"""One server with keys of two tenants for the whole run, and the generated stubs."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import server  # noqa: E402
import stubs as generator  # noqa: E402


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    return generator.generate(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def runnel(tmp_path_factory, stubs):
    if not server.binary().is_file():
        pytest.fail(f"{server.binary()} does not exist; build it with: cargo build --release -p runnel")
    data = tmp_path_factory.mktemp("data")
    keys = {
        tenant: {kind: server.bearer(server.create_key(data, tenant, kind)) for kind in ("write", "read")}
        for tenant in ("shop", "gmerch", "streamed", "counted", "told", "erased", "other")
    }
    keys["erased"] |= {kind: server.bearer(server.create_key(data, "erased", kind)) for kind in ("admin", "erase")}
    with server.Server(data) as running:
        yield SimpleNamespace(
            keys=keys,
            channel=running.channel,
            ingest=stubs.ingest.IngestServiceStub(running.channel),
            effect=stubs.effect.EffectServiceStub(running.channel),
            catalog=stubs.catalog.CatalogServiceStub(running.channel),
            funnel=stubs.funnel.FunnelServiceStub(running.channel),
            insight=stubs.insight.InsightServiceStub(running.channel),
            identity=stubs.identity.IdentityServiceStub(running.channel),
            subject=stubs.subject.SubjectServiceStub(running.channel),
            admin=stubs.admin.AdminServiceStub(running.channel),
        )
