"""The schema of the DigitalOcean provider, read from the TypeScript sources inside the wheel of its CDK bindings.

The newest bindings are generated from provider 2.71.0, older than the version that terraform/ demands. `ADDED_LATER`
lists what terraform/ uses of later versions, and `CHECKED` the version whose source was compared by hand with 2.71.0,
resource by resource. docs/infrastructure.md tells operators the same; a test compares the two.

A block is {"attributes": {name: attribute}, "blocks": {name: nested block}}, as in Terraform's plugin protocol.
"""

import base64
import copy
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Block = dict[str, Any]
BINDINGS = "2.71.0"
CHECKED = "2.99.1"
# Blocks of digitalocean_app's components that are newer than the bindings, with the version that has them first. Their
# fields are those of health_check.
ADDED_LATER = {"liveness_health_check": ("2.91.0", ("service", "worker"))}
# The resources and data sources of terraform/, and what their schema gained between BINDINGS and CHECKED. Nothing was
# removed or became required in any of them.
GAINED = {
    "digitalocean_app": ["liveness_health_check", "secure_header"],
    "digitalocean_cdn": [],
    "digitalocean_container_registry": [],
    "digitalocean_database_cluster": ["storage_autoscale"],
    "digitalocean_database_connection_pool": [],
    "digitalocean_database_db": [],
    "digitalocean_database_firewall": [],
    "digitalocean_database_replica": [],
    "digitalocean_database_user": [],
    "digitalocean_kubernetes_cluster": ["worker_subnet_uuid", "sso", "isolated_workers", "add-ons"],
    "digitalocean_kubernetes_versions": [],
    "digitalocean_monitor_alert": [],
    "digitalocean_project": [],
    "digitalocean_spaces_bucket": [],
    "digitalocean_spaces_bucket_cors_configuration": [],
    "digitalocean_spaces_key": [],
    "digitalocean_uptime_alert": [],
    "digitalocean_uptime_check": [],
    "digitalocean_vpc": [],
}
# The bindings' name for the type of a getter, and Terraform's type.
TYPES: dict[str, Any] = {
    "String": "string", "Number": "number", "Boolean": "bool",
    "List": ["list", "string"], "NumberList": ["list", "number"],
    "StringMap": ["map", "string"], "NumberMap": ["map", "number"], "BooleanMap": ["map", "bool"],
    "AnyMap": ["map", "string"], "StringMapList": ["list", ["map", "string"]],
}  # fmt: skip
PROPERTY = re.compile(r"\n  // (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n")
HCL_PROPERTY = r"\n\s+(\w+): \{\n\s+value: [^\n]*\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\""
GETTER = re.compile(r"get(\w+?)Attribute\('(\w+)'\)")
NESTED = re.compile(r"new (\w+?)(List|Map|OutputReference)\(this, \"(\w+)\"(?:, (true|false))?\)")
MAP_GETTER = re.compile(r"cdktf\.(String|Number|Boolean|Any)Map\(this, \"(\w+)\"\)")
# The provider marks these values as secret; the bindings do not say so.
SENSITIVE = {
    "digitalocean_database_cluster": ["password", "uri", "private_uri", "ui_password", "ui_uri"],
    "digitalocean_database_user": ["password", "access_key", "access_cert"],
    "digitalocean_database_connection_pool": ["password", "uri", "private_uri"],
    "digitalocean_database_replica": ["password", "uri", "private_uri"],
    "digitalocean_spaces_key": ["secret_key"],
    "digitalocean_kubernetes_cluster": ["kube_config"],
}


def read(wheel: Path) -> dict[str, Any]:
    """Return {"provider": block, "resources": {type: block}, "data": {type: block}}."""
    schemas: dict[str, Any] = {"provider": None, "resources": {}, "data": {}}
    for source in _sources(wheel):
        bindings = _Source(source)
        for name, (base, body) in bindings.classes.items():
            kind = re.search(r"static readonly tfResourceType = \"(\w+)\"", body)
            if base == "TerraformProvider":
                schemas["provider"] = bindings.block(name, name)
                del schemas["provider"]["attributes"]["alias"]
            elif kind and base in ("TerraformResource", "TerraformDataSource"):
                schemas["resources" if base == "TerraformResource" else "data"][kind[1]] = bindings.block(name, name)
    _complete(schemas["resources"])
    return schemas


