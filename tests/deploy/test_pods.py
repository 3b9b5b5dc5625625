"""Every pod of the chart is what the Pod Security Standard `restricted` admits, and a little stricter."""

import copy

import chart
import pytest

# https://kubernetes.io/docs/concepts/security/pod-security-standards/ names these volume types.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
# What some clusters give by themselves, and then refuse from others.
IDS = {"runAsUser", "runAsGroup", "fsGroup"}


def faults(spec: dict, ids_given: bool = False) -> list[str]:
    """What keeps a pod from being restricted, where the cluster gives it user and groups or not."""
    wrong = []
    pod = spec.get("securityContext", {})
    if pod.get("runAsNonRoot") is not True:
        wrong.append("runAsNonRoot")
    wrong += sorted(one for one in IDS if (one in pod) == ids_given or pod.get(one) == 0)
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        wrong.append("seccompProfile")
    if spec.get("automountServiceAccountToken") is not False:
        wrong.append("automountServiceAccountToken")
    if spec.get("serviceAccountName", "default") == "default":
        wrong.append("serviceAccountName")
    wrong += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    wrong += [f"volume {one['name']}" for one in spec.get("volumes", []) if not VOLUMES & one.keys()]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append("allowPrivilegeEscalation")
        if own.get("readOnlyRootFilesystem") is not True:
            wrong.append("readOnlyRootFilesystem")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            wrong.append("capabilities")
        wrong += [
            key for key in ("privileged", "procMount", "runAsUser", "runAsNonRoot", "seccompProfile") if key in own
        ]
        wrong += ["hostPort" for port in container.get("ports", []) if "hostPort" in port]
        for kind in ("requests", "limits"):
            if "memory" not in container.get("resources", {}).get(kind, {}):
                wrong.append(f"memory in {kind}")
        if "cpu" not in container.get("resources", {}).get("requests", {}):
            wrong.append("cpu in requests")
    return wrong


def test_every_pod_is_restricted(rendered):
    services = {pod.service for pod in rendered.pods}
    assert services == {*chart.SERVICES} | ({"migrate"} if rendered.name != "cluster" else set())
    for pod in rendered.pods:
        assert faults(pod.spec, ids_given=rendered.name == "openshift") == [], pod.service


def test_no_account_has_a_token(rendered):
    accounts = {one["metadata"]["name"]: one for one in rendered.of("ServiceAccount")}
    assert {pod.spec["serviceAccountName"] for pod in rendered.pods} == set(accounts)
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())


def test_pods_spread(rendered):
    for service in chart.SERVICES:
        constraints = rendered.pod(service).spec.get("topologySpreadConstraints", [])
        assert bool(constraints) == (rendered.name != "cluster")
        for one in constraints:
            assert one["labelSelector"]["matchLabels"].items() <= rendered.pod(service).labels.items()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
        (lambda spec: spec["securityContext"].pop("fsGroup"), "fsGroup"),
        (lambda spec: spec["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"), "capabilities"),
        (lambda spec: spec["containers"][0].pop("securityContext"), "allowPrivilegeEscalation"),
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec.update(volumes=[{"name": "host", "hostPath": {"path": "/"}}]), "volume host"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(minimal, change, fault):
    spec = copy.deepcopy(minimal.pod("migrate").spec)
    change(spec)
    assert fault in faults(spec)
