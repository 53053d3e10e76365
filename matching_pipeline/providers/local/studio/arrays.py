"""The arrays that pictures are made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
"""height x width, with a third axis for colours; RGB and alpha run from 0 to 1"""
Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]
