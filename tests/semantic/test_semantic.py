"""The semantic tokenizer: alignment in time, independence of batch and chunk, objectives, k-means, artifact."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from segue.artifact import load_part, save_part
from segue.errors import SegueError
from segue.semantic import EncoderConfig, ObjectiveConfig, SemanticTokenizer, TokenizerConfig, deduplicate, restore
from segue.semantic.conformer import Encoder
from segue.semantic.features import LogMel, frame_mask, mel_filterbank
from segue.semantic.kmeans import evened, fit, nearest
from segue.semantic.objective import span_mask
from segue.train.semantic import SemanticConfig, SemanticTraining

ENCODER = EncoderConfig(mel_bands=32, width=32, contrastive_depth=1, masked_depth=2, attention_frames=10, conv_width=5)
OBJECTIVE = ObjectiveConfig(entries=16, codebooks=2, codebook_size=32, contrastive_width=16, projection_width=8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def melody(seconds: float, seed: int) -> Tensor:
    """Tones of 0.2 s from a scale of eight, each with two partials, over faint noise: (N,)."""
    draw, samples = rng(seed), int(seconds * 16_000)
    notes = 200 * 2 ** (torch.randint(8, (math.ceil(samples / 3200),), generator=draw) / 4)
    phase = torch.cumsum(notes.repeat_interleave(3200)[:samples] / 16_000, 0) * 2 * math.pi
    return 0.2 * phase.sin() + 0.1 * (3 * phase).sin() + 0.003 * torch.randn(samples, generator=draw)


def batches(k: int, rows: int = 4, seconds: float = 2.0) -> tuple[Tensor, Tensor]:
    wave = torch.stack([melody(seconds, 1000 * k + row) for row in range(rows)])
    lengths = torch.full((rows,), wave.shape[1])
    lengths[-1] = wave.shape[1] * 2 // 3
    wave[-1, lengths[-1] :] = 0
    return wave, lengths


def trained(kind: str = "hybrid", steps: int = 0, vocab_size: int = 24) -> SemanticTraining:
    tokenizer = TokenizerConfig(ENCODER, layer=1, vocab_size=vocab_size, chunk_frames=50, context_frames=25)
    objective = ObjectiveConfig(**{**vars(OBJECTIVE), "kind": kind})
    training = SemanticTraining(SemanticConfig(tokenizer, objective, gain_db=3.0), seed=1)
    training.prepare(batches)
    for k in range(steps):
        training.step(batches(k), rng(k), 3e-3)
    return training


@pytest.fixture(scope="module")
def finished() -> SemanticTraining:
    training = trained(steps=20)
    training.finish(batches, 6, seed=0)
    return training


@pytest.fixture(scope="module")
def tokenizer(finished: SemanticTraining) -> SemanticTokenizer:
    return finished.tokenizer()


def test_every_mel_band_hears_something() -> None:
    assert (mel_filterbank(80).sum(0) > 0.1).all()


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3000))
def test_frames_cover_the_samples(samples: int) -> None:
    assert LogMel(8)(torch.zeros(1, samples)).shape == (1, 4 * math.ceil(samples / 640), 8)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16_000])
def test_one_token_for_each_640_samples_begun(tokenizer: SemanticTokenizer, samples: int) -> None:
    tokens = tokenizer.encode(0.1 * torch.randn(2, samples, generator=rng()))
    assert tokens.shape == (2, math.ceil(samples / 640)) and tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0 and int(tokens.max()) < tokenizer.vocab_size == 24


@pytest.mark.parametrize("sample", [0, 5 * 640 + 320, 9 * 640 - 1, 9 * 640, 19 * 640 + 639])
def test_a_click_sounds_in_its_own_frame(sample: int) -> None:
    wave = torch.zeros(1, 20 * 640)
    features = LogMel(32)
    silence = features(wave)
    wave[0, sample] = 1.0
    change = (features(wave) - silence).abs().sum(-1).reshape(20, 4).sum(-1)
    touched = change.nonzero()[:, 0].tolist()
    assert sample // 640 in touched
    assert all(abs(frame - sample // 640) <= 1 for frame in touched)


def test_a_row_in_a_padded_batch_is_encoded_as_alone(tokenizer: SemanticTokenizer) -> None:
    lengths = torch.tensor([32_000, 20_001, 9_000, 100])
    wave = torch.stack([melody(2.0, row) for row in range(4)])  # what lies beyond a length is sound, not silence
    together = tokenizer.encode(wave, lengths)
    at_once = tokenizer.tokens_of(tokenizer.features(wave, lengths), lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = tokenizer.encode(wave[row : row + 1, :length])[0]
        assert torch.equal(together[row, : len(alone)], alone)
        assert torch.equal(at_once[row, : len(alone)], alone)
        assert not together[row, len(alone) :].any() and not at_once[row, len(alone) :].any()


def test_hidden_frames_leak_nothing() -> None:
    encoder = Encoder(ENCODER).eval()
    mel = torch.randn(1, 80, 32, generator=rng())
    changed = mel.clone()
    changed[:, 40:60] += torch.randn(1, 20, 32, generator=rng(1))
    masked = torch.zeros(1, 20, dtype=torch.bool)
    masked[:, 10:15] = True

    def outputs(features: Tensor) -> list[Tensor]:
        return encoder(encoder.subsampling(features).masked_fill(masked[..., None], 0.0))

    assert all(torch.equal(a, b) for a, b in zip(outputs(mel), outputs(changed), strict=True))
    assert not torch.equal(encoder.subsampling(mel), encoder.subsampling(changed))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 40), span=st.integers(1, 8))
def test_spans_hide_real_frames_only_and_some_in_every_row(seed: int, frames: int, span: int) -> None:
    valid = torch.arange(frames) < torch.tensor([[frames], [1 + frames // 2]])
    masked = span_mask(valid, 0.1, span, rng(seed))
    assert not (masked & ~valid).any()
    assert masked.any(1).all()


def test_share_of_hidden_frames_is_as_computed() -> None:
    masked = span_mask(torch.ones(50, 500, dtype=torch.bool), 0.1, 6, rng())
    assert abs(masked.float().mean() - (1 - 0.9**6)) < 0.02


@pytest.mark.parametrize("kind", ["w2v-bert", "best-rq", "hybrid"])
def test_objectives_are_learnt_without_collapse(kind: str) -> None:
    training = trained(kind)
    before = training.validate(batches(900), rng())
    for k in range(30):
        training.step(batches(k), rng(k), 3e-3)
    after = training.validate(batches(900), rng())
    assert after["masked"] < 0.97 * before["masked"]
    assert after["masked_accuracy"] > before["masked_accuracy"]
    assert after["target_perplexity"] > 4
    if kind != "best-rq":
        assert after["contrastive"] < before["contrastive"]
        assert after["quantizer_perplexity"] > OBJECTIVE.entries / 4


def test_whitened_targets_use_their_codebook() -> None:
    training = trained("best-rq")
    assert training.learner.objective.frozen is not None
    ids = training.learner.objective.frozen(training._stacked(batches(0), training.learner.features))
    assert all(len(ids[:, book].unique()) > OBJECTIVE.codebook_size / 2 for book in range(OBJECTIVE.codebooks))


def test_a_resumed_run_is_the_unbroken_one() -> None:
    unbroken, resumed = trained(steps=2), trained()
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    assert unbroken.step(batches(7), rng(7), 1e-3) == resumed.step(batches(7), rng(7), 1e-3)
    unbroken.step(batches(8), rng(8), 1e-3)
    resumed.step(batches(8), rng(8), 1e-3)
    for name, value in unbroken.average.average.items():
        assert torch.equal(value, resumed.average.average[name]), name


def test_k_means_is_a_function_of_the_seed_and_leaves_no_cluster_empty() -> None:
    centres = 20 * torch.randn(6, 8, generator=rng())

    def rows(k: int) -> Tensor:
        draw = rng(k)
        return centres[torch.randint(6, (200,), generator=draw)] + 0.1 * torch.randn(200, 8, generator=draw)

    first, again, other = fit(rows, 4, 40, seed=3), fit(rows, 4, 40, seed=3), fit(rows, 4, 40, seed=4)
    assert torch.equal(first.centroids, again.centroids) and not torch.equal(first.centroids, other.centroids)
    assert (first.counts > 0).all() and int(first.counts.sum()) == 800
    assert torch.equal(first.centroids, first.centroids.half().float())
    normalised = (rows(0) - first.mean) / first.std
    assert torch.equal(nearest(normalised, first.centroids), torch.cdist(normalised, first.centroids).argmin(-1))
    with pytest.raises(SegueError, match="800 frames"):
        fit(rows, 4, 900, seed=0)


def test_k_means_reads_a_stream_from_disk_and_is_near_the_best(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Rows on very different scales, in a mapped file; against scikit-learn's on all of them at once, evened out."""
    draw, scale = np.random.default_rng(0), np.array([1e-2, 1.0, 100.0], dtype=np.float32)
    centres = draw.standard_normal((12, 3)) * 4
    rows = ((centres[draw.integers(0, 12, 12_000)] + 0.3 * draw.standard_normal((12_000, 3))) * scale).astype(
        np.float32
    )
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    asked: list[int] = []

    def batch(k: int) -> Tensor:
        asked.append(k)
        return torch.from_numpy(np.array(mapped[1000 * k : 1000 * (k + 1)]))

    found = fit(batch, 12, 12, seed=1)
    assert set(asked) == set(range(12)) and max(np.bincount(asked)) <= 10  # passes over a stream, nothing kept
    assert torch.allclose(found.std, torch.from_numpy(rows.std(0)), rtol=0.01)
    placed = evened(torch.from_numpy(rows), found.mean, found.std, False)
    ours = (placed - found.centroids[nearest(placed, found.centroids)]).square().sum()
    best = KMeans(12, n_init=10, random_state=0).fit(placed.numpy()).inertia_
    assert ours < 1.5 * best and (found.counts > 0).all() and found.counts.sum() == 12_000


