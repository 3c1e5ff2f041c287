"""Refinement: nearer to the sound at the same bits, nothing but codes changed, long sound in windows."""

from __future__ import annotations

import math

import pytest
import soundfile
import tiny
import torch

from segue.bundle import BUNDLED, load_codec
from segue.codec import file, refinement
from segue.codec.losses import ReconstructionLoss
from segue.codec.refinement import WEIGHTS, refined_latent
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError

RATE = 16_000


@pytest.fixture(scope="module")
def bundled() -> SoundStream:
    codec = load_codec(BUNDLED / "codec")
    assert isinstance(codec, SoundStream)
    return codec


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    wave, rate = soundfile.read("examples/speech.wav", dtype="float32")
    assert rate == RATE
    return torch.from_numpy(wave)[: 2 * RATE]


def distance(codec: SoundStream, wave: torch.Tensor, count: int | None, rounds: int) -> float:
    """Of a file's sound to the original, in the losses that refinement goes down."""
    losses = ReconstructionLoss(RATE, **{f"{name}_weight": weight for name, weight in WEIGHTS.items()})
    made = file.decode(codec, file.encode(codec, wave, count, refinement=rounds))
    return float(torch.stack(list(losses(made[None], wave[None]).values())).sum())


@pytest.mark.parametrize(("count", "nearer"), [(None, 0.12), (6, 0.08), (3, 0.0)])
def test_as_many_bits_come_nearer_to_the_sound(bundled, speech, count, nearer):
    before, few, usual = (distance(bundled, speech, count, rounds) for rounds in (0, 3, refinement.ROUNDS))
    assert usual < before - nearer and few < before


def test_without_rounds_it_is_the_encoders_latent(bundled, speech):
    latent = refined_latent(bundled, speech[:7777], 0)
    assert torch.equal(bundled.quantizer.encode_latent(latent, 12), bundled.encode(speech[None, :7777]))
    assert latent.shape == (1, 25, bundled.config.latent_width)


def test_files_are_refined_unless_it_is_said():
    codec, wave = tiny.make_codec(), tiny.waves(1, 0.5)[0]
    rounds = refinement.ROUNDS
    assert torch.equal(file.encode(codec, wave).codes, file.encode(codec, wave, refinement=rounds).codes)
    assert torch.equal(file.encode(codec, wave, refinement=0).codes, codec.encode(wave[None])[0])
    assert not torch.equal(file.encode(codec, wave).codes, codec.encode(wave[None])[0])


def test_it_is_the_same_every_time_and_leaves_no_trace():
    codec, wave = tiny.make_codec(), tiny.waves(1, 0.5)[0]
    before = {name: weight.clone() for name, weight in codec.state_dict().items()}
    once = refined_latent(codec, wave)
    assert not once.requires_grad and not once.is_inference()
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert torch.equal(once, refined_latent(codec, wave * 1))
    assert all(torch.equal(weight, before[name]) for name, weight in codec.state_dict().items())
    assert all(weight.grad is None for weight in codec.parameters())


def test_a_window_hears_its_neighbours_and_no_more(monkeypatch):
    monkeypatch.setattr(refinement, "WINDOW_FRAMES", 40)
    monkeypatch.setattr(refinement, "AFTER_FRAMES", 10)
    codec, wave = tiny.make_codec(), tiny.waves(1, 3.0)[0]
    whole = refined_latent(codec, wave)
    assert torch.equal(refined_latent(codec, wave[: 50 * 320])[:, :40], whole[:, :40])
    assert not torch.equal(refined_latent(codec, wave[: 40 * 320])[:, :40], whole[:, :40])
    own = refined_latent(codec, wave, 0)
    moved = (whole - own).abs().amax(dim=(0, 2))
    assert moved.shape == (150,) and bool((moved > 0).all())


