"""The chart renders, and what it renders is what Kubernetes takes."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import chart
import jsonschema
import kubernetes_validate
import pytest
import source
import yaml

SCHEMAS = Path(__file__).resolve().parent / "schemas"
# The oldest version that the chart takes, and a new one.
KUBERNETES = ("1.30", "1.34")
# Kinds that are no part of Kubernetes.
OTHERS = {"ServiceMonitor", "PrometheusRule", "Certificate", "GRPCRoute"}


@pytest.mark.parametrize("name", chart.VALUE_SETS)
def test_helm_finds_no_fault(helm, name):
    command = [helm, "lint", "--strict", "--values", chart.values(name), chart.CHART]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_oldest_version_is_tried():
    meta = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert meta["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_object_is_valid(rendered, kubernetes):
    for one in rendered.objects:
        if one["kind"] in OTHERS:
            schema = json.loads((SCHEMAS / f"{one['kind'].lower()}.json").read_text(encoding="utf-8"))
            jsonschema.Draft202012Validator(schema).validate(one)
        else:
            assert kubernetes_validate.validate(one, kubernetes, strict=True) == kubernetes


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_a_wrong_object_is_found(full, kubernetes):
    deployment = full.of("Deployment")[0]
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes, strict=True)
    for kind in sorted(OTHERS):
        schema = json.loads((SCHEMAS / f"{kind.lower()}.json").read_text(encoding="utf-8"))
        one = full.of(kind)[0]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate({**one, "spec": {**one["spec"], "planted": True}})


def test_names_are_unique_and_labels_complete(rendered):
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered.objects]
    assert len(names) == len(set(names))
    for one in rendered.objects:
        assert one["metadata"]["namespace"] == chart.NAMESPACE, one["metadata"]["name"]
        assert len(one["metadata"]["name"]) <= 63
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "rel"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_everything_that_is_switched_on_is_there(full, minimal):
    switched = {"Certificate", "ServiceMonitor", "PrometheusRule", "Ingress", "GRPCRoute", "ConfigMap"}
    assert switched <= {one["kind"] for one in full.objects}
    assert not switched & {one["kind"] for one in minimal.objects}
    for kind, count in (("Deployment", 4), ("HorizontalPodAutoscaler", 4), ("PodDisruptionBudget", 4), ("Service", 5)):
        assert len(full.of(kind)) == len(minimal.of(kind)) == count, kind


def test_no_secret_is_made_here(rendered):
    assert rendered.of("Secret") == []
    for pod in rendered.pods:
        for name, variable in pod.variables.items():
            if name.startswith(("RUNNEL_POSTGRES", "RUNNEL_REDIS")) and name not in (
                "RUNNEL_POSTGRES_NO_MIGRATION",
                "RUNNEL_POSTGRES_CONNECTIONS",
            ):
                assert "secretKeyRef" in variable["valueFrom"], f"{pod.service}: {name}"


def test_each_process_works_as_the_users_that_it_needs(rendered):
    wanted = {
        "gateway": {"RUNNEL_POSTGRES": "admin"},
        "ingest": {
            "RUNNEL_POSTGRES": "ingest",
            "RUNNEL_POSTGRES_COMPACTION": "compaction",
            "RUNNEL_POSTGRES_QUERY": "query",
        },
        "funnel": {"RUNNEL_POSTGRES": "query", "RUNNEL_POSTGRES_ADMIN": "admin"},
        "segmentation": {"RUNNEL_POSTGRES": "query", "RUNNEL_POSTGRES_ADMIN": "admin"},
        "migrate": {
            "RUNNEL_POSTGRES": "owner",
            **{f"RUNNEL_POSTGRES_{user.upper()}": user for user in ("ingest", "compaction", "query", "admin")},
        },
    }
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))["postgres"]["users"]
    values |= (yaml.safe_load(chart.values(rendered.name).read_text(encoding="utf-8")).get("postgres") or {}).get(
        "users", {}
    )
    for pod in rendered.pods:
        named = {
            name: variable["valueFrom"]["secretKeyRef"]
            for name, variable in pod.variables.items()
            if name.startswith("RUNNEL_POSTGRES") and "valueFrom" in variable
        }
        expected = {
            name: {"name": values[user]["existingSecret"], "key": values[user]["key"]}
            for name, user in wanted[pod.service].items()
        }
        assert named == expected, pod.service
        pepper = [volume for volume in pod.spec.get("volumes", []) if volume["name"] == "pepper"]
        assert bool(pepper) == (pod.service == "gateway")


def test_every_file_that_is_named_is_mounted(rendered):
    for pod in rendered.pods:
        volumes = {volume["name"]: volume["secret"] for volume in pod.spec.get("volumes", [])}
        files = set()
        for mount in pod.container.get("volumeMounts", []):
            assert mount["readOnly"]
            secret = volumes.pop(mount["name"])
            assert secret["defaultMode"] == 0o440
            files |= {f"{mount['mountPath']}/{item['path']}" for item in secret["items"]}
        assert not volumes, f"{pod.service} does not mount {sorted(volumes)}"
        named = {
            variable["value"]
            for variable in pod.variables.values()
            if str(variable.get("value", "")).startswith("/etc/runnel/")
        }
        assert named == files, pod.service


def test_clients_reach_every_service_under_the_name_that_they_dial(rendered):
    dialled = rendered.pod("gateway").variables
    tls = any(volume["name"] == "internal" for volume in rendered.pod("gateway").spec["volumes"])
    for service in ("ingest", "funnel", "segmentation"):
        address = dialled[f"RUNNEL_{service.upper()}"]["value"]
        scheme, name, port = re.fullmatch(r"(https?)://([a-z0-9-]+)\.shop\.svc\.[a-z.]+:(\d+)", address).groups()
        assert scheme == ("https" if tls else "http")
        found = rendered.named("Service", name)
        assert found["spec"]["clusterIP"] == "None", "whoever dials pods needs each pod's address"
        labels = rendered.pod(service).labels
        assert found["spec"]["selector"].items() <= labels.items()
        ports = {port["name"]: port for port in found["spec"]["ports"]}
        assert ports["grpc"]["port"] == int(port)
        assert ports["grpc"]["appProtocol"] == ("https" if tls else "kubernetes.io/h2c")


def test_certificates_carry_the_names_that_are_dialled(full):
    client = {
        full.pod(service).variables["RUNNEL_TLS_CLIENT_NAME"]["value"]
        for service in chart.SERVICES
        if service != "gateway"
    }
    names = {one["spec"]["secretName"]: one["spec"] for one in full.of("Certificate")}
    for service in chart.SERVICES:
        (volume,) = [volume for volume in full.pod(service).spec["volumes"] if volume["name"] == "internal"]
        certificate = names[volume["secret"]["secretName"]]
        if service == "gateway":
            assert client == set(certificate["dnsNames"]) and "client auth" in certificate["usages"]
        else:
            address = full.pod("gateway").variables[f"RUNNEL_{service.upper()}"]["value"]
            assert certificate["dnsNames"] == [address.removeprefix("https://").split(":")[0]]
            assert "server auth" in certificate["usages"]


def test_pods_stop_without_losing_a_call(rendered):
    for service in chart.SERVICES:
        pod = rendered.pod(service)
        sleep = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        # The gateway looks names up every 2 s.
        assert sleep >= 2
        assert "RUNNEL_DRAIN_DELAY" not in pod.variables, "the pause before the stop is the whole delay"
        assert pod.spec["terminationGracePeriodSeconds"] > sleep + source.drain() + chart.CLOSING
        for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            assert pod.container[probe]["httpGet"] == {"path": path, "port": "ops"}
    for one in rendered.of("Deployment"):
        assert one["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    for one in rendered.of("PodDisruptionBudget"):
        assert one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    for one in rendered.of("HorizontalPodAutoscaler"):
        assert one["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_the_shortest_stop_that_is_let_through_is_long_enough(helm):
    arguments = ("--set", "drain.preStopSeconds=10", "--set")
    with pytest.raises(chart.RenderError, match="drain.graceSeconds"):
        chart.render(helm, "minimal", *arguments, "drain.graceSeconds=39")
    spec = chart.render(helm, "minimal", *arguments, "drain.graceSeconds=40").pod("gateway").spec
    assert spec["terminationGracePeriodSeconds"] > 10 + source.drain() + chart.CLOSING


def test_a_rollout_goes_on_when_everybody_s_dns_has_the_new_pod(rendered):
    # What CoreDNS and its cache on a node keep at most, and the pace at which the gateway looks names up.
    cached = 30 + source.seconds("crates/chassis/src/network.rs", "LOOK_UP")
    assert [one["spec"]["minReadySeconds"] > cached for one in rendered.of("Deployment")] == [True] * 4


def test_who_scales_by_load_has_no_number_of_pods(rendered):
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in rendered.of("HorizontalPodAutoscaler")}
    for one in rendered.of("Deployment"):
        assert ("replicas" in one["spec"]) == (one["metadata"]["name"] not in scaled)


def test_the_migration_needs_nothing_that_comes_later(rendered):
    hooks = [one for one in rendered.objects if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    if rendered.name == "cluster":
        assert hooks == []
        return
    assert sorted(one["kind"] for one in hooks) == ["Job", "NetworkPolicy", "ServiceAccount"]
    weights = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks}
    assert weights["ServiceAccount"] < weights["Job"] and weights["NetworkPolicy"] < weights["Job"]
    for one in hooks:
        assert one["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert rendered.pod("migrate").spec["serviceAccountName"] in {one["metadata"]["name"] for one in hooks}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "gatway.replicas=3"], "gatway"),
        (["--set", "gateway.replica=3"], "replica"),
        (["--set", "tls.internal.enable=true"], "enable"),
        (["--set", "gateway.replicas=none"], "replicas"),
        (["--set", "image.digest=sha256:1234"], "digest"),
        (["--set", "funnel.resources.limits.memory=4000000"], "memory"),
        (["--set", "gateway.allowedOrigins={https://app.example.com/}"], "allowedOrigins"),
        (["--set", "otlp.endpoint=collector"], "endpoint"),
        (["--set", "pepper.existingSecret="], "existingSecret"),
        (["--set", "funnel.memoryMb=6000"], "quarter larger"),
        (["--set", "drain.preStopSeconds=15"], "drain.graceSeconds"),
        (["--set", "minReadySeconds=601"], "minReadySeconds"),
        (["--set", "listenAddress=::"], "listenAddress"),
        (["--set", "podSecurity.fixedId=false"], "fixedId"),
        (["--set", "networkPolicy.dnsPorts=5353"], "dnsPorts"),
        (["--set", "ingest.autoscaling.minReplicas=11"], "minReplicas"),
        (["--set", "tls.internal.enabled=true"], "tls.internal.existingSecrets.gateway"),
        (["--set", "gateway.ingress.enabled=true"], "no host"),
        (["--set", "gateway.grpcRoute.enabled=true"], "no Gateway"),
    ],
)
def test_wrong_values_are_refused(helm, arguments, says):
    with pytest.raises(chart.RenderError, match=re.escape(says)):
        chart.render(helm, "minimal", *arguments)


def _keys(values: dict, schema: dict, definitions: dict, path: str = "") -> list[str]:
    """Keys that only one of the two has."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    found = [f"{path}{key}" for key in values.keys() ^ schema["properties"].keys()]
    for key in values.keys() & schema["properties"].keys():
        found += _keys(values[key], schema["properties"][key], definitions, f"{path}{key}.")
    return found


def test_the_schema_has_the_keys_of_the_values():
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    # What Helm itself hands to a chart, and what a pod may ask for beside CPU and memory.
    fine = {"global"} | {
        f"{one}.resources.{kind}.{what}"
        for one in (*chart.SERVICES, "migration")
        for kind in ("requests", "limits")
        for what in ("cpu", "ephemeral-storage")
    }
    assert set(_keys(values, schema, schema["$defs"])) - fine == set()


def test_the_version_is_the_workspace_s():
    meta = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    cargo = tomllib.loads((chart.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert meta["appVersion"] == cargo["workspace"]["package"]["version"]
