"""Small things that tests share: sounds a little like speech, tiny configs, and a random bundle made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from segue import recipes
from segue.artifact import save_part
from segue.bundle import save_bundle
from segue.codec.discriminators import DiscriminatorConfig
from segue.codec.seanet import SeanetConfig
from segue.codec.soundstream import CodecConfig, SoundStream
from segue.codec.spectral import SpectralConfig
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelConfig, ParallelModel
from segue.lm.stage import acoustic_stage, coarse_stage, fine_stage, semantic_stage
from segue.lm.transformer import TransformerConfig
from segue.semantic.conformer import EncoderConfig
from segue.semantic.objective import ObjectiveConfig
from segue.semantic.recurrent import RecurrentConfig
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig
from segue.train.codec import CodecObjective
from segue.train.semantic import SemanticConfig, SemanticTraining

RATE = 16_000
VOCAB = 16
CODES = 16
CODEC = CodecConfig(
    codebook_size=CODES,
    code_width=4,
    spectral=SpectralConfig(width=16, expansion=2, encoder_depth=1, decoder_depth=1, kernel=3),
    seanet=SeanetConfig(channels=2, width=16, dilations=(1,)),
)
SEMANTIC = SemanticConfig(
    TokenizerConfig(
        EncoderConfig(
            mel_bands=16,
            width=16,
            contrastive_depth=1,
            masked_depth=1,
            heads=2,
            feedforward=1,
            conv_width=3,
            attention_frames=10,
        ),
        layer=1,
        vocab_size=VOCAB,
        chunk_frames=50,
        context_frames=20,
    ),
    ObjectiveConfig(entries=8, codebooks=1, codebook_size=16, contrastive_width=8, projection_width=4),
)
PREDICTIVE = SemanticConfig(
    replace(SEMANTIC.tokenizer, recurrent=RecurrentConfig(mel_bands=16, width=16, depth=2), centre_frames=0),
    replace(SEMANTIC.objective, kind="cpc", horizon=3),
    warp=1.1,
    colour=0.2,
)
TRANSFORMER = TransformerConfig(width=16, depth=1, heads=2, feedforward=16, embedding_width=8)
PARALLEL = ParallelConfig(width=16, depth=1, heads=2, feedforward=1, conv_width=3, embedding_width=8)
OBJECTIVE = CodecObjective(
    warm_steps=2,
    adversarial_start_step=4,
    discriminators=DiscriminatorConfig(stft_windows=(256,), stft_channels=4, wave_channels=4),
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sound(seconds: float, seed: int = 0, sample_rate: int = RATE) -> np.ndarray:
    """Syllables of 0.2 s, drawn from tones with vibrato and harmonics, noise bursts and (never first) pauses: (N,)."""
    draw = np.random.default_rng(seed)
    count, size = round(seconds * sample_rate), round(0.2 * sample_rate)
    time = np.arange(size) / sample_rate
    pieces = []
    for index in range(-(-count // size)):
        kind = draw.choice(["tone", "burst", "pause"], p=[0.7, 0.2, 0.1]) if index else "tone"
        if kind == "tone":
            phase = 2 * np.pi * draw.uniform(90, 300) * time + 0.3 * np.sin(2 * np.pi * 5 * time)
            piece = sum(draw.uniform(0.2, 1) / h * np.sin(h * phase) for h in range(1, 6))
        else:
            piece = draw.standard_normal(size) * (0.5 if kind == "burst" else 1e-4)
        pieces.append(piece * np.hanning(size))
    wave = np.concatenate(pieces)[:count] + 1e-4 * draw.standard_normal(count)
    return (0.25 * wave).astype(np.float32)


def waves(rows: int, seconds: float, seed: int = 0) -> Tensor:
    """(rows, N)."""
    return torch.from_numpy(np.stack([sound(seconds, 100 * seed + row) for row in range(rows)]))


def clip_batch(k: int) -> tuple[Tensor, Tensor]:
    """A training batch as `Clips` gives it, a function of `k` alone."""
    wave = waves(2, 0.32, seed=k + 1)
    return wave, torch.full((2,), wave.shape[1])


def corpus(folder: Path, files: int, seconds: float) -> Path:
    """Sound files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        soundfile.write(folder / f"clip{index:03d}.wav", sound(seconds, index), RATE)
    return folder


def make_codec(pair: str = "spectral", seed: int = 0, **changes: Any) -> SoundStream:
    """A codec of random weights whose codebooks know what its encoder says, as it comes back from disk."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = SoundStream(replace(CODEC, pair=pair, **changes)).eval()
    with torch.no_grad():
        for name, weight in codec.named_parameters():
            if name.endswith("original0"):
                weight *= 2  # weight-normalised layers of random weights would say next to nothing
        codec.quantizer.start(codec.features(waves(4, 1.0, seed)).flatten(0, 1), rng(seed))
    return SoundStream.from_part(codec.to_part({"hours": 0.0, "steps": 0, "licence": "none"}))


def make_semantic(seed: int = 0, config: SemanticConfig = SEMANTIC) -> SemanticTokenizer:
    """A tokenizer of random weights and real centroids."""
    training = SemanticTraining(config, seed)

    def batches(k: int) -> tuple[Tensor, Tensor]:
        wave = waves(2, 1.0, seed=k)
        return wave, torch.full((2,), wave.shape[1])

    training.prepare(batches)
    training.finish(batches, 4, seed)
    return training.tokenizer()


def make_bundle(folder: Path, seed: int = 0, parallel: bool = False, semantic_optional: bool = False) -> Path:
    """A whole bundle of random parts on disk, perhaps with a parallel decoder, or stages that can do without tokens."""
    codec, semantic = make_codec(seed=seed), make_semantic(seed)
    requires = {"semantic": semantic.fingerprint, "codec": codec.fingerprint}
    stages = {
        "semantic_stage": semantic_stage(VOCAB, crop_seconds=2.0),
        "coarse_stage": replace(coarse_stage(VOCAB, 4, CODES, crop_seconds=1.0), semantic_optional=semantic_optional),
        "fine_stage": replace(fine_stage(VOCAB, 12, 4, CODES, crop_seconds=0.4), semantic_optional=semantic_optional),
    }
    card = {"hours": 0.01, "steps": 0, "licence": "CC0"}
    parts = {"codec": codec.to_part(card), "semantic": semantic.to_part(card)}
    parts |= {role: StageModel(stage, TRANSFORMER, rng(seed)).to_part(requires, card) for role, stage in stages.items()}
    if parallel:
        model = ParallelModel(acoustic_stage(VOCAB, 12, CODES, crop_seconds=1.0), PARALLEL, rng(seed))
        parts["parallel"] = model.to_part(requires, card)
    for role, part in parts.items():
        save_part(part, folder / role)
    save_bundle(folder, "tiny", {role: folder / role for role in parts})
    return folder


def recipe() -> recipes.Recipe:
    """The recipe `tiny` with few channels and short crops."""
    whole = recipes.tiny()
    stages = {
        role: replace(
            getattr(whole, role),
            model=replace(TRANSFORMER, width=32),
            train=replace(getattr(whole, role).train, batch_size=2, crop_seconds=1.0),
        )
        for role in ("semantic_stage", "coarse_stage", "fine_stage")
    }
    codec = replace(whole.codec, model=CODEC)
    semantic = replace(whole.semantic, model=SEMANTIC)
    return replace(whole, codec=codec, semantic=semantic, **stages)
