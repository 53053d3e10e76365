"""Sessions of onnxruntime, each of which computes in the thread that calls it."""

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
        # an arena would keep what the longest text took; malloc is as fast
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        # onnxruntime would keep the file, for a change of the device
        self._session._model_bytes = b""

    def outputs(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        return list(self._session.run(None, inputs))
