"""Sound made of semantic tokens alone, by the coarse and fine stages and the codec.

semantic (T_s,) -> codes (Q, T) with no acoustic prompt -> wave (N,): what is said or played, in any voice.
Source: AudioLM, arXiv 2209.03143, section IV.C (acoustic generation from semantic tokens).
"""

from __future__ import annotations

import torch
from torch import Tensor

from segue.bundle import Bundle
from segue.codec.seam import frames_a_cut
from segue.data.aligned import encode_aligned
from segue.generate.run_stage import run_stage
from segue.generate.sampling import Sampling


def of_semantic(bundle: Bundle, tokens: Tensor, seed: int) -> Tensor:
    """A wave (N,) at the codec's rate that the bundle's stages make of semantic tokens (T_s,) alone."""
    codec_frames, semantic_frames = frames_a_cut(bundle.codec.frame_rate, bundle.semantic.frame_rate)
    frames = len(tokens) // semantic_frames * codec_frames
    streams = {"semantic": tokens[None, None]}
    for index, (name, model) in enumerate((("coarse", bundle.stages.coarse), ("fine", bundle.stages.fine))):
        nothing = torch.zeros(1, model.stage.target.num_codebooks, 0, dtype=torch.int64)
        rng = torch.Generator().manual_seed(2 * seed + index)
        sampling = Sampling(bundle.temperature[1 + index])
        with torch.inference_mode():
            streams[name] = run_stage(model, streams, nothing, frames, sampling, [rng]).tokens
    return bundle.codec.decode(torch.cat([streams["coarse"], streams["fine"]], dim=1))[0]


def tokens_of(bundle: Bundle, wave: Tensor, semantic_wave: Tensor) -> tuple[Tensor, Tensor]:
    """Semantic tokens (T_s,) and codes (Q, T) of one sound at both sample rates."""
    same = bundle.semantic.sample_rate == bundle.codec.sample_rate
    return encode_aligned(wave if same else semantic_wave, bundle.semantic, bundle.codec, wave)
