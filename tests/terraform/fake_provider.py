"""A fake DigitalOcean provider: the schema of the real one, no network, no cloud.

Terraform reaches it through TF_REATTACH_PROVIDERS, so tests need neither a registry nor the provider's program. It
invents what the cloud would decide: ids, hosts, passwords. Terraform does not check version constraints here.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from tests.terraform.plugin_protocol import UNKNOWN, Message, dynamic, field, is_unknown, parse, refusal, schema, value

SOURCE = "registry.terraform.io/digitalocean/digitalocean"
# Values that the provider checks beyond its schema: resource, path to the value, accepted values.
CHOICES: list[tuple[str, tuple[str, ...], set[str]]] = [
    ("digitalocean_database_firewall", ("rule", "type"), {"ip_addr", "droplet", "k8s", "tag", "app"}),
    ("digitalocean_database_connection_pool", ("mode",), {"session", "transaction", "statement"}),
    ("digitalocean_app", ("spec", "job", "kind"), {"PRE_DEPLOY", "POST_DEPLOY", "FAILED_DEPLOY", "UNSPECIFIED"}),
    ("digitalocean_app", ("spec", "domain", "type"), {"DEFAULT", "PRIMARY", "ALIAS"}),
    *(
        ("digitalocean_app", ("spec", part, "env", "type"), {"GENERAL", "SECRET"})
        for part in ("service", "worker", "job")
    ),
    (
        "digitalocean_app", ("spec", "alert", "rule"),
        {f"DEPLOYMENT_{end}" for end in ("FAILED", "LIVE", "STARTED", "CANCELED")}
        | {"DOMAIN_FAILED", "DOMAIN_LIVE", "AUTOSCALE_FAILED", "AUTOSCALE_SUCCEEDED"},
    ),
    *(
        ("digitalocean_app", ("spec", part, "alert", name), accepted)
        for part in ("service", "worker", "job")
        for name, accepted in (
            ("rule", {"CPU_UTILIZATION", "MEM_UTILIZATION", "RESTART_COUNT"}),
            ("operator", {"GREATER_THAN", "LESS_THAN"}),
            ("window", {"FIVE_MINUTES", "TEN_MINUTES", "THIRTY_MINUTES", "ONE_HOUR"}),
        )
    ),
    ("digitalocean_monitor_alert", ("window",), {"5m", "10m", "30m", "1h"}),
    ("digitalocean_monitor_alert", ("compare",), {"GreaterThan", "LessThan"}),
    ("digitalocean_uptime_alert", ("type",), {"latency", "down", "down_global", "ssl_expiry"}),
    ("digitalocean_uptime_alert", ("period",), {"2m", "3m", "5m", "10m", "15m", "30m", "1h"}),
    ("digitalocean_project", ("environment",), {"Development", "Staging", "Production"}),
    (
        "digitalocean_spaces_bucket", ("region",),
        {"ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1"},
    ),
    ("digitalocean_spaces_key", ("grant", "permission"), {"read", "readwrite", "fullaccess"}),
]  # fmt: skip


@contextmanager
def serve(schemas: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Run the fake provider. Yield the environment variables by which terraform finds it."""
    server = grpc.server(
        futures.ThreadPoolExecutor(8),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    server.add_generic_rpc_handlers((Provider(schemas),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    reattach = {
        "Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True,
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
    }  # fmt: skip
    try:
        yield {"TF_REATTACH_PROVIDERS": json.dumps({SOURCE: reattach})}
    finally:
        server.stop(0).wait()


class Provider(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Each public method is a call of the plugin protocol, under its name there. It gets the fields of the request."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def service(self, details: Any) -> Any:
        service, _, call = details.method.rpartition("/")
        if service != "/tfplugin5.Provider" or not hasattr(self, call):
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, _: getattr(self, call)(parse(request)))

    def GetSchema(self, _: Message) -> bytes:  # noqa: N802
        octets = field(1, schema(self.schemas["provider"]))
        for number, kinds in ((2, "resources"), (3, "data")):
            for name, block in self.schemas[kinds].items():
                octets += field(number, field(1, name) + field(2, schema(block)))
        return octets

    def PrepareProviderConfig(self, request: Message) -> bytes:  # noqa: N802
        return field(1, request[1][0])

    def Configure(self, _: Message) -> bytes:  # noqa: N802
        return b""

    Stop = ValidateDataSourceConfig = Configure

    def ValidateResourceTypeConfig(self, request: Message) -> bytes:  # noqa: N802
        kind, config = request[1][0].decode(), value(request[2][0])
        octets = b""
        for resource, path, accepted in CHOICES:
            wrong = [value for value in _at(config, path) if value not in accepted] if resource == kind else []
            for content in wrong:
                octets += field(1, refusal(f"expected {'.'.join(path)} to be one of {sorted(accepted)}, got {content}"))
        for name in _at(config, ("spec", "name")) if kind == "digitalocean_app" else []:
            if not 2 <= len(name) <= 32:
                octets += field(1, refusal(f"expected length of spec.name to be in the range (2 - 32), got {name}"))
        return octets

    def UpgradeResourceState(self, request: Message) -> bytes:  # noqa: N802
        state = json.loads(parse(request[3][0])[1][0])
        return field(1, dynamic(state))

    def ReadResource(self, request: Message) -> bytes:  # noqa: N802
        return field(1, request[2][0])

    def PlanResourceChange(self, request: Message) -> bytes:  # noqa: N802
        block = self.schemas["resources"][request[1][0].decode()]
        prior, proposed = value(request[2][0]), value(request[3][0])
        if proposed is not None and prior is None:
            _fill(proposed, block, lambda kind, name: UNKNOWN)
        return field(1, dynamic(proposed)) + field(5, 1)

    def ApplyResourceChange(self, request: Message) -> bytes:  # noqa: N802
        kind, planned = request[1][0].decode(), value(request[3][0])
        if planned is not None:
            mark = uuid.uuid4().hex[:8]
            _fill(planned, self.schemas["resources"][kind], lambda type_, name: _invent(type_, name, mark))
        return field(1, dynamic(planned)) + field(4, 1)

    def ReadDataSource(self, request: Message) -> bytes:  # noqa: N802
        block = self.schemas["data"][request[1][0].decode()]
        return field(1, dynamic(_fill(value(request[2][0]), block, lambda type_, name: _invent(type_, name, "read"))))


def _at(content: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield the known values at a path through lists and sets of blocks."""
    if isinstance(content, list):
        for item in content:
            yield from _at(item, path)
    elif path and isinstance(content, dict):
        yield from _at(content.get(path[0]), path[1:])
    elif not path and content is not None and not is_unknown(content):
        yield content


def _fill(content: Any, block: dict[str, Any], make: Callable[[Any, str], Any]) -> Any:
    """Fill in each computed attribute that has no value yet."""
    if not isinstance(content, dict):
        return content
    for name, attribute in block["attributes"].items():
        if attribute["computed"] and (content.get(name) is None or is_unknown(content[name])):
            content[name] = make(attribute["type"], name)
    for name, nested in block["blocks"].items():
        inner = content.get(name)
        for item in inner if isinstance(inner, list) else [inner]:
            _fill(item, nested["block"], make)
    return content


def _invent(kind: Any, name: str, mark: str) -> Any:
    if isinstance(kind, list):
        return {"list": [], "set": [], "map": {}}.get(kind[0])
    return {"string": f"made-up-{name}-{mark}", "number": 25060, "bool": False}[kind]
