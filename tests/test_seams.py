"""One contract for every codec and one for every semantic tokenizer: ours, bundled, or on a published encoder."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.bundle import BUNDLED, bundled_names, load_parts
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.semantic.tokenizer import SemanticTokenizer
from segue.tokenizers import PHONETIC, load_semantic

LOOKAHEAD_SAMPLES = 480
KINDS = {"spectral": {}, "seanet": {}, "plain": {"quantizer": "plain", "latent_width": 6}}
CODECS = [*KINDS, *bundled_names()]
TOKENIZERS = ["random", "recurrent", *bundled_names(), PHONETIC]
ENCODERS = ["hubert", "wavlm", "wav2vec2", "wav2vec2-bert", "mert_model"]


@cache
def made(seam: str, name: str):
    """An implementation of a seam: of random weights, the bundled one, or on a small published encoder."""
    if name in ENCODERS:
        from published import make_tokenizer

        return make_tokenizer(name, Path(tempfile.mkdtemp(prefix="segue-encoder-")))
    if name == PHONETIC:
        tokenizer = load_semantic(name)
        assert isinstance(tokenizer, SemanticTokenizer)
        return tokenizer
    if name in bundled_names():
        part = load_parts(BUNDLED / name)[seam]
        return SoundStream.from_part(part) if seam == "codec" else SemanticTokenizer.from_part(part)
    if seam == "semantic":
        return tiny.make_semantic(config=tiny.PREDICTIVE if name == "recurrent" else tiny.SEMANTIC)
    return tiny.make_codec("seanet" if name == "seanet" else "spectral", **KINDS[name])


@pytest.fixture(params=CODECS)
def codec(request):
    return made("codec", request.param)


@pytest.fixture(params=TOKENIZERS)
def semantic(request):
    return made("semantic", request.param)


EVERY = [*(("codec", name) for name in CODECS), *(("semantic", name) for name in TOKENIZERS + ENCODERS)]


@pytest.fixture(params=EVERY, ids=lambda pair: f"{pair[0]} {pair[1]}")
def seam(request):
    """Whatever both seams promise."""
    if request.param[1] in ENCODERS:
        pytest.importorskip("transformers")
    return made(*request.param)


def ragged() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of different length in one batch, zeros beyond the ends."""
    wave, lengths = tiny.waves(3, 1.0, seed=5), torch.tensor([16_000, 7777, 12_800])
    return wave * (torch.arange(16_000) < lengths[:, None]), lengths


def test_facts(codec, semantic):
    for seam in (codec, semantic):
        assert seam.sample_rate == 16_000 and seam.frame_rate == seam.sample_rate / seam.hop_length
        assert len(seam.fingerprint) == 16
    assert (codec.frame_rate, semantic.frame_rate) == (50.0, 25.0)
    assert codec.num_codebooks == 12


