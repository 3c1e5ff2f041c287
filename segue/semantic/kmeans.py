"""K-means over one layer's activations, fitted on batches that stream by: memory does not grow with the data.

Shapes: rows (n, D) float32; mean, std (D,); centroids (K, D), in units of standard deviations, or of unit vectors.
Needs scikit-learn (extra "train"), imported only when fitting.
Source: AudioLM, arXiv 2209.03143, section 4.2 (per-dimension normalisation, then k-means).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segue.errors import SegueError
from segue.semantic.features import Moments

_FIRST_ROWS_PER_CLUSTER = 10
_RESEED_ROUNDS = 5


@dataclass(frozen=True)
class Clusters:
    """A fitted quantiser; all values are already rounded to half precision, the form in which they are shipped.

    Attributes:
        mean: (D,), per-dimension mean.
        std: (D,), per-dimension standard deviation.
        centroids: (K, D), of normalised rows.
        counts: (K,) rows that fell to each centroid in the last pass.
    """

    mean: Tensor
    std: Tensor
    centroids: Tensor
    counts: Tensor

    @property
    def perplexity(self) -> float:
        """How many clusters are in even use: exp of the entropy of `counts`."""
        share = self.counts.double() / self.counts.sum()
        return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))


def evened(rows: Tensor, mean: Tensor, std: Tensor, angular: bool) -> Tensor:
    """Rows (..., D) in standard deviations from the mean, per dimension; then of length 1 if `angular`."""
    found = (rows - mean) / std
    return F.normalize(found, dim=-1) if angular else found


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """Index of the closest centroid in squared distance: (..., D) and (K, D) to (...,) int64."""
    return (rows @ centroids.T - 0.5 * centroids.square().sum(-1)).argmax(-1)


def fit(
    rows: Callable[[int], Tensor],
    num_batches: int,
    clusters: int,
    seed: int,
    passes: int = 2,
    angular: bool = False,
    per_dimension: bool = True,
) -> Clusters:
    """Normalise per dimension, cluster with mini-batches, then move centroids nobody uses.

    Args:
        rows: batch k of activations, (n, D); called again on each pass and must give the same.
        num_batches: batches in a pass.
        clusters: K.
        seed: of the start and of reseeding.
        passes: mini-batch passes over the data.
        angular: cluster directions, see `evened`.
        per_dimension: all dimensions are of one weight; False keeps them as wide as they are beside each other, as
            discriminant axes are meant to be.

    Returns:
        The clusters, none of them empty on the data of the last pass.

    Raises:
        SegueError: if there are fewer rows than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    moments = Moments()
    for k in range(num_batches):
        moments.add(rows(k))
    if moments.count < clusters:
        raise SegueError(f"vocab_size {clusters}: only {moments.count} frames to cluster; lower it or add audio")
    mean, std = moments.mean_and_std()
    if not per_dimension:
        std = std.square().mean().sqrt().expand_as(std)
    mean, std = mean.half().float(), std.half().float().clamp(min=1e-3)

    def normalised(k: int) -> np.ndarray:
        return evened(rows(k), mean, std, angular).numpy()

    batch_size = max(4096, _FIRST_ROWS_PER_CLUSTER * clusters)
    kmeans = MiniBatchKMeans(clusters, batch_size=batch_size, n_init=1, random_state=seed)
    gathered: list[np.ndarray] = []
    held, fitted = 0, False
    for step in range(passes * num_batches):
        gathered.append(normalised(step % num_batches))
        held += len(gathered[-1])
        last = step == passes * num_batches - 1
        if held >= batch_size or (last and (held >= clusters or not fitted)):
            kmeans.partial_fit(np.concatenate(gathered))
            gathered, held, fitted = [], 0, True
    centroids = torch.from_numpy(np.asarray(kmeans.cluster_centers_, dtype=np.float32)).half().float()
    return _without_empty(Clusters(mean, std, centroids, torch.zeros(clusters)), normalised, num_batches, seed)


def _without_empty(fitted: Clusters, normalised: Callable[[int], np.ndarray], num_batches: int, seed: int) -> Clusters:
    """Count uses; put each unused centroid on the row farthest from its own centroid in some batch; count again."""
    centroids = fitted.centroids.clone()
    rng = torch.Generator().manual_seed(seed)
    for _ in range(_RESEED_ROUNDS + 1):
        counts = torch.zeros(len(centroids), dtype=torch.int64)
        farthest: list[tuple[float, Tensor]] = []
        for k in range(num_batches):
            rows = torch.from_numpy(normalised(k))
            tokens = nearest(rows, centroids)
            counts += torch.bincount(tokens, minlength=len(centroids))
            distances = (rows - centroids[tokens]).square().sum(-1)
            best = distances.topk(min(len(rows), len(centroids))).indices
            farthest += [(float(distances[i]), rows[i]) for i in best[: 1 + int((counts == 0).sum())]]
            farthest = sorted(farthest, key=lambda pair: -pair[0])[: 4 * len(centroids)]
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty) == 0:
            break
        order = torch.randperm(len(farthest), generator=rng)[: len(empty)]
        for place, source in zip(empty[: len(order)].tolist(), order.tolist(), strict=True):
            centroids[place] = farthest[source][1].half().float()
    return Clusters(fitted.mean, fitted.std, centroids, counts)
