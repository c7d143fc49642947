"""NetworkPolicies allow the drawn arrows, and nothing else."""

from collections.abc import Callable

from tests.chart.charts import Manifest, Rendered, kinds, named, pods

COMPONENT = "app.kubernetes.io/component"
ARROWS = {
    ("inference", "retrieval"), ("inference", "orchestration"),
    ("retrieval", "inference"),
    ("orchestration", "inference"), ("orchestration", "retrieval"), ("orchestration", "scoring"),
    ("scoring", "inference"), ("scoring", "orchestration"),
    ("gateway", "inference"), ("gateway", "retrieval"), ("gateway", "orchestration"), ("gateway", "scoring"),
    ("client", "inference"), ("client", "retrieval"), ("client", "orchestration"), ("client", "scoring"),
    ("client", "gateway"),
}  # fmt: skip
"""Who calls whom, as docs/adr and the builders of the services say."""


def _own(policy: Manifest) -> str:
    return str(policy["spec"]["podSelector"]["matchLabels"][COMPONENT])


def _named(peers: list[Manifest]) -> set[str]:
    found: set[str] = set()
    for peer in peers:
        selector = peer.get("podSelector", {})
        for expression in selector.get("matchExpressions", []):
            found |= set(expression["values"])
        if COMPONENT in selector.get("matchLabels", {}):
            found.add(selector["matchLabels"][COMPONENT])
    return found


def _arrows(manifests: Rendered) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Arrows by the rules of those who call, and by the rules of those who are called."""
    out, into = set(), set()
    for policy in kinds(manifests, "NetworkPolicy").values():
        own = _own(policy)
        for rule in policy["spec"]["egress"]:
            out |= {(own, other) for other in _named(rule.get("to", []))}
        for rule in policy["spec"]["ingress"]:
            into |= {(other, own) for other in _named(rule["from"])}
    return out, into


def test_the_arrows_are_the_drawn_ones(render: Callable[..., Rendered]) -> None:
    out, into = _arrows(render("grid"))
    assert out == ARROWS
    assert into == ARROWS


def test_model_servers_are_called_by_inference_alone(render: Callable[..., Rendered]) -> None:
    manifests = render("grid-models")
    out, into = _arrows(manifests)
    servers = {_own(p) for p in kinds(manifests, "NetworkPolicy").values() if _own(p).startswith("model-")}
    assert len(servers) == 3
    assert out == into == ARROWS | {("inference", server) for server in servers}


def test_every_pod_has_a_policy(render: Callable[..., Rendered]) -> None:
    for name in ("profile-trial", "grid", "profile-gpu", "grid-evaluations"):
        manifests = render(name)
        covered = {_own(policy) for policy in kinds(manifests, "NetworkPolicy").values()}
        assert {spec["labels"][COMPONENT] for spec in pods(manifests).values()} <= covered
        for policy in kinds(manifests, "NetworkPolicy").values():
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_a_server_that_is_offline_has_no_way_out(render: Callable[..., Rendered]) -> None:
    policies = kinds(render("profile-airgap"), "NetworkPolicy").values()
    assert [p["spec"]["egress"] for p in policies if _own(p).startswith("model-")] == [[]]


def test_ports_outside_are_those_of_the_settings(render: Callable[..., Rendered]) -> None:
    manifests = render("grid-secured")
    rule = named(manifests, "NetworkPolicy", "safescale-inference")["spec"]["egress"][-1]
    assert {port["port"] for port in rule["ports"]} == {9093, 9200, 8443}
    assert rule["to"] == [{"ipBlock": {"cidr": "10.20.0.0/16"}}]
    gateway = named(manifests, "NetworkPolicy", "safescale-gateway")["spec"]["egress"]
    assert all("to" in each or each["ports"][0]["port"] == 53 for each in gateway)
    default = named(render("grid-autoscaled"), "NetworkPolicy", "safescale-scoring")["spec"]["egress"][-1]
    assert {port["port"] for port in default["ports"]} == {9093, 443, 4317}


def _opened_to_others(manifests: Rendered) -> dict[str, set[str]]:
    """Ports by component that every pod of the cluster reaches."""
    found: dict[str, set[str]] = {}
    for policy in kinds(manifests, "NetworkPolicy").values():
        for rule in policy["spec"]["ingress"]:
            if {"namespaceSelector": {}} in rule["from"]:
                found.setdefault(_own(policy), set()).update(port["port"] for port in rule["ports"])
    return found


def test_metrics_open_a_port_that_serves_more_only_where_they_are_read(render: Callable[..., Rendered]) -> None:
    metrics = {name: {"metrics"} for name in ("inference", "retrieval", "orchestration", "scoring")}
    settings = ("networkPolicy.gatewayFrom=[]",)
    assert _opened_to_others(render("grid-models", *settings, "monitoring.monitors.enabled=false")) == metrics
    manifests = render("grid-models", *settings, "monitoring.monitors.enabled=true")
    monitors = kinds(manifests, "PodMonitor").values()
    servers = {each["spec"]["selector"]["matchLabels"][COMPONENT] for each in monitors}
    assert servers
    assert _opened_to_others(manifests) == {**metrics, "gateway": {"http"}, **{name: {"http"} for name in servers}}
