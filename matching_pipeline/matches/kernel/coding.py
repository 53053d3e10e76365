"""Vectors as codes whose inner products cost little, and a bound of how far such a product may be off."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.basis import Basis, Directions
from matching_pipeline.matches.kernel.columns import Numbers, Vectors


@dataclass(frozen=True)
class Coded:
    """Vectors as `scale · codes`, and lengths of the parts that are lost, which are never too short.

    The numbers have the shape (vectors,) on the left. On the right they are the largest of all vectors, shape (1,).
    """

    codes: Any
    scale: Numbers
    length: Numbers
    """the length of what is coded: the part inside the basis and the length of the rest"""
    residual: Numbers
    """the length of the difference between `scale · codes` and what is coded; for floats the rounding of a product,
    for each unit of the other vector's length"""
    along_centre: Numbers
    """the product with the centre, which the codes of the right side leave out"""


def error(left: Coded, right_length: Numbers, right_residual: Numbers) -> Numbers:
    """(…, left vectors): by how much a product may exceed `scale · scale · product + along_centre`.

    The numbers of right sides are given as (…, 1).
    """
    coding: Numbers = left.residual * right_length + (left.length + left.residual) * right_residual
    return coding


class Coding(Protocol):
    @property
    def name(self) -> str:
        """The name that the benchmark prints."""

    @property
    def columns(self) -> int:
        """How many multiplications a product of two codes takes."""

    @property
    def form(self) -> np.dtype[Any]:
        """The type of the products."""

    def left(self, vectors: Vectors) -> Coded: ...

    def right(self, vectors: Vectors) -> Coded: ...

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        """(right vectors, left vectors): inner products of codes. The thread's next product overwrites them."""


@dataclass(frozen=True)
class Split:
    """Vectors less a centre as columns: the part inside a basis, and the length of the rest in further columns.

    So an inner product of columns is at least that of the vectors.
    """

    centre: Vectors
    basis: Basis | None
    """None for all coordinates, which leave no rest"""
    rest_columns: int
    """By how many columns the rest is shared, so that none is much larger than the others."""

    @property
    def columns(self) -> int:
        return self.basis.depth + self.rest_columns if self.basis else len(self.centre)

    @property
    def looseness(self) -> float:
        return self.basis.looseness if self.basis else 0.0

    def left(self, vectors: Vectors) -> Vectors:
        return self._split(vectors)

    def right(self, vectors: Vectors) -> Vectors:
        return self._split(vectors - self.centre)

    def along_centre(self, vectors: Vectors) -> Numbers:
        along: Numbers = np.einsum("ij,j->i", vectors, self.centre, dtype=np.float64)
        return along

    def __str__(self) -> str:
        of = "all" if self.basis is None else f"{self.basis.depth} of"
        kind = "directions" if isinstance(self.basis, Directions) else "dimensions"
        return f"{of} {len(self.centre)} {kind}"

    def _split(self, vectors: Vectors) -> Vectors:
        if self.basis is None:
            return vectors
        inside, depth = self.basis.inside(vectors), self.basis.depth
        whole, rounding = _squares(vectors), (vectors.shape[1] + 16) * float(np.finfo(np.float32).eps)
        outside = whole - _squares(inside) + (2 * rounding + 2.6 * self.looseness) * whole
        columns = np.empty((len(vectors), self.columns), dtype=np.float32)
        columns[:, :depth] = inside
        columns[:, depth:] = np.sqrt(np.maximum(outside, 0) / self.rest_columns)[:, None] * 1.000001 + 1e-20
        return columns


class _SplitCoding:
    KIND: ClassVar[str]
    REST_COLUMNS: ClassVar[int]
    form: ClassVar[np.dtype[Any]]

    def __init__(self, centre: Vectors, basis: Basis | None = None) -> None:
        self._split = Split(centre, basis, self.REST_COLUMNS)

    @property
    def name(self) -> str:
        return f"{self.KIND} products of {self._split}"

    @property
    def columns(self) -> int:
        return self._split.columns


class Int8Coding(_SplitCoding):
    """NumKong's integer products: exact in int32, by AMX, AVX-512 VNNI, NEON or plain code, as the processor can.

    Right vectors are coded less their centre. The difference is shorter than the vector, so 8 bits lose less of it.
    """

    KIND, form = "8-bit", np.dtype(np.int32)
    REST_COLUMNS = 16

    def left(self, vectors: Vectors) -> Coded:
        columns = self._split.left(vectors)
        codes, scale, length, residual = self._round(columns, np.abs(columns).max(axis=1))
        return Coded(products.packed(codes), scale, length, residual, self._split.along_centre(vectors))

    def right(self, vectors: Vectors) -> Coded:
        """With one scale for all vectors, so that the products of a left row are compared with one number."""
        columns = self._split.right(vectors)
        codes, scale, length, residual = self._round(columns, np.abs(columns).max(keepdims=True)[0])
        length, residual = (numbers.max(keepdims=True) for numbers in (length, residual))
        return Coded(codes, scale, length, residual, np.zeros(1))

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return products.of_codes(right.codes, left.codes)

    def _round(self, columns: Vectors, largest: Vectors) -> tuple[Any, Numbers, Numbers, Numbers]:
        """Codes, their scale, the length and what they lose of it. `largest` is the largest entry of each vector."""
        scale = np.maximum(largest, np.float32(1e-30)) / np.float32(127)
        codes, length = np.rint(columns / scale[:, None]), lengths_of(columns)
        # the second term covers the rounding of the first, which is computed in float32
        residual = lengths_of(columns - codes * scale[:, None]) + (1e-6 + self._split.looseness) * length
        return codes.astype(np.int8), scale.astype(np.float64), length, residual


class FloatCoding(_SplitCoding):
    """numpy's float32 products. A sum of n of them is off by less than n·u·|x||y| in any order."""

    KIND, form = "float", np.dtype(np.float32)
    REST_COLUMNS = 1

    def left(self, vectors: Vectors) -> Coded:
        columns = self._split.left(vectors)
        length = lengths_of(columns)
        residual, along = self._split.looseness * length, self._split.along_centre(vectors)
        return Coded(columns, np.ones(len(vectors)), length, residual, along)

    def right(self, vectors: Vectors) -> Coded:
        columns = self._split.right(vectors)
        length = lengths_of(columns).max(keepdims=True)
        rounding = (columns.shape[1] + 16) * np.finfo(np.float32).eps + self._split.looseness
        return Coded(columns, np.ones(1), length, rounding * length, np.zeros(1))

    def multiply(self, left: Coded, right: Coded) -> NDArray[Any]:
        return products.of_floats(right.codes, left.codes)


def lengths_of(vectors: NDArray[Any]) -> Numbers:
    """Lengths, never too short: a thousandth covers the rounding of a float32 sum of 16,000 squares."""
    lengths: Numbers = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).astype(np.float64)
    return lengths * 1.001 + 1e-12


def _squares(vectors: Vectors) -> Numbers:
    squares: Numbers = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    return squares