def test_one_frame_for_each_hop_begun(seam):
    @settings(max_examples=12, deadline=None)
    @given(st.integers(1, 20_000))
    def check(samples):
        coded = seam.encode(0.1 * torch.randn(1, samples, generator=tiny.rng(samples)))
        assert coded.shape[-1] == -(-samples // seam.hop_length)

    check()
    for samples in (1, seam.hop_length - 1, seam.hop_length, seam.hop_length + 1, 3 * seam.hop_length):
        assert seam.encode(torch.ones(1, samples)).shape[-1] == -(-samples // seam.hop_length)


def test_indices_are_whole_numbers_in_range(codec, semantic):
    codes, tokens = codec.encode(tiny.waves(2, 1.0)), semantic.encode(tiny.waves(2, 1.0))
    assert codes.dtype == tokens.dtype == torch.int64
    assert codes.shape == (2, 12, 50) and tokens.shape == (2, 25)
    assert codes.min() >= 0 and codes.max() < codec.codebook_size
    assert tokens.min() >= 0 and tokens.max() < semantic.vocab_size
    assert len(codes.unique()) > 8 and len(tokens.unique()) > 4


def test_the_same_wave_is_coded_the_same(seam):
    wave = tiny.waves(2, 1.0, seed=3)
    first = seam.encode(wave)
    assert torch.equal(first, seam.encode(wave.clone()))
    assert not torch.equal(first, seam.encode(wave.flip(0)))


def test_a_row_does_not_depend_on_its_batch(seam):
    wave, lengths = ragged()
    together = seam.encode(wave, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = seam.encode(wave[row : row + 1, :length])[0]
        frames = -(-length // seam.hop_length)
        assert torch.equal(together[row, ..., :frames], alone)
        assert (together[row, ..., frames:] == 0).all()


def test_what_lies_beyond_a_rows_length_does_not_count(seam):
    wave, lengths = ragged()
    dirty = wave + 0.3 * (torch.arange(16_000) >= lengths[:, None])
    assert torch.equal(seam.encode(wave, lengths), seam.encode(dirty, lengths))


def test_without_lengths_all_of_it_is_sound(seam):
    wave = tiny.waves(2, 0.5)
    assert torch.equal(seam.encode(wave), seam.encode(wave, torch.tensor([8000, 8000])))


@pytest.mark.parametrize(
    "wave",
    [
        torch.zeros(16_000),
        torch.zeros(1, 2, 16_000),
        torch.zeros(1, 0),
        torch.zeros(0, 16_000),
        torch.zeros(1, 16_000, dtype=torch.int16),
        torch.full((1, 16_000), float("nan")),
        torch.cat([torch.zeros(1, 15_999), torch.tensor([[float("inf")]])], dim=1),
    ],
    ids=["one axis", "channels", "no samples", "no rows", "integers", "NaN", "infinity"],
)
def test_what_is_no_wave_is_refused(seam, wave):
    with pytest.raises(SegueError):
        seam.encode(wave)


@pytest.mark.parametrize("lengths", [[1], [100, 0], [100, 16_001], [-1, 5], [0.5, 7.0]])
def test_lengths_that_do_not_fit_are_refused(seam, lengths):
    with pytest.raises(SegueError):
        seam.encode(torch.ones(2, 16_000), torch.tensor(lengths))


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 5000])
def test_decoding_gives_a_hop_for_each_frame(codec, samples):
    codes = codec.encode(0.1 * torch.randn(2, samples, generator=tiny.rng()))
    wave = codec.decode(codes)
    assert wave.shape == (2, codes.shape[-1] * codec.hop_length)
    assert wave.dtype == torch.float32 and torch.isfinite(wave).all()
    assert wave.abs().max() < 4.0


def test_decoding_is_the_same_alone_and_again(codec):
    codes = codec.encode(tiny.waves(2, 0.5, seed=2))
    wave = codec.decode(codes)
    assert torch.equal(wave, codec.decode(codes.int()))
    assert torch.allclose(wave[1:], codec.decode(codes[1:]), atol=1e-5)
    assert not torch.allclose(wave[0], wave[1], atol=1e-3)


def test_the_first_layers_are_coded_and_decoded_alone(codec):
    wave = tiny.waves(1, 0.5)
    codes = codec.encode(wave)
    for q in (1, 3, 12):
        few = codec.encode(wave, num_codebooks=q)
        assert torch.equal(few, codes[:, :q])
        assert torch.equal(codec.decode(few), codec.decode(codes[:, :q]))
    assert not torch.allclose(codec.decode(codes[:, :1]), codec.decode(codes), atol=1e-4)


@pytest.mark.parametrize("q", [0, 13, -1])
def test_a_number_of_codebooks_out_of_range_is_refused(codec, q):
    with pytest.raises(SegueError, match=f"num_codebooks {q}"):
        codec.encode(torch.zeros(1, 320), num_codebooks=q)


@pytest.mark.parametrize("candidates", [0, -1, 65])
def test_a_search_among_none_or_too_many_candidates_is_refused(codec, candidates):
    with pytest.raises(SegueError, match=f"candidates {candidates}: 1 to 64"):
        codec.encode(torch.zeros(1, 320), candidates=candidates)


def test_codes_that_do_not_exist_are_refused(codec):
    bad = [
        torch.zeros(1, 12, 4),
        torch.zeros(12, 4, dtype=torch.int64),
        torch.zeros(1, 13, 4, dtype=torch.int64),
        torch.zeros(1, 0, 4, dtype=torch.int64),
        torch.zeros(1, 12, 0, dtype=torch.int64),
        torch.zeros(0, 12, 4, dtype=torch.int64),
        torch.full((1, 12, 4), codec.codebook_size),
        torch.full((1, 12, 4), -1),
    ]
    for codes in bad:
        with pytest.raises(SegueError, match="codes"):
            codec.decode(codes)


def test_codes_do_not_hear_the_future(codec):
    wave = tiny.waves(1, 1.0, seed=4)
    codes = codec.encode(wave)
    for moment in (3200, 5555, 9999):
        changed = wave.clone()
        changed[:, moment:] = tiny.waves(1, 1.0, seed=9)[:, moment:]
        other = codec.encode(changed)
        over = moment // codec.hop_length
        assert torch.equal(other[..., :over], codes[..., :over])
        assert not torch.equal(other[..., over:], codes[..., over:])


def test_sound_does_not_hear_codes_more_than_30_ms_ahead(codec):
    codes = codec.encode(tiny.waves(1, 1.0, seed=6))
    wave = codec.decode(codes)
    for frame in (5, 20, 49):
        changed = codes.clone()
        changed[..., frame:] = (changed[..., frame:] + 1) % codec.codebook_size
        other = codec.decode(changed)
        final = frame * codec.hop_length - LOOKAHEAD_SAMPLES
        assert torch.allclose(other[:, :final], wave[:, :final], atol=1e-5)
        assert not torch.allclose(other[:, final:], wave[:, final:], atol=1e-3)


def test_what_lies_beyond_its_reach_changes_no_token(semantic):
    """Attention and convolution of each block, then the local mean: nothing further away is heard.

    What goes back hears all that follows: of what is further away, seldom anything that would change a token.
    """
    config = semantic.config
    block = config.encoder.attention_frames + config.encoder.conv_width // 2
    reach = (config.layer + 1) * block + config.centre_frames
    kept, cut = 30, 30 + reach + 10
    wave = tiny.waves(1, (cut + 25) * 640 / 16_000, seed=8)
    whole, part = semantic.encode(wave), semantic.encode(wave[:, : 640 * cut])
    equal = (part[:, :kept] == whole[:, :kept]).float().mean()
    assert equal == 1 or (config.recurrent is not None and config.recurrent.both_ways and equal > 0.95)


def test_an_artifact_gives_the_same_back(codec, semantic):
    wave = tiny.waves(1, 0.5)
    again = SoundStream.from_part(codec.to_part({}))
    assert again.fingerprint == codec.fingerprint and torch.equal(again.encode(wave), codec.encode(wave))
    other = SemanticTokenizer.from_part(semantic.to_part({}))
    assert other.fingerprint == semantic.fingerprint and torch.equal(other.encode(wave), semantic.encode(wave))
