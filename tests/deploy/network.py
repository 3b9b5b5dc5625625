"""Which flows a set of NetworkPolicies lets through."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network


@dataclass
class Peer:
    """One end of a flow: a pod, or an address outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None
    address: str | None = None


def _selects(selector: dict, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions", []):
        there = labels.get(one["key"])
        held = {
            "In": there in one.get("values", []),
            "NotIn": there not in one.get("values", []),
            "Exists": there is not None,
            "DoesNotExist": there is None,
        }
        if not held[one["operator"]]:
            return False
    return True


def _is(peer: dict, other: Peer, own: str) -> bool:
    """Whether a peer of a rule is the other end. `own` is the policy's namespace."""
    if "ipBlock" in peer:
        return other.address is not None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != own:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _side(policies: list[dict], pod: Peer, other: Peer, port: int, protocol: str, way: str) -> bool:
    """Whether one end lets a flow through."""
    rules, peers = ("ingress", "from") if way == "Ingress" else ("egress", "to")
    about = [
        one
        for one in policies
        if one["metadata"]["namespace"] == pod.namespace
        and way in one["spec"]["policyTypes"]
        and _selects(one["spec"]["podSelector"], pod.labels)
    ]
    if not about:
        return True
    for one in about:
        for rule in one["spec"].get(rules, []):
            ports = [(each["port"], each["protocol"]) for each in rule.get("ports", [])]
            fits = not ports or (port, protocol) in ports
            named = rule.get(peers)
            if fits and (not named or any(_is(peer, other, pod.namespace) for peer in named)):
                return True
    return False


def allows(policies: list[dict], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a flow goes through: its source must be let out and its target must let it in."""
    out = source.namespace is None or _side(policies, source, target, port, protocol, "Egress")
    into = target.namespace is None or _side(policies, target, source, port, protocol, "Ingress")
    return out and into
