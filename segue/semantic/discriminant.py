"""Linear discriminant analysis without labels: the axes along which an encoder's own clusters lie apart.

What an encoder that predicts knows of a moment is mostly what was said before it, and who says it. None of that is to
be told from one frame, but clusters gather frames of one sound, whatever surrounds it. So the axes are those along
which clusters differ most, for what frames differ inside of them; then frames are clustered anew by their places on
these axes, a few times over. Nothing is learnt by gradients, and nothing but sound is heard.

    W = (1 - s) * (covariance inside of clusters) + s * (its mean variance) * I
    axes = the A eigenvectors a of greatest b in: B a = b W a, with a' W a alike for all; B: covariance of their means

Shapes: rows (n, D) float32, less their recording's mean; axes (D, A), the greatest b first.
Source: Fisher 1936; shrinkage s: Friedman 1989; axes of clusters found without labels, before they are found anew:
Heck et al., "Feature optimized DPGMM clustering for unsupervised subword modeling", 2017, on cepstra.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.semantic.kmeans import evened, fit, nearest

CLUSTERS = 256
ROUNDS = 4
SHRINKAGE = 0.6


def discriminant_axes(
    rows: Callable[[int], Tensor],
    num_batches: int,
    count: int,
    seed: int,
    clusters: int = CLUSTERS,
    rounds: int = ROUNDS,
    shrinkage: float = SHRINKAGE,
) -> Tensor:
    """The axes, on batches that stream by: of all data no more is held than a number a row.

    Args:
        rows: batch k of activations, (n, D); called again on each pass and must give the same.
        num_batches: batches in a pass.
        count: A.
        seed: of the clusters.
        clusters: that are told apart.
        rounds: times that frames are clustered; the first time by all of their activations.
        shrinkage: s, from 0 to 1.

    Returns:
        (D, A) float32, already rounded to half precision, the form in which they are shipped.

    Raises:
        SegueError: if there are fewer rows than clusters, no more clusters than axes, or rows hardly differ.
    """
    if count >= clusters:
        raise SegueError(f"axes {count}: {clusters} clusters lie apart along {clusters - 1} at most; ask for fewer")
    frames, total = _covariance(rows, num_batches)
    if frames < clusters:
        raise SegueError(f"axes: they are found of {clusters} clusters, and there are only {frames} frames; add audio")
    if not float(total.trace()) > 0:
        raise SegueError("axes: all frames are alike, as in silence; add audio")
    axes = torch.eye(total.shape[0])
    for _ in range(rounds):
        placed = _on(rows, axes)
        found = fit(placed, num_batches, clusters, seed, angular=True, per_dimension=False)
        labels = [nearest(evened(placed(k), found.mean, found.std, True), found.centroids) for k in range(num_batches)]
        between = _between(rows, labels, clusters)
        found_axes = _apart(between, total - between, shrinkage)[:, :count]
        axes = (found_axes / found_axes.norm(dim=0).max()).half().float()
    return axes


def _on(rows: Callable[[int], Tensor], axes: Tensor) -> Callable[[int], Tensor]:
    return lambda k: rows(k) @ axes


def _covariance(rows: Callable[[int], Tensor], num_batches: int) -> tuple[int, Tensor]:
    """Of all rows, (D, D) float64, and how many there are."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for k in range(num_batches):
        batch = rows(k).double()
        count, total, products = count + len(batch), total + batch.sum(0), products + batch.T @ batch
    mean = total / max(count, 1)
    return count, products / max(count, 1) - torch.outer(mean, mean)


def _between(rows: Callable[[int], Tensor], labels: list[Tensor], clusters: int) -> Tensor:
    """Covariance of the means of clusters, each as often as it has rows, (D, D) float64."""
    counts, sums = torch.zeros(clusters, dtype=torch.float64), torch.zeros(())
    for k, label in enumerate(labels):
        batch = rows(k).double()
        sums = sums + torch.zeros(clusters, batch.shape[1], dtype=torch.float64).index_add_(0, label, batch)
        counts += torch.bincount(label, minlength=clusters)
    means = sums / counts.clamp(min=1)[:, None] - sums.sum(0) / counts.sum()
    return (means * counts[:, None]).T @ means / counts.sum()


def _apart(between: Tensor, within: Tensor, shrinkage: float) -> Tensor:
    """Axes (D, D) float64 along which clusters differ, the best first; inside of clusters the variance is 1."""
    even = torch.eye(within.shape[0], dtype=within.dtype) * within.trace() / within.shape[0]
    values, vectors = torch.linalg.eigh((1 - shrinkage) * within + shrinkage * even)
    whitening = vectors * values.clamp(min=1e-9 * float((within + between).trace())).rsqrt()
    _, order = torch.linalg.eigh(whitening.T @ between @ whitening)
    return (whitening @ order).flip(1)
