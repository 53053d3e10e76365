"""A first guess at where the product is: regions unlike the photo's border are salient.

After Zhu, Liang, Wei and Sun, "Saliency Optimization from Robust Background Detection" (2014). A region is taken with
the regions of its colour that it touches: the longer they lie along the border, the more it is background. So a tiled
floor or a rug is background as a whole, and a product that touches the border at one place is not.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from matching_pipeline.providers.local.studio.arrays import Labels, Values

Kind = TypeVar("Kind", bound=np.generic)

REGIONS: Final = 260
COLOUR_REACH: Final = 9.0  # Lab units within which two regions count as of one colour
NEAR: Final = 0.25  # the reach of contrast, as a share of the photo
NOISE: Final = 0.1  # gives regions of which nothing is known the score of their neighbours


def salience(lab: Values) -> Values:
    """The salience of each pixel of a Lab picture, 0 to 1."""
    labels = regions(lab)
    count = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=count).astype(float)
    colour = mean_by_region(lab.reshape(-1, 3), labels, area)
    y, x = np.indices(labels.shape)
    place = np.stack([y / labels.shape[0], x / labels.shape[1]], axis=-1)
    centre = mean_by_region(place.reshape(-1, 2), labels, area)

    distance = np.linalg.norm(colour[:, None] - colour[None], axis=-1)
    graph = neighbours(labels, distance)
    background = background_odds(graph, labels, area)
    apart = np.linalg.norm(centre[:, None] - centre[None], axis=-1)
    nearness = np.exp(-(apart**2) / (2 * NEAR**2))
    contrast = (distance * nearness * background[None, :]).sum(axis=1)
    contrast /= contrast.max() or 1

    alike = np.where(graph.toarray() > 0, np.exp(-(distance**2) / (2 * COLOUR_REACH**2)) + NOISE, 0)
    smoothness = np.diag(alike.sum(axis=1)) - alike
    score = np.linalg.solve(np.diag(background + contrast + 1e-6) + smoothness, contrast)
    score = np.clip(score / (score.max() or 1), 0, 1)
    return np.asarray(score[labels])


def regions(lab: Values) -> Labels:
    """Some hundreds of compact patches of one colour each, numbered from 0 without gaps."""
    from skimage.segmentation import slic

    patches = slic(lab, n_segments=REGIONS, compactness=12, convert2lab=False, start_label=1, max_num_iter=6)
    return np.unique(patches, return_inverse=True)[1].reshape(patches.shape)


def mean_by_region(values: Values, labels: Labels, area: Values) -> Values:
    """(pixels, channels) -> (regions, channels)."""
    sums = [np.bincount(labels.ravel(), channel, minlength=len(area)) for channel in values.T]
    return np.stack(sums, axis=-1) / area[:, None]


def neighbours(labels: Labels, distance: Values) -> csr_array:
    """A graph of the regions that touch; the regions of the border touch each other. Weights are colour distances."""
    touching = np.zeros(distance.shape, dtype=bool)
    touching[labels[:, :-1], labels[:, 1:]] = True
    touching[labels[:-1], labels[1:]] = True
    rim = np.unique(border(labels))
    touching[np.ix_(rim, rim)] = True
    touching |= touching.T
    np.fill_diagonal(touching, False)
    return csr_array(np.where(touching, distance + 1e-3, 0))  # an edge of weight zero would be none


def background_odds(graph: csr_array, labels: Labels, area: Values) -> Values:
    """For each region how much it belongs to the border: 0 to 1."""
    along = dijkstra(graph, directed=False)
    alike = np.exp(-(along**2) / (2 * COLOUR_REACH**2))
    on_border = np.bincount(border(labels), minlength=len(area))
    spread = alike @ area
    border_length = alike @ on_border
    return np.asarray(1 - np.exp(-((border_length / np.sqrt(spread)) ** 2) / 2))


def border(labels: NDArray[Kind]) -> NDArray[Kind]:
    """The values along the four sides."""
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
