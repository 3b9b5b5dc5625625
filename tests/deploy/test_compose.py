"""The compose file is valid, whole, and lets nobody in but through the gateway."""

import json
import re
import stat
import subprocess
from importlib import resources

import chart
import compose
import jsonschema
import pytest
import source
import yaml

MAKE_SECRETS = compose.DEPLOY / "compose" / "make-secrets"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The secrets, as the script makes them."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    subprocess.run([MAKE_SECRETS, folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("path", [compose.FILE, compose.OVERRIDE], ids=lambda path: path.name)
def test_it_follows_the_specification(path):
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(schema.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(compose.load(path))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"a": {"image": "a", "port": ["1:1"]}}})


def test_everything_that_is_named_is_there():
    whole = compose.load()
    for name, service in whole["services"].items():
        assert set(compose.secrets(service).values()) <= set(whole["secrets"]), name
        assert set(service["networks"]) <= set(whole["networks"]), name
        assert set(service.get("depends_on", {})) <= set(whole["services"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (compose.DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in whole["volumes"], f"{name}: {source}"
    used = {secret for service in whole["services"].values() for secret in compose.secrets(service).values()}
    assert used == set(whole["secrets"])


def test_what_is_waited_for_comes():
    services = compose.load()["services"]
    conditions = {"service_healthy": lambda one: "healthcheck" in one}
    conditions["service_completed_successfully"] = lambda one: "restart" not in one
    waits = {name: set() for name in services}
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert conditions[how["condition"]](services[other]), f"{name} waits for {other}"
            waits[name].add(other)
    while waits:
        free = {name for name, others in waits.items() if not others}
        assert free, f"these wait for each other: {sorted(waits)}"
        waits = {name: others - free for name, others in waits.items() if name not in free}


def test_only_the_gateway_is_reached_and_only_from_this_machine():
    whole = compose.load()
    assert whole["networks"]["backend"]["internal"] is True
    published = {name: service["ports"] for name, service in whole["services"].items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:7070:7070"]}
    assert [name for name, service in whole["services"].items() if "edge" in service["networks"]] == ["gateway"]
    added = compose.load(compose.OVERRIDE)["services"]
    assert {name: service["ports"] for name, service in added.items()} == {"grafana": ["127.0.0.1:3000:3000"]}


def test_processes_may_do_as_little_as_they_need():
    for name, service in compose.load()["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices"}, name
        # The images of the two stores begin as root and give that up.
        if name not in ("postgres", "redis"):
            assert service["cap_drop"] == ["ALL"], name
        if name != "postgres":
            assert service["read_only"] is True, name
    for name, service in compose.processes().items():
        assert service["user"].startswith("${RUNNEL_UID:?"), name


def test_everything_that_stays_up_is_looked_after():
    services = compose.load()["services"]
    once = {"roles", "migrate"}
    for name, service in services.items():
        assert ("restart" in service) == (name not in once), name
        # The collector's image has no program but itself.
        assert ("healthcheck" in service) == (name not in once | {"collector"}), name
    for name in chart.SERVICES:
        ops = services[name]["environment"]["RUNNEL_OPS_LISTEN"]
        assert services[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{ops.split(':')[1]}/readyz"
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > source.drain() + chart.CLOSING
    funnel = services["funnel"]
    assert int(funnel["environment"]["RUNNEL_MEMORY_MB"]) * 5 <= int(funnel["mem_limit"].removesuffix("g")) * 1024 * 4


def test_addresses_lead_to_services():
    services = compose.load()["services"]
    for name, service in compose.processes().items():
        for variable, value in service["environment"].items():
            for host, port in re.findall(r"^(?:https?|rediss?|postgres)://(?:[^@/]*@)?([a-z]+):(\d+)", str(value)):
                assert host in services, f"{name}: {variable}"
                if host in chart.SERVICES:
                    assert services[host]["environment"]["RUNNEL_LISTEN"].endswith(f":{port}")


def test_no_secret_is_in_the_file():
    for name, service in compose.load()["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name}: {variable} holds a password"
            if "PASSWORD" in variable:
                assert variable.endswith("_FILE"), f"{name}: {variable}"
    assert all(secret["file"].startswith("./secrets/") for secret in compose.load()["secrets"].values())
    ignored = (compose.DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/deploy/secrets/", "/deploy/.env"} <= set(ignored)


def test_the_script_makes_every_secret_once_and_for_its_owner_alone(made):
    wanted = {secret["file"].removeprefix("./secrets/") for secret in compose.load()["secrets"].values()}
    assert {path.name for path in made.iterdir()} == wanted
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for path in made.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    for name in ("pepper", "context"):
        assert re.fullmatch(r"[0-9a-f]{64}", (made / name).read_text(encoding="ascii"))
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert len({before["pepper"], before["context"], before["postgres"], before["runnel_query"]}) == 4
    subprocess.run([MAKE_SECRETS, made], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_each_process_has_the_passwords_of_its_users_and_no_others(made):
    for name, service in compose.processes().items():
        own = {
            re.match(r"postgres://(\w+)@", value).group(1)
            for variable, value in service["environment"].items()
            if variable.startswith("RUNNEL_POSTGRES") and value.startswith("postgres://")
        }
        # The migration names the others, to grant them what they need, and is none of them.
        own = {"runnel_owner"} if name == "migrate" else own
        assert service["environment"]["PGPASSFILE"] in compose.secrets(service)
        secret = compose.load()["secrets"][compose.secrets(service)["/run/secrets/pgpass"]]
        lines = (made / secret["file"].removeprefix("./secrets/")).read_text(encoding="ascii").splitlines()
        assert {line.split(":")[3] for line in lines} == own, name
        for line in lines:
            user, password = line.split(":")[3:]
            assert password == (made / user).read_text(encoding="ascii")


def test_files_of_a_process_are_among_its_secrets():
    for name, service in compose.processes().items():
        named = {value for value in service["environment"].values() if value.startswith("/run/secrets/")}
        assert named == set(compose.secrets(service)), name


def test_the_collector_s_pipelines_are_whole():
    config = yaml.safe_load((compose.DEPLOY / "compose" / "collector.yaml").read_text(encoding="utf-8"))
    # All that the program exports.
    assert set(config["service"]["pipelines"]) == {"traces", "metrics", "logs"}
    for name, pipeline in config["service"]["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            assert pipeline[kind] and set(pipeline[kind]) <= set(config[kind]), f"{name}: {kind}"
    port = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].split(":")[1]
    for name in chart.SERVICES:
        endpoint = compose.processes()[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert endpoint == f"http://collector:{port}"


def test_prometheus_takes_its_configuration(promtool, tmp_path):
    text = (compose.DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8")
    mounts = dict(volume.split(":")[1::-1] for volume in compose.load()["services"]["prometheus"]["volumes"])
    (rules,) = yaml.safe_load(text)["rule_files"]
    config = tmp_path / "prometheus.yaml"
    config.write_text(text.replace(rules, str((compose.DEPLOY / mounts[rules]).resolve())), encoding="utf-8")
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_what_is_provisioned():
    grafana = compose.load()["services"]["grafana"]
    mounts = dict(volume.split(":")[1::-1] for volume in grafana["volumes"])
    provisioning = compose.DEPLOY / mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["isDefault"] and source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "runnel.yaml").read_text(encoding="utf-8"))["providers"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounts and home.startswith(provider["options"]["path"] + "/")
    assert mounts[home] == "./chart/runnel/files/dashboard.json", "there is one copy"


def test_images_have_a_version():
    for name, service in compose.load()["services"].items():
        if name not in compose.processes():
            tag = service["image"].rsplit(":", 1)[1]
            assert re.search(r"\d", tag) and tag != "latest", name
