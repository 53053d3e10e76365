"""Reads tensors from a file of PyTorch's first format, without PyTorch.

Such a file begins with three pickles that say how it was written. A pickle of the tensors' names and shapes follows,
then one of the storages' keys. Then comes each storage: its number of values in eight bytes, and the values.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES: Final = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], steps: tuple[int, ...], *rest: object) -> _Tensor:
    return _Tensor(storage, offset, shape, steps)


class _Reader(pickle.Unpickler):
    """Makes nothing but dictionaries of tensors: any other name in the pickle is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in TYPES:
            return TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(key, dtype)


def tensors(content: bytes) -> Mapping[str, NDArray[Any]]:
    """The tensors of the file by name."""
    file = BytesIO(content)
    for _ in range(3):
        _Reader(file).load()
    named: dict[str, _Tensor] = _Reader(file).load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in named.values()}
    storages: dict[str, NDArray[Any]] = {}
    for key in _Reader(file).load():
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return {name: _values(tensor, storages[tensor.storage.key]) for name, tensor in named.items()}


def _values(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    steps = [step * storage.itemsize for step in tensor.steps]
    return np.ndarray(tensor.shape, storage.dtype, storage, tensor.offset * storage.itemsize, steps)
