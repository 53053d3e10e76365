"""All inner products of two blocks of vectors, on 8-bit codes or on floats, with a bound of their error."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

Numbers = Any
"""A float64 array of one entry a vector (left), or a float (right)."""

numkong: Any
try:
    numkong = import_module("numkong")
except ImportError:  # it has no wheel for this platform
    numkong = None


@dataclass(frozen=True)
class Coded:
    """Vectors as `scale · code`, and by how much that is off."""

    codes: Any
    scale: Numbers
    length: Numbers
    """Of the vector, from above."""
    residual: Numbers
    """|vector - scale · code|, and for floats the rounding of a product, for each unit of the other's length."""


class Products(Protocol):
    def left(self, vectors: Vectors) -> Coded: ...

    def right(self, vectors: Vectors) -> Coded:
        """With one scale for all, so that a left row's products can be compared with one number."""

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        """(left vectors, right vectors) products of codes."""

    def cuts(self, wanted: NDArray[np.float64]) -> NDArray[Any]:
        """Rounded down to what products can be compared with."""


def error(left: Coded, right: Coded) -> NDArray[np.float64]:
    """(left vectors,): how far `scale · scale · product` may be from the product of the vectors.

    x·y - x̂·ŷ = (x - x̂)·y + x̂·(y - ŷ), so at most |x - x̂||y| + (|x| + |x - x̂|)|y - ŷ|, by Cauchy–Schwarz.
    """
    off: NDArray[np.float64] = left.residual * right.length + (left.length + left.residual) * right.residual
    return off


class Int8Products:
    """NumKong's integer products: exact in int32, by AMX, AVX-512 VNNI, NEON or plain code, as the processor can."""

    def left(self, vectors: Vectors) -> Coded:
        largest = np.abs(vectors).max(axis=1)
        codes, scale, residual = self._code(vectors, largest)
        return Coded(codes, scale, lengths_of(vectors), residual)

    def right(self, vectors: Vectors) -> Coded:
        largest = np.abs(vectors).max(keepdims=True).reshape(1)
        codes, scale, residual = self._code(vectors, largest)
        return Coded(
            numkong.dots_pack(codes), float(scale[0]), float(lengths_of(vectors).max()), float(residual.max())
        )

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return np.asarray(numkong.dots_packed(left.codes, right.codes))

    def cuts(self, wanted: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.clip(np.floor(wanted), -(2.0**31), 2.0**31 - 1).astype(np.int32)

    def _code(self, vectors: Vectors, largest: Vectors) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        scale = np.maximum(largest, np.float32(1e-30)) / np.float32(127)
        codes = np.rint(vectors / scale[:, None])
        # a little more than it is, as it was itself computed in float32
        residual = lengths_of(vectors - codes * scale[:, None]) + 1e-6 * lengths_of(vectors)
        return codes.astype(np.int8), scale.astype(np.float64), residual


class FloatProducts:
    """numpy's float32 products: a sum of n of them is off by less than n·u·|x||y|, whatever the order."""

    def left(self, vectors: Vectors) -> Coded:
        return Coded(vectors, np.ones(len(vectors)), lengths_of(vectors), np.zeros(len(vectors)))

    def right(self, vectors: Vectors) -> Coded:
        length = float(lengths_of(vectors).max())
        rounding = float((vectors.shape[1] + 16) * np.finfo(np.float32).eps)
        return Coded(vectors.T, 1.0, length, rounding * length)

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return np.asarray(left.codes @ right.codes)

    def cuts(self, wanted: NDArray[np.float64]) -> NDArray[Any]:
        return np.nextafter(wanted.astype(np.float32), np.float32(-np.inf))


def lengths_of(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """From above: a thousandth covers the rounding of a float32 sum of up to sixteen thousand squares."""
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1).astype(np.float64)
    return lengths * 1.001 + 1e-12
