"""All inner products of two blocks of vectors, on 8-bit codes or on floats, with a bound of their error."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.basis import Basis, Vectors

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
    rest: Numbers
    """Length of the part that is left out, from above."""


class Products(Protocol):
    lowest: float
    """Below every cut."""

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
    coding = left.residual * right.length + (left.length + left.residual) * right.residual
    off: NDArray[np.float64] = coding + left.rest * right.rest
    return off


class Int8Products:
    """NumKong's integer products: exact in int32, by AMX, AVX-512 VNNI, NEON or plain code, as the processor can."""

    lowest = -(2.0**31)

    def __init__(self, basis: Basis | None = None) -> None:
        self._basis = basis
        self._looseness = basis.looseness if basis else 0.0

    def left(self, vectors: Vectors) -> Coded:
        inside, length, rest = self._parts(vectors)
        codes, scale, residual = self._code(inside, np.abs(inside).max(axis=1), length)
        return Coded(codes, scale, length, residual, rest)

    def right(self, vectors: Vectors) -> Coded:
        inside, length, rest = self._parts(vectors)
        codes, scale, residual = self._code(inside, np.abs(inside).max(keepdims=True)[0], length)
        packed = numkong.dots_pack(codes)
        return Coded(packed, float(scale[0]), float(length.max()), float(residual.max()), float(rest.max()))

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return np.asarray(numkong.dots_packed(left.codes, right.codes))

    def cuts(self, wanted: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.clip(np.floor(wanted), self.lowest + 1, 2.0**31 - 1).astype(np.int32)

    def _parts(self, vectors: Vectors) -> tuple[Vectors, NDArray[np.float64], NDArray[np.float64]]:
        """What is coded, the length of the whole, and that of the rest."""
        length = lengths_of(vectors)
        if self._basis is None:
            return vectors, length, np.zeros(len(vectors))
        inside = vectors @ self._basis.directions
        outside = _squares(vectors) - _squares(inside) + 2.5 * self._looseness * length**2
        return inside, length, np.sqrt(np.maximum(outside, 0))

    def _code(
        self, inside: Vectors, largest: Vectors, length: NDArray[np.float64]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        scale = np.maximum(largest, np.float32(1e-30)) / np.float32(127)
        codes = np.rint(inside / scale[:, None])
        # a little more than it is, as it was itself computed in float32
        residual = lengths_of(inside - codes * scale[:, None]) + (1e-6 + self._looseness) * length
        return codes.astype(np.int8), scale.astype(np.float64), residual


class FloatProducts:
    """numpy's float32 products: a sum of n of them is off by less than n·u·|x||y|, whatever the order."""

    lowest = -np.inf

    def left(self, vectors: Vectors) -> Coded:
        nothing = np.zeros(len(vectors))
        return Coded(vectors, np.ones(len(vectors)), lengths_of(vectors), nothing, nothing)

    def right(self, vectors: Vectors) -> Coded:
        length = float(lengths_of(vectors).max())
        rounding = float((vectors.shape[1] + 16) * np.finfo(np.float32).eps)
        return Coded(vectors.T, 1.0, length, rounding * length, 0.0)

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return np.asarray(left.codes @ right.codes)

    def cuts(self, wanted: NDArray[np.float64]) -> NDArray[Any]:
        return np.nextafter(wanted.astype(np.float32), np.float32(-np.inf))


def lengths_of(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """From above: a thousandth covers the rounding of a float32 sum of up to sixteen thousand squares."""
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).astype(np.float64)
    return lengths * 1.001 + 1e-12


def _squares(vectors: Vectors) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", exact, exact)
    return squares
