"""From a prompt to a continuation, with random models: shapes, seeds, windows, ends and the seam."""

from __future__ import annotations

import pytest
import torch

from segue.errors import SegueError
from segue.generate.continuation import Continuation, Generation, Models, Prompt, Settings, tokenize_prompt
from segue.generate.run_stage import run_stage, windows
from segue.generate.sampling import Sampling
from segue.generate.stages import Stages, StageSampling
from segue.lm.model import StageModel
from segue.lm.stage import Stage, Stream, coarse_stage, fine_stage, semantic_stage
from segue.lm.transformer import TransformerConfig

BOOKS, COARSE, SIZE, UNITS = 5, 2, 8, 6


def make_stages(deduplicate: bool = False, **size) -> Stages:
    config = TransformerConfig(
        **{"width": 16, "depth": 1, "heads": 2, "feedforward": 16, "embedding_width": 8, **size},
        positions="index" if deduplicate else "time",
    )
    rng = torch.Generator().manual_seed(0)
    values = (
        semantic_stage(UNITS, crop_seconds=0.8, deduplicate=deduplicate),
        coarse_stage(UNITS, COARSE, SIZE, crop_seconds=0.4, deduplicate=deduplicate),
        fine_stage(UNITS, BOOKS, COARSE, SIZE, crop_seconds=0.2, deduplicate=deduplicate),
    )
    return with_opinions(values, config, rng)


def with_opinions(values, config, rng) -> Stages:
    models = [StageModel(value, config, rng).eval() for value in values]
    for model in models:
        model.transformer.embed_down.weight.data *= 20  # so that contexts matter
    return Stages(*models)


def make_stages_at(unit_ratio: int, code_ratio: int, rate: float) -> Stages:
    """Stages whose semantic tokens and codes last so many ticks of `rate`, in Hz."""
    config = TransformerConfig(width=16, depth=1, heads=2, feedforward=16, embedding_width=8)
    units = Stream("semantic", 0, 1, UNITS, unit_ratio)
    coarse = Stream("coarse", 0, COARSE, SIZE, code_ratio)
    fine = Stream("fine", COARSE, BOOKS - COARSE, SIZE, code_ratio)
    cut = unit_ratio * code_ratio
    values = (
        Stage("semantic", (), units, rate, cut, 0.8),
        Stage("coarse", (units,), coarse, rate, cut, 0.4),
        Stage("fine", (units, coarse), fine, rate, cut, 0.24),
    )
    return with_opinions(values, config, torch.Generator().manual_seed(0))


class FakeSemantic:
    sample_rate, frame_rate, hop_length = 16000, 25.0, 640

    def encode(self, wave, lengths=None):
        return (wave[:, ::640] * 1000).long() % UNITS


class FakeCodec:
    sample_rate, frame_rate, hop_length = 16000, 50.0, 320

    def encode(self, wave, lengths=None):
        return ((wave[:, None, ::320] * 1000).long() + torch.arange(BOOKS)[:, None]) % SIZE

    def decode(self, codes):
        return codes.float().mean(dim=1).repeat_interleave(320, dim=1) / SIZE

    def codebooks(self):
        return None


def noise(samples, seed=1):
    return torch.rand(1, samples, generator=torch.Generator().manual_seed(seed))


PROMPT = noise(16_000)
FREE = StageSampling(Sampling(1.0), Sampling(1.0), Sampling(1.0))


def continue_wave(codec, semantic, stages, wave, seconds, seeds=(0,), sampling=FREE, semantic_wave=None, **options):
    models = Models(codec, semantic, stages)
    prompt = tokenize_prompt(models, wave, semantic_wave)
    return Generation(models, prompt, seconds, Settings(seeds, sampling, **options)).run()


def go_on(seeds=(0,), stages=None, **options) -> Continuation:
    return continue_wave(
        FakeCodec(), FakeSemantic(), stages or make_stages(), PROMPT, 1.0, seeds, sampling=FREE, **options
    )


def test_the_prompt_stays_and_the_rest_is_decoded():
    made = go_on()
    assert made.wave.shape == (1, 32000) and made.prompt_seconds == 1.0
    assert torch.equal(made.wave[0, : 16000 - 320], PROMPT[0, :-320])
    assert made.tokens.semantic.shape == (1, 50) and made.tokens.codes.shape == (1, BOOKS, 100)
    assert made.tokens.coarse.shape == (1, COARSE, 100) and made.tokens.fine.shape == (1, BOOKS - COARSE, 100)
    decoded = FakeCodec().decode(made.tokens.codes)
    assert torch.equal(made.wave[0, 16000:], decoded[0, 16000:32000])


