"""Analysis by synthesis: the latent of a recording, fitted to it through the decoder before it is coded.

wave (N,) -> latent (1, T, L) of the encoder -> rounds of gradient descent on what is heard of it -> latent (1, T, L).

An encoder that reads each frame once can't know what its decoder will make of the whole; a few steps down the
gradient of the losses that the bundled codec was trained with find much of what it missed. Codes and decoder stay as
they are, so whoever reads codes reads these. It takes as many passes through the decoder, there and back, as there
are rounds: for files, which are coded once, not for streams.

Source: analysis by synthesis in speech coding: Atal and Remde (ICASSP 1982); on top of an encoder's first guess:
Campos et al., Content Adaptive Optimization for Neural Image Compression (arXiv 1906.01223).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.codec.losses import ReconstructionLoss
from segue.codec.soundstream import SoundStream
from segue.codec.streaming import LONG_CHUNK_FRAMES
from segue.errors import SegueError
from segue.waves import check_wave

Watch = Callable[[int, int], None]
"""Called with rounds done and rounds in all."""

ROUNDS = 6
"""Of a file unless more or fewer are asked for: more bring little, and three most of it (docs/log.md)."""
MOST_ROUNDS = 1000
STEP = 0.1
"""Of a round, in deviations of the latent; it falls to nothing over the rounds."""
BETAS = (0.9, 0.99)
WEIGHTS = {"mel": 1.0, "complex": 2.0, "wave": 5.0, "loudness": 0.5, "structure": 1.0}
"""Of the losses: what the bundled codec was trained with, less its discriminators."""
WINDOW_FRAMES = LONG_CHUNK_FRAMES
BEFORE_FRAMES, AFTER_FRAMES = 64, 25
"""What a window of a long sound hears of its neighbours: those before it are done, those after it come next."""


def refined_latent(codec: SoundStream, wave: Tensor, rounds: int = ROUNDS, watch: Watch | None = None) -> Tensor:
    """The latent from which the codec's decoder makes this wave best, as far as so many rounds go.

    Long sound is worked on in windows of 10 s, which hear their neighbours; so memory is that of a window, beside the
    latent itself. Hardware and threads may round differently.

    Args:
        codec: in evaluation mode.
        wave: (N,) mono floats at the codec's sample rate.
        rounds: of gradient descent; 0 is the encoder's own latent.
        watch: told of each round.

    Returns:
        latent (1, T, L), T = ceil(N / hop_length).

    Raises:
        SegueError: if the wave is not a finite float (N,), N >= 1, rounds are not 0 to 1000, the codec was made in
            torch's inference mode, or its losses can't be worked out.
    """
    if rounds and any(weight.is_inference() for weight in codec.parameters()):
        raise SegueError("refinement: a codec made within torch.inference_mode has no gradients; load it outside")
    if not 0 <= rounds <= MOST_ROUNDS:
        raise SegueError(f"refinement of {rounds} rounds: 0 to {MOST_ROUNDS}")
    check_wave(wave[None], None)
    with torch.inference_mode(False):  # whose tensors have no gradients, not even within torch.enable_grad
        return _in_windows(codec, wave[None].float().clone(), rounds, watch)


def _in_windows(codec: SoundStream, wave: Tensor, rounds: int, watch: Watch | None) -> Tensor:
    """Wave (1, N) -> latent (1, T, L)."""
    target = F.pad(wave, (0, -wave.shape[-1] % codec.hop_length))
    latent = _encoders(codec, target)
    losses = ReconstructionLoss(codec.sample_rate, **{f"{name}_weight": weight for name, weight in WEIGHTS.items()})
    losses.to(target.device)
    starts = range(0, latent.shape[1] if rounds else 0, WINDOW_FRAMES)
    for place, start in enumerate(starts):
        first, end = max(0, start - BEFORE_FRAMES), start + WINDOW_FRAMES + AFTER_FRAMES
        told = None if watch is None else _shifted(watch, place * rounds, len(starts) * rounds)
        heard = target[:, first * codec.hop_length : end * codec.hop_length]
        latent[:, start:end] = _fitted(codec, losses, heard, latent[:, first:start], latent[:, start:end], rounds, told)
    return latent


@torch.no_grad()
def _encoders(codec: SoundStream, wave: Tensor) -> Tensor:
    """The encoder's own latent (1, T, L), in pieces of constant memory."""
    memory: dict = {}
    pieces = wave.split(LONG_CHUNK_FRAMES * codec.hop_length, dim=-1)
    return torch.cat([codec.quantizer.narrow(codec.features(piece, memory)) for piece in pieces], dim=1)


@torch.enable_grad()
def _fitted(
    codec: SoundStream,
    losses: ReconstructionLoss,
    target: Tensor,
    before: Tensor,
    latent: Tensor,
    rounds: int,
    watch: Watch | None,
) -> Tensor:
    """Frames (1, t, L) after `before`, moved so that both together decode to the target (1, N)."""
    moved = latent.detach().clone().requires_grad_()
    step = STEP * float(latent.std(correction=0))
    descent = torch.optim.Adam([moved], lr=step, betas=BETAS)
    for index in range(rounds):
        descent.param_groups[0]["lr"] = step * (1 - index / rounds)
        made = codec.decoder(codec.quantizer.widen(torch.cat([before, moved], dim=1)), None)
        distance = torch.stack(list(losses(made, target).values())).sum()
        if not torch.isfinite(distance):
            raise SegueError(f"refinement: distance {float(distance.detach())} after {index} rounds; ask for 0 rounds")
        (moved.grad,) = torch.autograd.grad(distance, [moved])
        descent.step()
        if watch is not None:
            watch(index + 1, rounds)
    return moved.detach()


def _shifted(watch: Watch, before: int, total: int) -> Watch:
    return lambda done, _: watch(before + done, total)
