"""The parts of Protocol Buffers and of Terraform's plugin protocol 5 that a fake provider needs."""

import json
from typing import Any

import msgpack

Message = dict[int, list[Any]]
NESTINGS = {"single": 1, "list": 2, "set": 3, "map": 4}
# Terraform's mark for a value that is known only after the apply. Other content describes the value a little.
UNKNOWN = msgpack.ExtType(0, b"\0")


def is_unknown(content: Any) -> bool:
    return isinstance(content, msgpack.ExtType)


def varint(number: int) -> bytes:
    octets = b""
    while number > 127:
        octets += bytes([number & 127 | 128])
        number >>= 7
    return octets + bytes([number])


def field(number: int, value: bytes | str | bool | int) -> bytes:
    """Encode one field. As in Protocol Buffers, zero numbers and false flags are left out."""
    if isinstance(value, int):
        return varint(number << 3) + varint(int(value)) if value else b""
    octets = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(octets)) + octets


def parse(message: bytes) -> Message:
    """Decode a message of numbers and byte strings: all values of each field."""
    fields: Message = {}
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, position = _read_varint(message, position)
        if key & 7 == 0:
            fields.setdefault(key >> 3, []).append(number)
        elif key & 7 == 2:
            fields.setdefault(key >> 3, []).append(message[position : position + number])
            position += number
        else:
            raise ValueError(f"wire type {key & 7} is not implemented")
    return fields


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        octet = message[position]
        position += 1
        number |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            return number, position


def schema(block: dict[str, Any]) -> bytes:
    return field(2, _block(block))


def _block(block: dict[str, Any]) -> bytes:
    octets = b""
    for name, entry in sorted(block["attributes"].items()):
        flags = field(4, entry["required"]) + field(5, entry["optional"]) + field(6, entry["computed"])
        kind = field(1, name) + field(2, json.dumps(entry["type"]))
        octets += field(2, kind + flags + field(7, entry.get("sensitive", False)))
    for name, entry in sorted(block["blocks"].items()):
        limits = field(3, NESTINGS[entry["nesting"]]) + field(4, entry["min"]) + field(5, entry["max"])
        octets += field(3, field(1, name) + field(2, _block(entry["block"])) + limits)
    return octets


def value(octets: bytes) -> Any:
    """Decode a DynamicValue."""
    return msgpack.unpackb(parse(octets)[1][0], raw=False, strict_map_key=False)


def dynamic(content: Any) -> bytes:
    return field(1, msgpack.packb(content, use_bin_type=True))


def refusal(summary: str) -> bytes:
    """Encode a Diagnostic of severity ERROR."""
    return field(1, 1) + field(2, summary)
