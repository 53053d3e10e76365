"""Sessions of onnxruntime, each of which computes in the thread that calls it."""

import ctypes
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]


class Session:
    """A model in ONNX format. Threads may share it."""

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def outputs(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        return list(self._session.run(None, inputs))


def give_back_memory() -> None:
    """Gives freed memory back to the system: after a model is loaded, glibc would keep some 50 MB."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
