"""Vectors as codes whose inner products cost little, and a bound of how far such a product may be off."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.basis import Basis, choose_basis
from matching_pipeline.matches.kernel.columns import Numbers, Vectors

FEW_SCORES = 4_000_000
"""For fewer scores in all, 8-bit codes cost more than they save."""

numkong: Any
try:
    numkong = import_module("numkong")
except ImportError:  # it has no wheel for this platform
    numkong = None


@dataclass(frozen=True)
class Coded:
    """Vectors as `scale · codes`, and lengths of the parts that are lost, which are never too short.

    The numbers have the shape (vectors,) on the left. On the right they are the largest of all vectors, shape (1,).
    """

    codes: Any
    scale: Numbers
    length: Numbers
    """the length of the vector"""
    residual: Numbers
    """the length of the difference between `scale · codes` and the part inside the basis; for floats the rounding of
    a product, for each unit of the other vector's length"""
    rest: Numbers
    """the length of the part outside the basis"""
    along_centre: Numbers
    """the product with the centre, which the codes of the right side leave out"""


def error(left: Coded, right: Coded) -> Numbers:
    """(left vectors,): how far `scale · scale · product + along_centre` may be from the product of the vectors."""
    coding = left.residual * right.length + (left.length + left.residual) * right.residual
    off: Numbers = coding + left.rest * right.rest
    return off


class Int8Coding:
    """NumKong's integer products: exact in int32, by AMX, AVX-512 VNNI, NEON or plain code, as the processor can.

    Right vectors are coded less their centre. The difference is shorter than the vector, so 8 bits lose less of it.
    """

    has_threads = False
    """whether `multiply` uses all processors itself"""

    def __init__(self, centre: Vectors, basis: Basis | None = None) -> None:
        self._centre, self._basis = centre, basis
        self._looseness = basis.looseness if basis else 0.0

    def left(self, vectors: Vectors) -> Coded:
        inside, length, rest = self._split(vectors)
        codes, scale, residual = self._round(inside, np.abs(inside).max(axis=1), length)
        return Coded(codes, scale, length, residual, rest, vectors.astype(np.float64) @ self._centre)

    def right(self, vectors: Vectors) -> Coded:
        """With one scale for all vectors, so that the products of a left row are compared with one number."""
        inside, length, rest = self._split(vectors - self._centre)
        codes, scale, residual = self._round(inside, np.abs(inside).max(keepdims=True)[0], length)
        length, residual, rest = (numbers.max(keepdims=True) for numbers in (length, residual, rest))
        return Coded(numkong.dots_pack(codes), scale, length, residual, rest, np.zeros(1))

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        """(left vectors, right vectors): inner products of codes."""
        return np.asarray(numkong.dots_packed(left.codes, right.codes))

    def _split(self, vectors: Vectors) -> tuple[Vectors, Numbers, Numbers]:
        """The part inside the basis, the length of the whole, and the length of the rest."""
        length = lengths_of(vectors)
        if self._basis is None:
            return vectors, length, np.zeros(len(vectors))
        inside = vectors @ self._basis.directions
        outside = _squares(vectors) - _squares(inside) + 2.5 * self._looseness * length**2
        return inside, length, np.sqrt(np.maximum(outside, 0))

    def _round(self, inside: Vectors, largest: Vectors, length: Numbers) -> tuple[Any, Numbers, Numbers]:
        """Codes, their scale and the length of the part they lose. `largest` is the largest entry of each vector."""
        scale = np.maximum(largest, np.float32(1e-30)) / np.float32(127)
        codes = np.rint(inside / scale[:, None])
        # the second term covers the rounding of the first, which is computed in float32
        residual = lengths_of(inside - codes * scale[:, None]) + (1e-6 + self._looseness) * length
        return codes.astype(np.int8), scale.astype(np.float64), residual


class FloatCoding:
    """numpy's float32 products. A sum of n of them is off by less than n·u·|x||y| in any order."""

    has_threads = True

    def left(self, vectors: Vectors) -> Coded:
        nothing = np.zeros(len(vectors))
        return Coded(vectors, np.ones(len(vectors)), lengths_of(vectors), nothing, nothing, nothing)

    def right(self, vectors: Vectors) -> Coded:
        length = lengths_of(vectors).max(keepdims=True)
        rounding = (vectors.shape[1] + 16) * np.finfo(np.float32).eps
        nothing = np.zeros(1)
        return Coded(vectors.T, np.ones(1), length, rounding * length, nothing, nothing)

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return np.asarray(left.codes @ right.codes)


Coding = Int8Coding | FloatCoding


def choose_coding(left: Vectors, right: Vectors) -> Coding:
    if numkong is None or len(left) * len(right) < FEW_SCORES:
        return FloatCoding()
    centre = right.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Int8Coding(centre, choose_basis(left, right, centre))


def lengths_of(vectors: NDArray[Any]) -> Numbers:
    """Lengths, never too short: a thousandth covers the rounding of a float32 sum of 16,000 squares."""
    lengths: Numbers = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).astype(np.float64)
    return lengths * 1.001 + 1e-12


def _squares(vectors: Vectors) -> Numbers:
    exact = vectors.astype(np.float64)
    squares: Numbers = np.einsum("ij,ij->i", exact, exact)
    return squares