def _complete(resources: dict[str, Block]) -> None:
    """Add what the bindings lack: secret marks, and the blocks of `ADDED_LATER`."""
    for kind, names in SENSITIVE.items():
        for name in names:
            resources[kind]["attributes"][name]["sensitive"] = True
    app = resources["digitalocean_app"]["blocks"]["spec"]["block"]["blocks"]
    for part in ("service", "worker", "job"):
        app[part]["block"]["blocks"]["env"]["block"]["attributes"]["value"]["sensitive"] = True
    for name, (_, parts) in ADDED_LATER.items():
        for part in parts:
            app[part]["block"]["blocks"][name] = copy.deepcopy(app["service"]["block"]["blocks"]["health_check"])


def _sources(wheel: Path) -> Iterator[str]:
    """Yield the source of each resource. A large one is spread over several files."""
    with zipfile.ZipFile(wheel) as archive:
        inner = archive.read(next(name for name in archive.namelist() if name.endswith(".jsii.tgz")))
    texts: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        for member in tar.getmembers():
            if re.fullmatch(r"package/lib/[^/]+/(index|index-structs/.*)\.js", member.name):
                script = tar.extractfile(member)
                map_ = re.search(
                    rb"sourceMappingURL=data:application/json;base64,(\S+)", script.read() if script else b""
                )
                if map_:
                    text = json.loads(base64.b64decode(map_[1]))["sourcesContent"][0]
                    texts.setdefault(member.name.split("/")[2], []).append(text)
    yield from ("\n".join(parts) for parts in texts.values())


class _Source:
    """The classes in the source of one resource, and which properties of each are blocks."""

    def __init__(self, text: str) -> None:
        self.classes: dict[str, tuple[str, str]] = {}
        self.written: dict[str, dict[str, tuple[bool, str]]] = {}
        for match in re.finditer(r"export function (\w+)ToHclTerraform\(.*?\n}\n", text, re.DOTALL):
            self.written[match[1][0].upper() + match[1][1:]] = self._properties(match[0])
        for match in re.finditer(r"export class (\w+) extends cdktf\.(\w+) \{(.*?)\n}\n", text, re.DOTALL):
            self.classes[match[1]] = (match[2], match[3])
            if match[2].startswith("Terraform"):
                self.written[match[1]] = self._properties(match[3])

    @staticmethod
    def _properties(text: str) -> dict[str, tuple[bool, str]]:
        return {name: (is_block == "true", kind) for name, is_block, kind in re.findall(HCL_PROPERTY, text)}

    def block(self, name: str, owner: str) -> Block:
        attributes: Block = {}
        blocks: Block = {}
        parts = PROPERTY.split(self.classes[name][1])
        for property_, computed, optional, required, chunk in zip(*(parts[i::5] for i in range(1, 6)), strict=True):
            needs = {"required": required == "true", "optional": optional == "true", "computed": computed == "true"}
            nested = NESTED.search(chunk)
            if nested is None:
                attributes[property_] = {"type": _type(chunk), **needs}
                continue
            is_block, written = self.written.get(owner, {}).get(property_, (False, "list"))
            inner = self.block(f"{nested[1]}OutputReference", nested[1])
            is_set, is_one = nested[4] == "true", nested[2] == "OutputReference"
            if is_block:
                nesting = "single" if written == "struct" else "set" if written == "set" or is_set else "list"
                most = 1 if is_one and written != "struct" else 0
                blocks[property_] = {"nesting": nesting, "min": int(needs["required"]), "max": most, "block": inner}
            else:
                outer = "map" if nested[2] == "Map" else "set" if is_set else "list"
                attributes[property_] = {"type": [outer, _object(inner)], **needs}
        return {"attributes": attributes, "blocks": blocks}


def _type(chunk: str) -> Any:
    if getter := MAP_GETTER.search(chunk):
        return TYPES[f"{getter[1]}Map"]
    if getter := GETTER.search(chunk):
        kind = TYPES[getter[1]]
        return ["set", kind[1]] if "Fn.tolist" in chunk and isinstance(kind, list) else kind
    # The block of the provider itself has fields instead of getters.
    field = re.search(r"private _\w+\?: ([^;]+);", chunk)
    declared = field[1] if field else ""
    return "bool" if "boolean" in declared else "number" if "number" in declared else "string"


def _object(block: Block) -> list[Any]:
    fields = {name: attribute["type"] for name, attribute in block["attributes"].items()}
    return ["object", fields | {name: ["list", _object(nested["block"])] for name, nested in block["blocks"].items()}]