def test_windows_cost_next_to_nothing(bundled, monkeypatch):
    wave, _ = soundfile.read("examples/speech.wav", dtype="float32")
    wave = torch.from_numpy(wave)[: 5 * RATE]
    before, whole = distance(bundled, wave, None, 0), distance(bundled, wave, None, 3)
    monkeypatch.setattr(refinement, "WINDOW_FRAMES", 100)
    assert distance(bundled, wave, None, 3) < whole + 0.1 * (before - whole)


def test_a_long_file_is_coded_in_the_memory_of_a_piece(monkeypatch):
    codec, wave = tiny.make_codec(), tiny.waves(1, 3.0)[0]
    whole = file.encode(codec, wave, refinement=1).codes
    monkeypatch.setattr(file, "LONG_CHUNK_FRAMES", 40)
    coded, plain = [], codec.quantizer.encode_latent

    def spied(latent, *rest):
        coded.append(latent.shape[1])
        assert not torch.is_grad_enabled()
        return plain(latent, *rest)

    monkeypatch.setattr(codec.quantizer, "encode_latent", spied)
    assert torch.equal(file.encode(codec, wave, refinement=1).codes, whole) and coded == [40, 40, 40, 30]


@pytest.mark.parametrize("rate", [8000, 24_000, 48_000, 96_000])
def test_any_sample_rate_can_be_refined(rate):
    codec, wave = tiny.make_codec(sample_rate=rate), torch.from_numpy(tiny.sound(0.3, 0, rate))
    assert len(file.encode(codec, wave, refinement=2).codes.unique()) > 2


def test_what_can_not_be_worked_out_is_told(monkeypatch):
    codec = tiny.make_codec()
    with torch.inference_mode():
        inside = SoundStream(codec.config).eval()
    with pytest.raises(SegueError, match="load it outside"):
        file.encode(inside, tiny.waves(1, 0.1)[0])
    monkeypatch.setattr(ReconstructionLoss, "forward", lambda self, made, target: {"mel": made.sum() * math.nan})
    with pytest.raises(SegueError, match="distance nan after 0 rounds; ask for 0 rounds"):
        file.encode(codec, tiny.waves(1, 0.1)[0])


def test_a_watch_is_told_of_every_round_of_every_window(monkeypatch):
    monkeypatch.setattr(refinement, "WINDOW_FRAMES", 20)
    told: list[tuple[int, int]] = []
    refined_latent(tiny.make_codec(), tiny.waves(1, 1.0)[0], 4, lambda *news: told.append(news))
    assert told == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_both_pairs_can_be_refined(pair):
    codec = tiny.make_codec(pair)
    assert codec.config.pair == pair
    wave = tiny.waves(1, 0.5)[0]
    assert not torch.equal(refined_latent(codec, wave), refined_latent(codec, wave, 0))


@pytest.mark.parametrize("wave", [torch.zeros(RATE), torch.full((1,), 0.5), torch.ones(321), torch.zeros(1)])
def test_silence_and_a_single_sample_are_sound_too(bundled, wave):
    made = file.decode(bundled, file.encode(bundled, wave))
    assert made.shape == wave.shape and bool(torch.isfinite(made).all())
    if not wave.any():
        assert float(made.abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("wave", "rounds", "about"),
    [
        (torch.zeros(100), -1, "refinement of -1 rounds: 0 to 1000"),
        (torch.zeros(100), 1001, "refinement of 1001 rounds"),
        (torch.full((100,), math.nan), 2, "NaN"),
        (torch.zeros(0), 2, "without samples"),
        (torch.zeros(100, dtype=torch.int64), 2, "int64"),
    ],
)
def test_what_can_not_be_refined_is_refused(wave, rounds, about):
    with pytest.raises(SegueError, match=about):
        file.encode(tiny.make_codec(), wave, refinement=rounds)


def test_sizes_out_of_range_are_refused_before_the_work():
    codec, wave = tiny.make_codec(), tiny.waves(1, 0.1)[0]
    for count, candidates, about in ((13, None, "num_codebooks 13"), (2, 65, "candidates 65")):
        with pytest.raises(SegueError, match=about):
            file.encode(codec, wave, count, candidates, watch=lambda *_: pytest.fail("refined"))