def test_angular_clusters_are_of_directions_however_long_a_row_is() -> None:
    """Two directions, each near and far: by place there are four groups, by direction two."""
    draw = rng()
    directions = torch.tensor([[1.0, 0.2, 0.0], [-0.2, 1.0, 0.1]])
    rows = (directions[:, None] * torch.tensor([1.0, 9.0])[None, :, None]).flatten(0, 1).repeat_interleave(50, 0)
    rows = torch.cat([rows, -rows]) + 0.01 * torch.randn(400, 3, generator=draw)  # so that the mean is 0
    found = fit(lambda k: rows, 1, 4, seed=0, angular=True)
    tokens = nearest(evened(rows, found.mean, found.std, True), found.centroids)
    assert torch.equal(tokens, nearest(evened(3 * rows, 3 * found.mean, found.std, True), found.centroids))
    by_direction = tokens.view(2, 2, 100)
    assert all(len(group.unique()) == 1 for half in by_direction for group in half) and len(tokens.unique()) == 4


def test_a_tokenizer_of_directions_comes_back_from_disk() -> None:
    config = dataclasses.replace(tiny.SEMANTIC, tokenizer=dataclasses.replace(tiny.SEMANTIC.tokenizer, angular=True))
    tokenizer = tiny.make_semantic(config=config)
    again, wave = SemanticTokenizer.from_part(tokenizer.to_part({})), tiny.waves(1, 1.0)
    assert again.config.angular and torch.equal(again.encode(wave), tokenizer.encode(wave))
    assert tokenizer.centroids.norm(dim=-1).max() <= 1.01
    assert again.fingerprint != tiny.make_semantic().fingerprint


