"""Writes a network as an ONNX model, in the wire format of Protocol Buffers, by the field numbers of `onnx.proto`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

Attribute = int | str | Sequence[int]

IR_VERSION: Final = 8
OPSET: Final = 13
FLOAT: Final = 1


@dataclass
class Graph:
    """Nodes in the order of evaluation. Values have names; each call adds a node and returns its output's name."""

    inputs: Mapping[str, Sequence[int]]
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
