"""Makes a soft edge from a mask: the share of the product in each pixel, and its colour."""

from typing import Final

import numpy as np
from PIL import Image
from scipy import ndimage

from matching_pipeline.providers.local.studio.arrays import Mask, Values

Box = tuple[float, float, float, float]
"""left, top, right and bottom"""

REACH: Final = 2.5  # pixels of the mask around which colours explain the edge
EDGE_DETAIL: Final = 2e-3  # variance of colours from which the edge follows the photo and not the mask
BEYOND_DOUBT: Final = 0.03  # of the blurred mask: a pixel that is closer to 0 or 1 than this needs no correction
SMOOTHING: Final = 0.35  # of the edge, in pixels of the mask
INWARD: Final = 0.62  # the share of the product where the new edge lies: more than a half leaves the halo outside
STEEPNESS: Final = 2.2
CHROMA_REACH: Final = 1.5  # pixels: JPEG halves the resolution of colours, so that the background's reaches inside


def soft_edge(colour: Values, small: Image.Image, mask: Mask, box: Box) -> Values:
    """Alpha for `colour`, which is the box of the small picture, enlarged; the mask is of the small picture."""
    size = colour.shape[1], colour.shape[0]
    zoom = size[0] / (box[2] - box[0])
    share = mask.astype(np.float32)

    def enlarged(values: Values) -> Values:
        return np.asarray(plane(values).resize(size, Image.Resampling.BICUBIC, box=box))

    gains, offset = edge_model(np.asarray(small, dtype=np.float64) / 255, share)
    alpha = enlarged(offset)
    for number in range(3):
        alpha = alpha + enlarged(gains[..., number]) * colour[..., number]
    near = enlarged(ndimage.gaussian_filter(share, 1.0))
    alpha = np.where((near > BEYOND_DOUBT) & (near < 1 - BEYOND_DOUBT), alpha, near > 0.5)
    alpha = ndimage.gaussian_filter(alpha.astype(np.float32), zoom * SMOOTHING)
    return np.asarray(np.clip((alpha - INWARD) * STEEPNESS + 0.5, 0, 1))


def edge_model(guide: Values, share: Values) -> tuple[Values, Values]:
    """How the mask follows from the colours nearby: alpha is `gains · colour + offset`, both of them smooth.

    A guided filter (He, Sun and Tang 2010). It is found on the small picture and applied to the large one, and gives
    the mask the large picture's edges.
    """

    def mean(values: Values) -> Values:
        return np.asarray(ndimage.gaussian_filter(values, (REACH, REACH, *[0] * (values.ndim - 2))))

    average, mean_share = mean(guide), mean(share)
    covariance = mean(guide[..., None] * guide[..., None, :]) - average[..., None] * average[..., None, :]
    shared = mean(guide * share[..., None]) - average * mean_share[..., None]
    gains = np.linalg.solve(covariance + EDGE_DETAIL * np.eye(3), shared[..., None])[..., 0]
    offset = mean_share - (gains * average).sum(axis=-1)
    return mean(gains), mean(np.asarray(offset))


def without_background(colour: Values, alpha: Values, zoom: float) -> Values:
    """Replaces the colours of the soft edge, and all beyond, by those of the nearest pixels wholly inside."""
    depth = max(2.0, CHROMA_REACH * zoom)
    inside = ndimage.distance_transform_edt(alpha > 0.9)
    inner = inside > depth
    if not inner.any():
        return colour
    nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
    spread = ndimage.gaussian_filter(colour[tuple(nearest)], (1.2, 1.2, 0))
    own = np.clip(inside - depth, 0, 1)[..., None]
    return np.asarray(spread + own * (colour - spread), dtype=np.float32)


def plane(values: Values) -> Image.Image:
    """The values as a picture that Pillow can resize."""
    return Image.fromarray(values.astype(np.float32))