def test_more_clusters_than_distinct_rows_still_ends() -> None:
    assert fit(lambda k: torch.eye(4).repeat(10, 1), 1, 8, seed=0).counts.sum() == 40


@given(tokens=st.lists(st.integers(0, 3), max_size=40))
def test_repeats_come_back(tokens: list[int]) -> None:
    units, durations = deduplicate(torch.tensor(tokens, dtype=torch.int64))
    assert restore(units, durations).tolist() == tokens
    assert not (units[1:] == units[:-1]).any() and int(durations.sum()) == len(tokens)


def test_repeats_refuse_what_they_cannot_take() -> None:
    with pytest.raises(SegueError, match="one row"):
        deduplicate(torch.zeros(2, 3))
    with pytest.raises(SegueError, match="one length"):
        restore(torch.zeros(3), torch.zeros(2, dtype=torch.int64))


def test_chunks_with_context_agree_with_the_whole(finished: SemanticTraining) -> None:
    chunked = finished.tokenizer()
    part = finished.export({})
    whole = SemanticTokenizer.from_part(type(part)(part.kind, {**part.config, "chunk_frames": 10_000}, part.tensors))
    wave = melody(12.0, 5)[None]
    assert (chunked.encode(wave) == whole.encode(wave)).float().mean() > 0.98
    assert chunked.fingerprint != whole.fingerprint


