"""As much of Protocol Buffers and of Terraform's plugin protocol 5 as a stand-in provider needs."""

import json
from typing import Any

import msgpack

Message = dict[int, list[Any]]
NESTINGS = {"single": 1, "list": 2, "set": 3, "map": 4}
# Terraform's sign for a value that is known only after the apply; with other content it tells a little of that value.
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
    """One field; a number or flag that is zero is left out, as the format has it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(int(value)) if value else b""
    octets = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(octets)) + octets


def parse(message: bytes) -> Message:
    """The fields of a message of numbers and byte strings, each with all its values."""
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
            raise ValueError(f"wire type {key & 7} is not spoken here")
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
    for name, told in sorted(block["attributes"].items()):
        flags = field(4, told["required"]) + field(5, told["optional"]) + field(6, told["computed"])
        kind = field(1, name) + field(2, json.dumps(told["type"]))
        octets += field(2, kind + flags + field(7, told.get("sensitive", False)))
    for name, told in sorted(block["blocks"].items()):
        limits = field(3, NESTINGS[told["nesting"]]) + field(4, told["min"]) + field(5, told["max"])
        octets += field(3, field(1, name) + field(2, _block(told["block"])) + limits)
    return octets


def value(octets: bytes) -> Any:
    """What a DynamicValue holds."""
    return msgpack.unpackb(parse(octets)[1][0], raw=False, strict_map_key=False)


def dynamic(content: Any) -> bytes:
    return field(1, msgpack.packb(content, use_bin_type=True))


def refusal(summary: str) -> bytes:
    """A Diagnostic of severity ERROR."""
    return field(1, 1) + field(2, summary)
