"""Filling in all codes at once: prompts untouched, rows by their seeds, stretches as the whole, bad input refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from segue.errors import SegueError
from segue.generate.acoustic import AcousticDecoder
from segue.generate.parallel import Filling, Parallel
from segue.generate.sampling import Sampling
from segue.lm.parallel import ParallelConfig, ParallelModel
from segue.lm.stage import Stage, Stream, acoustic_stage

UNITS, BOOKS, SIZE = 6, 5, 8
CONFIG = ParallelConfig(width=16, depth=2, heads=2, feedforward=1, conv_width=3, embedding_width=8)
FEW = Filling((4, 2, 1), single=Sampling(1.0))


def make(stage: Stage | None = None) -> ParallelModel:
    model = ParallelModel(stage or acoustic_stage(UNITS, BOOKS, SIZE, crop_seconds=0.48), CONFIG, rng(0)).eval()
    model.heads.data *= 20  # so that contexts matter
    return model


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(rows: int, known: int, total: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Semantic tokens (rows, enough for `total`) and codes (rows, Q, known)."""
    draw = rng(seed)
    semantic = torch.randint(0, UNITS, (rows, -(-total // 2)), generator=draw)
    return semantic, torch.randint(0, SIZE, (rows, BOOKS, known), generator=draw)


@pytest.fixture(scope="module")
def model() -> ParallelModel:
    return make()


@pytest.mark.parametrize("known", [0, 1, 2, 7, 12, 41])
@pytest.mark.parametrize("frames", [1, 5, 12, 40])
def test_what_was_known_is_seen_and_stays_and_all_else_is_filled(model, known, frames):
    semantic, codes = given(2, known, known + frames)
    before = codes.clone()
    made = Parallel(model, [3, 4], FEW).extend(semantic, codes, frames)
    assert made.shape == (2, BOOKS, frames) and made.dtype == torch.int64
    assert made.min() >= 0 and made.max() < SIZE  # no "masked" is left
    assert torch.equal(codes, before)


def test_it_is_an_acoustic_decoder_that_looks_no_further_than_a_crop(model):
    decoder: AcousticDecoder = Parallel(model, [0])
    assert (decoder.most_frames, decoder.context_frames) == (12, 12)
    narrow = Parallel(model, [0], window_frames=9)
    assert (narrow.most_frames, narrow.context_frames) == (4, 4)
    semantic, codes = given(1, 30, 42)
    far = Parallel(model, [5], FEW).extend(semantic, codes, 12)
    near = Parallel(model, [5], FEW).extend(semantic[:, 9:], codes[..., 18:], 12)
    assert torch.equal(far, near)


def test_a_row_depends_on_its_own_seed_alone(model):
    semantic, codes = given(3, 7, 30)
    whole = Parallel(model, [1, 2, 3], FEW).extend(semantic, codes, 23)
    for row in range(3):
        alone = Parallel(model, [row + 1], FEW).extend(semantic[row : row + 1], codes[row : row + 1], 23)
        assert torch.equal(alone[0], whole[row])
    again = Parallel(model, [1, 2, 3], FEW).extend(semantic, codes, 23)
    assert torch.equal(whole, again)
    other = Parallel(model, [1, 9, 3], FEW).extend(semantic, codes, 23)
    assert torch.equal(other[[0, 2]], whole[[0, 2]]) and not torch.equal(other[1], whole[1])


def test_rows_that_have_ended_leave_the_others_as_they_are(model):
    semantic, codes = given(2, 8, 32)
    both = Parallel(model, [1, 2], FEW)
    first = both.extend(semantic[:, :10], codes, 12)
    rest = both.extend(semantic[1:], torch.cat([codes, first], dim=2)[1:], 12, rows=[1])
    whole = Parallel(model, [1, 2], FEW).extend(semantic, codes, 24)
    assert torch.equal(torch.cat([first[1:], rest], dim=2), whole[1:])


@pytest.mark.parametrize("known", [0, 6, 9])
def test_stretches_are_the_whole(model, known):
    semantic, codes = given(2, known, known + 36)
    whole = Parallel(model, [1, 2], FEW).extend(semantic, codes, 36)
    decoder, have = Parallel(model, [1, 2], FEW), codes
    for _ in range(3):
        until = -(-(have.shape[-1] + decoder.most_frames) // 2)
        have = torch.cat([have, decoder.extend(semantic[:, :until], have, decoder.most_frames)], dim=2)
    assert torch.equal(have[..., known:], whole)


def test_the_global_generator_has_no_say(model):
    semantic, codes = given(1, 4, 16)
    first = Parallel(model, [1], FEW).extend(semantic, codes, 12)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert torch.equal(first, Parallel(model, [1], FEW).extend(semantic, codes, 12))


def test_the_likeliest_need_no_luck(model):
    semantic, codes = given(1, 4, 16)
    sure = Filling((1,), single=Sampling(0.0))
    made = [Parallel(model, [seed], sure).extend(semantic, codes, 12) for seed in (1, 2)]
    assert torch.equal(*made)


def test_every_number_of_iterations_costs_as_many_passes(model):
    semantic, codes = given(1, 4, 16)
    for iterations, passes in (((1,), 5), ((16, 1), 12 + 4), ((4, 2, 1), 9)):
        calls = []
        handle = model.blocks[0].register_forward_hook(lambda *call, calls=calls: calls.append(1))
        Parallel(model, [1], Filling(iterations)).extend(semantic, codes, 12)
        handle.remove()
        assert len(calls) == passes  # 12 frames can't take 16 rounds


def test_the_prompt_and_the_semantic_tokens_matter(model):
    semantic, codes = given(1, 12, 24)
    first = Parallel(model, [1], FEW).extend(semantic, codes, 12)
    assert not torch.equal(first, Parallel(model, [1], FEW).extend(semantic, (codes + 1) % SIZE, 12))
    assert not torch.equal(first, Parallel(model, [1], FEW).extend((semantic + 1) % UNITS, codes, 12))


@pytest.mark.parametrize(("unit_ratio", "code_ratio"), [(1, 1), (3, 1), (1, 2), (1, 4)])
def test_other_frame_rates(unit_ratio, code_ratio):
    """Codes faster than semantic tokens, as fast, and slower."""
    units, books = Stream("semantic", 0, 1, UNITS, unit_ratio), Stream("acoustic", 0, BOOKS, SIZE, code_ratio)
    model = make(Stage("acoustic", (units,), books, 50.0, unit_ratio * code_ratio, 0.48))
    decoder = Parallel(model, [1, 2], FEW)
    cut = unit_ratio
    known, frames = 4 * cut, 7 * cut
    semantic = torch.randint(0, UNITS, (2, (known + frames) * code_ratio // unit_ratio), generator=rng(0))
    codes = torch.randint(0, SIZE, (2, BOOKS, known), generator=rng(1))
    made = decoder.extend(semantic, codes, frames)
    assert made.shape == (2, BOOKS, frames) and made.max() < SIZE
    last = semantic.clone()
    last[:, -1] = (last[:, -1] + 1) % UNITS  # the last frame's own, whatever the rates
    assert not torch.equal(made, Parallel(model, [1, 2], FEW).extend(last, codes, frames))


def test_without_semantic_tokens(model):
    semantic, codes = given(2, 4, 16)
    with pytest.raises(SegueError, match="never trained without"):
        Parallel(model, [1, 2], FEW).extend(semantic[:, :0], codes, 12)
    able = make(replace(model.stage, semantic_optional=True))
    made = Parallel(able, [1, 2], FEW).extend(semantic[:, :0], codes, 12)
    assert made.shape == (2, BOOKS, 12) and made.max() < SIZE


@pytest.mark.parametrize(
    ("change", "about"),
    [
        (lambda s, c: (s, c[:, :3], 12), "codes"),
        (lambda s, c: (s, c[0], 12), "codes"),
        (lambda s, c: (s, c[:1], 12), "codes"),
        (lambda s, c: (s, c + SIZE, 12), "only 0 to 7 exist"),
        (lambda s, c: (s, c - SIZE, 12), "only 0 to 7 exist"),
        (lambda s, c: (s[:, :7], c, 12), "at least 8"),
        (lambda s, c: (s[:, None], c, 12), "semantic tokens"),
        (lambda s, c: (s + UNITS, c, 12), "only 0 to 5 exist"),
        (lambda s, c: (s, c, 0), "frames 0"),
    ],
)
def test_what_does_not_fit_is_refused(model, change, about):
    with pytest.raises(SegueError, match=about):
        Parallel(model, [1, 2], FEW).extend(*change(*given(2, 4, 16)))


def test_settings_out_of_range_are_refused(model):
    for iterations in ((), (0,), (4, 0)):
        with pytest.raises(SegueError, match="iterations"):
            Filling(iterations)
    with pytest.raises(SegueError, match="iterations"):
        Parallel(model, [0], Filling((1,) * (BOOKS + 1)))
    with pytest.raises(SegueError, match="noise"):
        Filling(noise=-1.0)
    with pytest.raises(SegueError, match="window_frames 3"):
        Parallel(model, [0], window_frames=3)
    with pytest.raises(SegueError, match=r"new_share 1\.0"):
        Parallel(model, [0], new_share=1.0)


def test_damaged_weights_are_noticed():
    broken = make()
    broken.bias.data[0] = float("nan")
    with pytest.raises(SegueError, match="not finite"):
        Parallel(broken, [0], FEW).extend(*given(1, 4, 16), 12)


def test_no_codebook_is_drawn_more_freely_than_asked():
    asked = Filling.asked(4, Sampling(0.0, top_k=3))
    assert asked.iterations == (4, 1) and asked.single == asked.sampling == Sampling(0.0, top_k=3)
    assert Filling.asked(4, Sampling(1.3)).single == Sampling(0.8)