def test_an_artifact_keeps_tokens_and_fingerprint(finished: SemanticTraining, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = finished.tokenizer()
    save_part(tokenizer.to_part({"hours": 1}), tmp_path / "semantic")
    back = SemanticTokenizer.from_part(load_part(tmp_path / "semantic", "semantic"))
    wave = melody(4.0, 6)[None]
    assert torch.equal(back.encode(wave), tokenizer.encode(wave))
    assert back.fingerprint == tokenizer.fingerprint == finished.export({"other": "card"}).fingerprint


def test_what_is_clustered_is_what_is_shipped(finished: SemanticTraining) -> None:
    assert finished.clusters is not None
    tokenizer = finished.tokenizer()
    counts = torch.zeros(24, dtype=torch.int64)
    for k in range(6):
        wave, lengths = batches(k)
        tokens = tokenizer.tokens_of(tokenizer.features(wave, lengths), lengths)
        counts += torch.bincount(tokens[frame_mask(lengths, tokens.shape[1])], minlength=24)
    assert torch.equal(counts, finished.clusters.counts) and (counts > 0).all()


def test_only_the_blocks_in_use_are_exported(finished: SemanticTraining) -> None:
    names = finished.export({}).tensors
    assert any(name.startswith("encoder.blocks.1.") for name in names)
    assert not any(name.startswith(("encoder.blocks.2.", "objective.")) for name in names)


@pytest.mark.parametrize(
    ("wave", "lengths", "message"),
    [
        (torch.zeros(640), None, "shape"),
        (torch.zeros(1, 1, 640), None, "shape"),
        (torch.zeros(1, 0), None, "without samples"),
        (torch.zeros(1, 640, dtype=torch.int16), None, "int16"),
        (torch.full((1, 640), float("nan")), None, "NaN"),
        (torch.zeros(2, 640), torch.tensor([640]), "lengths"),
        (torch.zeros(1, 640), torch.tensor([641]), "lengths"),
        (torch.zeros(1, 640), torch.tensor([0]), "lengths"),
    ],
)
def test_bad_input_is_refused(tokenizer: SemanticTokenizer, wave: Tensor, lengths: Tensor | None, message: str) -> None:
    with pytest.raises(SegueError, match=message):
        tokenizer.encode(wave, lengths)


def test_bad_configs_and_parts_are_refused(finished: SemanticTraining) -> None:
    with pytest.raises(SegueError, match="odd"):
        EncoderConfig(conv_width=4)
    with pytest.raises(SegueError, match="blocks 0 to 2"):
        TokenizerConfig(ENCODER, layer=3)
    part = finished.export({})
    with pytest.raises(SegueError, match="a codec artifact"):
        SemanticTokenizer.from_part(type(part)("codec", part.config, part.tensors))
    with pytest.raises(SegueError, match="don't fit"):
        SemanticTokenizer.from_part(type(part)(part.kind, {**part.config, "vocab_size": 25}, part.tensors))


def test_neither_making_nor_stepping_touches_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    trained(steps=1)
    assert torch.equal(before, torch.random.get_rng_state())
