"""Sound as it is made: chunks against the whole, the seam, what is kept of the past, and the other ways to begin."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_continuation import (
    BOOKS,
    COARSE,
    FREE,
    PROMPT,
    SIZE,
    UNITS,
    FakeCodec,
    FakeSemantic,
    make_stages,
    with_opinions,
)

from segue.errors import SegueError
from segue.generate.acoustic import Autoregressive
from segue.generate.continuation import Generation, Models, Settings, no_prompt, tokenize_prompt
from segue.generate.repetition import Repetition
from segue.generate.run_stage import StageRunner
from segue.generate.sampling import rng_of, uniforms
from segue.generate.semantic_source import Continued, Recorded
from segue.generate.token_stream import stretches
from segue.generate.wave_stream import WaveStream
from segue.lm.parallel import ParallelConfig, ParallelModel
from segue.lm.stage import acoustic_stage, coarse_stage, fine_stage, semantic_stage
from segue.lm.transformer import TransformerConfig


class StreamingCodec(FakeCodec):
    """Each code is a constant, so nothing is held back."""

    num_codebooks, codebook_size, fingerprint, codes_fingerprint = BOOKS, SIZE, "", ""

    def codebooks(self):
        return None

    def streaming(self):
        return self

    def flush(self):
        return torch.zeros(1, 0)


def models_of(stages=None, codec=None) -> Models:
    return Models(codec or FakeCodec(), FakeSemantic(), stages or make_stages())


def going_on(seconds=1.0, prompt=PROMPT, models=None, **settings) -> Generation:
    models = models or models_of()
    settings = {"sampling": FREE, **settings}
    return Generation(models, tokenize_prompt(models, prompt), seconds, Settings(**settings))


def optional_stages():
    """Stages that may do without semantic tokens."""
    config = TransformerConfig(width=16, depth=1, heads=2, feedforward=16, embedding_width=8)
    values = (
        semantic_stage(UNITS, crop_seconds=0.8),
        replace(coarse_stage(UNITS, COARSE, SIZE, crop_seconds=0.4), semantic_optional=True),
        replace(fine_stage(UNITS, BOOKS, COARSE, SIZE, crop_seconds=0.2), semantic_optional=True),
    )
    return with_opinions(values, config, torch.Generator().manual_seed(0))


@given(st.integers(0, 500), st.integers(1, 30), st.integers(1, 60))
def test_stretches_add_up_and_never_shrink_but_for_the_last(cuts, first, most):
    lengths = list(stretches(cuts, first, most))
    assert sum(lengths) == cuts and all(1 <= length <= most for length in lengths)
    assert all(a <= b <= 2 * a for a, b in pairwise(lengths[:-1]))
    assert not lengths or lengths[0] == min(first, most, cuts)


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.0, 1.23])
def test_chunks_put_together_are_the_whole(seconds):
    generation = going_on(seconds, seeds=(3, 4))
    chunks = list(generation.stream())
    whole = generation.run()
    assert torch.equal(torch.cat([chunk.wave for chunk in chunks], dim=1), whole.wave)
    assert torch.equal(torch.cat([chunk.tokens.codes for chunk in chunks], dim=-1), whole.tokens.codes)
    assert torch.equal(torch.cat([chunk.tokens.semantic for chunk in chunks], dim=-1), whole.tokens.semantic)
    fade = round(0.02 * 16_000)
    assert torch.equal(chunks[0].wave, PROMPT[:, :-fade].expand(2, -1))


def test_the_first_sound_comes_before_the_rest_is_made():
    """When the first chunk is out, the stages have gone no further than half a second."""
    told: dict[str, int] = {}
    models = models_of(codec=StreamingCodec())
    generation = going_on(3.0, models=models, on_progress=lambda name, done, total: told.update({name: done}))
    chunks = generation.stream()
    next(chunks)
    assert not told
    first = next(chunks)
    assert first.samples[0] > 0 and told == {"semantic": 5, "coarse": 10, "fine": 10}


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_a_streaming_codec_gives_what_it_gives_in_one_piece(pair):
    codec = tiny.make_codec(pair)
    wave, wanted = tiny.waves(1, 2.0)[0], 16_000
    codes = codec.encode(wave[None])[0]
    heard = codes[:, :50]
    stream = WaveStream(codec, wave[:16_000], heard, wanted)
    pieces = [stream.decode(codes[:, 50 + start : 50 + start + 7]) for start in range(0, 50, 7)]
    made = torch.cat([*pieces, stream.flush()])
    decoded = codec.decode(codes[None])[0]
    assert made.shape == (stream.fade_samples + wanted,)
    torch.testing.assert_close(made[stream.fade_samples :], decoded[16_000:], rtol=0, atol=1e-4)
    seam = made[: stream.fade_samples]
    ours, theirs = wave[16_000 - seam.shape[0] : 16_000], decoded[16_000 - seam.shape[0] : 16_000]
    assert abs(seam[0] - ours[0]) < 1e-3 and abs(seam[-1] - theirs[-1]) < 1e-3
    low, high = torch.minimum(ours, theirs) - 1e-4, torch.maximum(ours, theirs) + 1e-4
    assert bool(((seam >= low) & (seam <= high)).all())


def test_a_codec_that_does_not_stream_is_heard_at_the_end():
    wave, codes = torch.full((960,), 0.5), torch.full((BOOKS, 3), 4)
    stream = WaveStream(FakeCodec(), wave, codes, 700)
    assert stream.decode(codes).shape == (0,)
    rest = stream.flush()
    assert rest.shape == (320 + 700,) and torch.allclose(rest, torch.full_like(rest, 0.5))


@pytest.mark.parametrize("deduplicate", [False, True])
def test_asking_for_semantic_tokens_in_steps_changes_nothing(deduplicate):
    stages = make_stages(deduplicate)
    prompt = FakeSemantic().encode(PROMPT)[0]

    def source():
        return Continued(stages.semantic, prompt, 60, FREE.semantic, (1, 2), stop_at_end=True)

    steps, once = source(), source()
    for count in (1, 7, 30, 31):
        partly, lengths = steps.up_to(count)
        assert partly.shape == (2, count) and max(lengths) <= count
    tokens, lengths = steps.up_to(60)
    assert torch.equal(tokens, once.up_to(60)[0]) and lengths == once.up_to(60)[1]
    assert torch.equal(tokens[:, :31], partly) or not all(steps.ended)


def test_sound_is_made_of_nothing():
    models = models_of()
    made = Generation(models, no_prompt(models), 0.7, Settings((5, 6), FREE)).run()
    assert made.wave.shape == (2, 11_200) and made.prompt_seconds == 0 and made.offset_samples == 0
    assert made.tokens.codes.shape == (2, BOOKS, 36) and made.tokens.prompt_frames == 0
    assert not torch.equal(made.tokens.semantic[0], made.tokens.semantic[1])


def test_a_recordings_content_is_said_again_without_its_codes():
    models = models_of()
    heard = tokenize_prompt(models, PROMPT)
    made = Generation(models, no_prompt(models), 0.8, Settings((5, 6), FREE), heard.semantic).run()
    assert torch.equal(made.tokens.semantic, heard.semantic[None, :20].expand(2, -1))
    assert not torch.equal(made.tokens.codes[0], made.tokens.codes[1])
    with pytest.raises(SegueError, match="the recording has 1 s of whole frames"):
        Generation(models, no_prompt(models), 1.01, Settings(), heard.semantic)


def test_each_system_knows_what_its_name_says():
    """Other codes in the prompt change nothing for semantic-only, other semantic tokens nothing for acoustic-only."""
    models = models_of(optional_stages())
    prompt = tokenize_prompt(models, PROMPT)
    changed = {
        "codes": replace(prompt, codes=(prompt.codes + 1) % SIZE),
        "semantic": replace(prompt, semantic=(prompt.semantic + 1) % UNITS),
    }

    def new_codes(system, prompt):
        made = Generation(models, prompt, 0.6, Settings(sampling=FREE, system=system)).run()
        return made.tokens.codes[..., prompt.codes.shape[1] :]

    for system, deaf_to in (("full", ()), ("semantic-only", ("codes",)), ("acoustic-only", ("semantic",))):
        usual = new_codes(system, prompt)
        for name, other in changed.items():
            assert torch.equal(usual, new_codes(system, other)) == (name in deaf_to), (system, name)


def parallel_models(optional: bool = False) -> Models:
    stage = replace(acoustic_stage(UNITS, BOOKS, SIZE, crop_seconds=0.48), semantic_optional=optional)
    config = ParallelConfig(width=16, depth=1, heads=2, feedforward=1, conv_width=3, embedding_width=8)
    model = ParallelModel(stage, config, torch.Generator().manual_seed(0)).eval()
    model.heads.data *= 20  # so that contexts matter
    return replace(models_of(codec=StreamingCodec()), parallel=model)


@pytest.mark.parametrize("system", ["full", "semantic-only", "acoustic-only"])
def test_the_parallel_decoder_stands_in_for_coarse_and_fine_stage(system):
    models = parallel_models(optional=True)
    settings = {"seeds": (3, 4), "decoder": "parallel", "iterations": 3, "system": system}
    generation = going_on(0.9, models=models, **settings)
    chunks, whole = list(generation.stream()), generation.run()
    assert torch.equal(torch.cat([chunk.wave for chunk in chunks], dim=1), whole.wave)
    alone = going_on(0.9, models=models, **{**settings, "seeds": (4,)}).run()
    assert torch.equal(alone.tokens.codes[0], whole.tokens.codes[1])
    stages = going_on(0.9, models=models, seeds=(3, 4)).run()
    assert torch.equal(stages.tokens.semantic, whole.tokens.semantic) == (system != "acoustic-only")
    assert not torch.equal(stages.tokens.codes, whole.tokens.codes)


def test_a_decoder_that_is_not_there_is_refused():
    with pytest.raises(SegueError, match="this bundle has none"):
        going_on(decoder="parallel").run()
    with pytest.raises(SegueError, match="decoder 'both'"):
        Settings(decoder="both")
    with pytest.raises(SegueError, match="never trained without semantic tokens"):
        going_on(models=parallel_models(), decoder="parallel", system="acoustic-only").run()


def test_a_stage_that_never_went_without_semantic_tokens_says_so():
    with pytest.raises(SegueError, match="never trained without semantic tokens"):
        going_on(system="acoustic-only").run()
    with pytest.raises(SegueError, match="system 'none'"):
        Settings(system="none")


def test_acoustic_rows_do_not_mind_their_company():
    stages = make_stages()
    semantic = torch.randint(0, UNITS, (3, 30), generator=torch.Generator().manual_seed(1))
    codes = torch.zeros(3, BOOKS, 20).long()
    together = Autoregressive(stages, FREE, (7, 8, 9)).extend(semantic, codes, 20, (0, 1, 2))
    alone = Autoregressive(stages, FREE, (7, 8, 9)).extend(semantic[1:2], codes[1:2], 20, (1,))
    assert torch.equal(together[1:2], alone)


def test_memory_does_not_grow_with_what_is_made():
    """Between the second and the last chunk of a long sound, no more is kept than the tokens of the semantic stage."""
    models = models_of(codec=StreamingCodec())
    generation = Generation(models, no_prompt(models), 40.0, Settings(sampling=FREE))
    sizes = []
    tracemalloc.start()
    for chunk in generation.stream():
        assert chunk.tokens.codes.shape[-1] <= 20
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-2] - sizes[len(sizes) // 2] < 200_000


def test_recorded_tokens_are_the_same_for_all():
    source = Recorded(torch.arange(5), 2)
    tokens, lengths = source.up_to(3)
    assert tokens.tolist() == [[0, 1, 2], [0, 1, 2]] and lengths == [3, 3] and source.ended == (False, False)


def test_repetition_counts_what_was_said_before():
    varied, loop, lasting = Repetition(2), Repetition(2), Repetition(2)
    varied.add(torch.arange(50))
    loop.add(torch.tensor([1, 2, 3]).repeat(20))
    lasting.add(torch.arange(50).repeat_interleave(3))
    assert varied.share == 0 and lasting.share == 0 and Repetition().share == 0
    assert loop.share == pytest.approx(1 - 3 / 59)
    in_parts = Repetition(2)
    for part in torch.tensor([1, 2, 3]).repeat(20).split(7):
        in_parts.add(part)
    assert in_parts.share == loop.share


@pytest.mark.parametrize("frames", [4, 10, 14, 20])
def test_fine_windows_made_at_once_are_those_made_one_by_one(frames):
    """Crops of 0.2 s are 10 frames: 14 frames are windows of 8 and 6, 20 are two of 10."""
    stages = make_stages()
    semantic = torch.randint(0, UNITS, (2, 20), generator=torch.Generator().manual_seed(1))
    codes = torch.randint(0, SIZE, (2, BOOKS, 6), generator=torch.Generator().manual_seed(2))
    made = Autoregressive(stages, FREE, (7, 8)).extend(semantic, codes, frames, (0, 1))
    assert made.shape == (2, BOOKS, frames)
    coarse, fine = made[:, :COARSE], made[:, COARSE:]
    draws = uniforms([rng_of(seed, "fine") for seed in (7, 8)], frames * (BOOKS - COARSE))
    sizes = {4: [4], 10: [10], 14: [8, 6], 20: [10, 10]}[frames]
    runner, first = StageRunner(stages.fine, FREE.fine), 0
    for size in sizes:
        prefix = {
            "semantic": semantic[:, None, (6 + first) // 2 :][..., : size // 2],
            "coarse": coarse[..., first : first + size],
        }
        cells = draws[:, first * (BOOKS - COARSE) :][:, : size * (BOOKS - COARSE)]
        alone = runner.run(prefix, torch.zeros(2, BOOKS - COARSE, 0).long(), size, cells).tokens
        assert torch.equal(alone, fine[..., first : first + size])
        first += size