def test_prompt_tokens_are_kept_and_a_remainder_is_dropped_at_the_start():
    wave = PROMPT[:, :15900]
    made = continue_wave(FakeCodec(), FakeSemantic(), make_stages(), wave, 0.5, sampling=FREE)
    offset = 15900 % 640
    assert made.offset_samples == offset and made.wave.shape[1] == 15900 + 8000
    known = FakeCodec().encode(wave[:, offset:])
    assert torch.equal(made.tokens.codes[:, :, : known.shape[2]], known)
    assert torch.equal(made.tokens.semantic[:, : known.shape[2] // 2], FakeSemantic().encode(wave[:, offset:]))


class CodecAt(FakeCodec):
    """A codec with rates of its own."""

    def __init__(self, sample_rate, hop_length):
        self.sample_rate, self.hop_length = sample_rate, hop_length
        self.frame_rate = sample_rate / hop_length

    def encode(self, wave, lengths=None):
        return ((wave[:, None, :: self.hop_length] * 1000).long() + torch.arange(BOOKS)[:, None]) % SIZE

    def decode(self, codes):
        return codes.float().mean(dim=1).repeat_interleave(self.hop_length, dim=1) / SIZE


@pytest.mark.parametrize(
    ("rate", "hop", "unit_ratio", "code_ratio", "cut_seconds"),
    [(24_000, 320, 3, 1, 0.04), (16_000, 640, 1, 1, 0.04), (24_000, 1920, 1, 2, 0.08), (44_100, 882, 2, 1, 0.04)],
)
@pytest.mark.parametrize("prompt_seconds", [1.0, 0.613])
def test_tokenizers_may_have_rates_of_their_own(rate, hop, unit_ratio, code_ratio, cut_seconds, prompt_seconds):
    """Frames of one length or another: prompt tokens are cut from the prompt's end in both, at one instant."""
    codec, ticks = CodecAt(rate, hop), max(25.0, rate / hop)
    stages = make_stages_at(unit_ratio, code_ratio, ticks)
    wave = noise(round(prompt_seconds * rate))
    heard = wave if rate == 16_000 else noise(round(prompt_seconds * 16_000))
    made = continue_wave(codec, FakeSemantic(), stages, wave, 0.5, (1, 2), FREE, semantic_wave=heard)
    cuts, new = int(prompt_seconds / cut_seconds + 1e-9), -(-50 // round(cut_seconds * 100))
    step = round(cut_seconds * rate)
    assert made.sample_rate == rate and made.offset_samples == wave.shape[1] - cuts * step
    assert made.prompt_seconds == pytest.approx(prompt_seconds, abs=1e-4)
    assert made.wave.shape == (2, wave.shape[1] + rate // 2)
    frames = round((cuts + new) * cut_seconds * codec.frame_rate)
    assert made.tokens.codes.shape == (2, BOOKS, frames)
    assert made.tokens.semantic.shape == (2, round((cuts + new) * cut_seconds * 25))
    codes = codec.encode(wave[:, made.offset_samples :])
    units = FakeSemantic().encode(heard[:, heard.shape[1] - cuts * round(cut_seconds * 16_000) :])
    assert torch.equal(made.tokens.codes[:1, :, : codes.shape[2]], codes)
    assert torch.equal(made.tokens.semantic[:1, : units.shape[1]], units)
    fade = round(0.02 * rate)
    assert torch.equal(made.wave[0, : wave.shape[1] - fade], wave[0, :-fade])
    decoded = codec.decode(made.tokens.codes)[:, cuts * step : cuts * step + rate // 2]
    assert torch.equal(made.wave[:, wave.shape[1] :], decoded)


def test_a_row_that_ends_ends_with_a_whole_code():
    """Codes of 80 ms over semantic tokens of 40 ms: an odd token at the end has no code."""
    stages = make_stages_at(1, 2, 25.0)
    wave, heard = noise(24_000), noise(16_000)
    ended = set()
    for seed in range(10):
        codec = CodecAt(24_000, 1920)
        made = continue_wave(
            codec, FakeSemantic(), stages, wave, 1.0, (seed,), FREE, semantic_wave=heard, stop_at_end=True
        )
        frames = made.tokens.frames[0]
        assert made.tokens.semantic.shape == (1, 2 * frames) and made.tokens.codes.shape == (1, BOOKS, frames)
        assert made.samples[0] == min(1920 * frames, 23_040 + 24_000) + 960
        ended.add(frames if made.tokens.ended[0] else None)
    assert len(ended) > 3


def test_a_prompt_is_wanted_at_both_rates():
    with pytest.raises(SegueError, match="give semantic_wave, the same at 16000 Hz"):
        continue_wave(CodecAt(24_000, 320), FakeSemantic(), make_stages_at(3, 1, 75.0), noise(24_000), 1.0)
    with pytest.raises(SegueError, match=r"prompt of shape \(1, 639\)"):
        stages = make_stages_at(3, 1, 75.0)
        continue_wave(CodecAt(24_000, 320), FakeSemantic(), stages, noise(24_000), 1.0, semantic_wave=noise(639))


@pytest.mark.parametrize("deduplicate", [False, True])
def test_a_seed_is_a_continuation_whatever_else_is_made(deduplicate):
    stages = make_stages(deduplicate)
    several = go_on((3, 4, 5), stages)
    again = go_on((3, 4, 5), stages)
    assert torch.equal(several.wave, again.wave)
    for row, seed in enumerate((3, 4, 5)):
        alone = go_on((seed,), stages)
        assert torch.equal(several.tokens.semantic[row], alone.tokens.semantic[0])
        assert torch.equal(several.tokens.codes[row], alone.tokens.codes[0])
    assert not torch.equal(several.tokens.semantic[0], several.tokens.semantic[1])
    assert not torch.equal(several.tokens.codes[0], several.tokens.codes[1])


def test_rows_may_end_and_then_stop_alone():
    stages = make_stages()
    made = go_on(tuple(range(6)), stages, stop_at_end=True)
    assert any(made.tokens.ended) and len(set(made.tokens.frames)) > 1
    for row, frames in enumerate(made.tokens.frames):
        assert made.samples[row] == 320 * frames
        assert not made.wave[row, made.samples[row] :].any()
        alone = go_on((row,), stages, stop_at_end=True)
        assert torch.equal(alone.wave[0], made.wave[row, : made.samples[row]])


def test_progress_is_told_for_each_stage():
    told = []
    go_on(on_progress=lambda *args: told.append(args))
    assert [name for name, done, total in told if done == total] == ["semantic", "coarse", "fine"]
    assert all(1 <= done <= total for _, done, total in told)


@pytest.mark.parametrize("known", [0, 1, 7, 10, 23])
@pytest.mark.parametrize("total", [8, 10, 24, 41])
def test_windows_cover_every_frame_once_and_keep_within_a_crop(known, total):
    done = known
    for start, first, stop in windows(known, total, size=10, fresh=5, align=2):
        assert first == done and start <= first < stop <= start + 10 and start % 2 == 0
        assert start == 0 or first - start >= 3
        done = stop
    assert done == max(known, total)


def test_a_stage_starts_from_nothing():
    stages = make_stages()
    made = run_stage(stages.semantic, {}, torch.zeros(2, 1, 0).long(), 30, Sampling(1.0), [torch.Generator()] * 2)
    assert made.tokens.shape == (2, 1, 30) and made.tokens.max() < UNITS


@pytest.mark.parametrize("size", [{}, {"depth": 2, "window_frames": 3, "global_every": 2}])
def test_windowed_decoding_is_what_the_whole_model_would_say(size):
    """Greedy tokens of the first window, checked against plain passes over the whole sequence."""
    model = make_stages(**size).coarse
    semantic = torch.randint(0, UNITS, (1, 1, 10), generator=torch.Generator().manual_seed(2))
    made = run_stage(model, {"semantic": semantic}, torch.zeros(1, 2, 0).long(), 20, Sampling(0), [torch.Generator()])
    tokens, positions = model.layout.read([semantic[0]], made.tokens[0])
    hidden = model.transformer(tokens[None], positions[None])[0]
    first = tokens.shape[0] - 1 - 40
    for place in range(40):
        begin, _ = model.layout.slot(place % 2)
        logits = model.transformer.logits(hidden[first + place], begin, SIZE)
        assert logits.argmax() == made.tokens[0, place % 2, place // 2]


def test_what_does_not_belong_together_is_refused():
    stages = make_stages()
    with pytest.raises(SegueError, match="place"):
        Stages(stages.coarse, stages.semantic, stages.fine)
    with pytest.raises(SegueError, match="seeds"):
        go_on(())
    with pytest.raises(SegueError, match="seconds"):
        continue_wave(FakeCodec(), FakeSemantic(), stages, PROMPT, 0.0)
    with pytest.raises(SegueError, match="prompt"):
        continue_wave(FakeCodec(), FakeSemantic(), stages, PROMPT[:, :639], 1.0)
    with pytest.raises(SegueError, match="prompt"):
        models = Models(FakeCodec(), FakeSemantic(), stages)
        tokens = Prompt(PROMPT[0], torch.zeros(3).long(), torch.zeros(BOOKS, 7).long())
        Generation(models, tokens, 1.0, Settings())
    with pytest.raises(SegueError, match="semantic prefix"):
        run_stage(
            stages.coarse,
            {"semantic": torch.zeros(1, 1, 3).long()},
            torch.zeros(1, COARSE, 0).long(),
            20,
            FREE.coarse,
            [torch.Generator()],
        )
    for parameter in stages.semantic.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(SegueError, match="not finite"):
        go_on(stages=stages)
