"""The chart's NetworkPolicies let through what Runnel does, and nothing else."""

import re

import chart
import pytest
from network import Peer, allows

KUBE_DNS = Peer({"k8s-app": "kube-dns"}, "kube-system"), 53
# Where DNS is, and on which port, if not there.
DNS = {"openshift": (Peer({"dns.operator.openshift.io/daemonset-dns": "default"}, "openshift-dns"), 5353)}
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = Peer({"app": "stranger"}, chart.NAMESPACE)
DATABASE = Peer(address="10.20.0.7")
ELSEWHERE = Peer(address="203.0.113.9")
BEHIND = ("ingest", "funnel", "segmentation")


def pod(rendered, service):
    return Peer(rendered.pod(service).labels, chart.NAMESPACE)


def dns(rendered):
    return DNS.get(rendered.name, KUBE_DNS)


def flows(rendered):
    """Every flow that a rendered release needs: from, to, port."""
    gateway = rendered.pod("gateway")
    for service in BEHIND:
        port = int(re.search(r":(\d+)$", gateway.variables[f"RUNNEL_{service.upper()}"]["value"]).group(1))
        yield pod(rendered, "gateway"), pod(rendered, service), port
    yield STRANGER, pod(rendered, "gateway"), 7070
    for one in rendered.pods:
        me = Peer(one.labels, chart.NAMESPACE)
        yield me, *dns(rendered)
        yield me, DATABASE, 5432
        if one.ports:
            yield PROMETHEUS, me, 9464
        if "RUNNEL_REDIS" in one.variables:
            yield me, Peer({"app": "redis"}, chart.NAMESPACE), 6379
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in one.variables:
            port = int(re.search(r":(\d+)$", one.variables["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"]).group(1))
            yield me, Peer({"app": "collector"}, "observability"), port


def test_what_is_needed_goes_through(rendered):
    policies = rendered.of("NetworkPolicy")
    for source, target, port in flows(rendered):
        assert allows(policies, source, target, port), (source, target, port)
    for one in rendered.pods:
        assert allows(policies, Peer(one.labels, chart.NAMESPACE), *dns(rendered), "UDP")


def test_every_port_of_a_container_is_reached_by_somebody(rendered):
    reached = {}
    for _, target, port in flows(rendered):
        reached.setdefault(target.labels.get("app.kubernetes.io/component"), set()).add(port)
    for service in chart.SERVICES:
        one = rendered.pod(service)
        listened = [one.variables[name]["value"].rpartition(":") for name in ("RUNNEL_LISTEN", "RUNNEL_OPS_LISTEN")]
        assert one.ports == {int(port) for _, _, port in listened} == reached[service], service
        assert {address for address, _, _ in listened} == {"[::]" if rendered.name == "full" else "0.0.0.0"}


def test_nothing_else_goes_through(rendered):
    policies = rendered.of("NetworkPolicy")
    for service in BEHIND:
        me = pod(rendered, service)
        assert not allows(policies, STRANGER, me, 7070)
        assert not allows(policies, PROMETHEUS, me, 7070)
        assert not allows(policies, STRANGER, me, 9464)
        assert not allows(policies, me, pod(rendered, "gateway"), 9464)
        for other in BEHIND:
            assert not allows(policies, me, pod(rendered, other), 7070)
    for one in rendered.pods:
        me = Peer(one.labels, chart.NAMESPACE)
        assert not allows(policies, me, ELSEWHERE, 443)
        assert not allows(policies, me, STRANGER, 8080)
        assert not allows(policies, me, dns(rendered)[0], 443)
        for where, port in [KUBE_DNS, *DNS.values()]:
            assert allows(policies, me, where, port) == ((where, port) == dns(rendered))
        assert not allows(policies, STRANGER, me, 22)
    for service in ("ingest", "funnel"):
        assert not allows(policies, pod(rendered, service), Peer({"app": "redis"}, chart.NAMESPACE), 6379)


def test_peers_that_are_named_are_the_only_ones(full):
    policies = full.of("NetworkPolicy")
    gateway = pod(full, "gateway")
    assert not allows(policies, Peer({}, "elsewhere"), gateway, 7070)
    assert allows(policies, Peer({}, "shop"), gateway, 7070)
    assert allows(policies, gateway, Peer(address="10.20.0.99"), 6432)
    assert not allows(policies, gateway, ELSEWHERE, 5432)
    assert not allows(policies, gateway, Peer({}, "observability"), 5432)
    assert not allows(policies, pod(full, "migrate"), Peer({}, "observability"), 4317)


def test_other_pods_of_the_namespace_stay_as_they_are(rendered):
    assert allows(rendered.of("NetworkPolicy"), STRANGER, Peer({"app": "other"}, chart.NAMESPACE), 80)


def test_without_policies_everything_goes(helm):
    rendered = chart.render(helm, "minimal", "--set", "networkPolicy.enabled=false")
    assert rendered.of("NetworkPolicy") == []


@pytest.mark.parametrize("dropped", ["rel-runnel-gateway", "rel-runnel-ingest", "rel-runnel-migrate"])
def test_a_policy_that_is_missing_is_noticed(minimal, dropped):
    rest = [one for one in minimal.of("NetworkPolicy") if one["metadata"]["name"] != dropped]
    assert not all(allows(rest, *flow) for flow in flows(minimal))
