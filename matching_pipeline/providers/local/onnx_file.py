"""Writes and reads ONNX models, in the wire format of Protocol Buffers, by the field numbers of `onnx.proto`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Attribute = int | str | Sequence[int]

IR_VERSION: Final = 8
OPSET: Final = 13
FLOAT: Final = 1
TYPES: Final = {1: "<f4", 3: "i1"}
"""The types of constants that are read."""


@dataclass
class Graph:
    """Nodes in the order of evaluation. Values have names; each call adds a node and returns its output's name."""

    inputs: Mapping[str, Sequence[int] | None]
    _nodes: list[bytes] = field(default_factory=list)
    _constants: list[bytes] = field(default_factory=list)

    def constant(self, values: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        parts = [_number(1, size) for size in values.shape]
        parts += [_number(2, FLOAT), _text(8, name), _bytes(9, values.astype("<f4").tobytes())]
        self._constants.append(b"".join(parts))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        name = f"value_{len(self._nodes)}"
        parts = [_text(1, each) for each in inputs]
        parts += [_text(2, name), _text(4, operator)]
        parts += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(parts))
        return name

    def model(self, outputs: Iterable[str]) -> bytes:
        parts = [_bytes(1, node) for node in self._nodes]
        parts += [_text(2, "graph")]
        parts += [_bytes(5, constant) for constant in self._constants]
        parts += [_bytes(11, _value(name, shape)) for name, shape in self.inputs.items()]
        parts += [_bytes(12, _value(name, None)) for name in outputs]
        return _number(1, IR_VERSION) + _bytes(7, b"".join(parts)) + _bytes(8, _number(2, OPSET))


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, 3)
    return _text(1, name) + b"".join(_number(8, each) for each in value) + _number(20, 7)


def _value(name: str, shape: Sequence[int] | None) -> bytes:
    """A tensor of floats; without a shape it has any."""
    tensor = _number(1, FLOAT)
    if shape is not None:
        tensor += _bytes(2, b"".join(_bytes(1, _number(1, size)) for size in shape))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _number(field_number: int, value: int) -> bytes:
    return _varint(field_number << 3) + _varint(value)


def _text(field_number: int, value: str) -> bytes:
    return _bytes(field_number, value.encode())


def _bytes(field_number: int, value: bytes) -> bytes:
    return _varint(field_number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth bit says that more follow."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


class Lookup(NamedTuple):
    """Rows of eight bits, and the `scale` of each that makes it floats.

    The model takes the rows of its tokens as the input `rows`.
    """

    table: NDArray[np.int8]
    scale: NDArray[np.float32]
    rows: str


def without_lookup(model: bytes, table: str) -> tuple[bytes, Lookup]:
    """The model without its table of rows, which onnxruntime would keep in floats.

    The table is the constant `{table}_q` times the constant `{table}_scale`, and a Gather takes rows from it.
    """
    constants: dict[str, NDArray[Any]] = {}
    kept: list[bytes] = []
    rows = ""
    graph = next(value for number, value in _fields(model) if number == 7)
    for number, value in _fields(graph):
        if number == 5 and (name := _strings(value, 8)[0]) in (f"{table}_q", f"{table}_scale"):
            constants[name.removeprefix(table)] = _constant(value)
        elif number == 1 and table in _strings(value, 1):
            (rows,) = _strings(value, 2)
        elif number != 1 or _strings(value, 2)[0] not in (table, f"{table}_f"):
            kept.append(_bytes(number, value))
    lookup = Lookup(constants["_q"], constants["_scale"], rows)
    kept.append(_bytes(11, _value(rows, None)))
    others = (
        _number(number, value) if isinstance(value, int) else _bytes(number, value)
        for number, value in _fields(model)
        if number != 7
    )
    return b"".join([*others, _bytes(7, b"".join(kept))]), lookup


def _constant(tensor: bytes) -> NDArray[Any]:
    fields = list(_fields(tensor))
    shape = [size for number, size in fields if number == 1]
    return np.frombuffer(dict(fields)[9], TYPES[dict(fields)[2]]).reshape(shape)


def _strings(message: bytes, number: int) -> list[str]:
    return [value.decode() for found, value in _fields(message) if found == number]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The number of each field with its value: an integer, or bytes."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        value, position = _read_varint(message, position)
        if key & 7 == 2:
            yield key >> 3, message[position : position + value]
            position += value
        else:
            yield key >> 3, value


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while message[position] > 0x7F:
        value |= (message[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1
