"""From an encoder to tokens: discriminant axes, if any are asked for, then k-means, on batches that stream by.

Activations are held over the passes up to a bound; the rest is encoded again.

Shapes: hidden (B, T, D), one vector a token, and valid (B, T), True on real frames; axes (D, A).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from segue.semantic.conformer import Encoder
from segue.semantic.discriminant import discriminant_axes
from segue.semantic.features import STACK, LogMel, frame_mask
from segue.semantic.kmeans import Clusters, fit
from segue.semantic.recurrent import RecurrentEncoder
from segue.semantic.tokenizer import TokenizerConfig, centred, pooled

Hidden = tuple[Tensor, Tensor]
_KEPT_BYTES = 2**31


def encoded(
    features: LogMel,
    encoder: Encoder | RecurrentEncoder,
    wave: Tensor,
    lengths: Tensor,
    config: TokenizerConfig,
) -> Hidden:
    """What `fit_tokens` asks of a batch, on the CPU.

    Args:
        features: log-mel, normalised.
        encoder: of at least `config.layer` + 1 blocks.
        wave: (B, N) mono at 16 kHz, where both are.
        lengths: (B,) samples of each row that are real.
        config: which layer, and how it is heard.
    """
    log_mel = features(wave, lengths)
    valid = frame_mask(lengths, log_mel.shape[1] // STACK)
    return pooled(encoder, log_mel, valid, config).cpu(), valid.cpu()


def fit_tokens(
    hidden: Callable[[int], Hidden], num_batches: int, config: TokenizerConfig, seed: int
) -> tuple[Tensor | None, Clusters]:
    """Axes and clusters.

    Axes are found of activations less their mean over each row, which is what is left of a voice and a room in a few
    seconds; clusters are of what a token is made of, see `TokenizerConfig.centre_frames`.

    Args:
        hidden: batch k of activations and which of them are real, on the CPU; called again on each pass and must give
            the same.
        num_batches: batches in a pass; some 100 frames for each cluster are plenty.
        config: axes, clusters and what is clustered.
        seed: of the k-means.

    Returns:
        axes (D, A), None if none are asked for; clusters.

    Raises:
        SegueError: if there is less sound than clusters.
    """
    kept: dict[int, Hidden] = {}

    def batch(k: int) -> Hidden:
        if k in kept:
            return kept[k]
        found = hidden(k)
        if sum(one.nbytes for one, _ in kept.values()) + found[0].nbytes <= _KEPT_BYTES:
            kept[k] = found
        return found

    def less_mean(k: int) -> Tensor:
        found, valid = batch(k)
        return centred(found, valid, found.shape[1])[valid]

    axes = None
    if config.axes:
        axes = discriminant_axes(less_mean, num_batches, config.axes, seed)

    def rows(k: int) -> Tensor:
        found, valid = batch(k)
        own = centred(found, valid, config.centre_frames)[valid]
        return own if axes is None else own @ axes

    clusters = fit(rows, num_batches, config.vocab_size, seed, angular=config.angular, per_dimension=axes is None)
    return axes, clusters
