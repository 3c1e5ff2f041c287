"""Guidance: against whole passes of the model, what is left out when it is asked bare, and who may ask for how much."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from segue.errors import SegueError
from segue.generate.manner import Manner
from segue.generate.run_stage import StageRunner
from segue.generate.sampling import Sampling, choose
from segue.generate.stages import StageSampling
from segue.lm.model import StageModel
from segue.lm.stage import Stage, coarse_stage
from segue.lm.transformer import TransformerConfig

UNITS, BOOKS, SIZE = 6, 2, 8
LIKELIEST = Sampling(0.0)
ENGINE = ("torch", "float32")


def model_of(optional: bool = True, deduplicate: bool = False) -> StageModel:
    stage: Stage = coarse_stage(UNITS, BOOKS, SIZE, crop_seconds=0.8, deduplicate=deduplicate)
    config = TransformerConfig(
        width=16, depth=1, heads=2, feedforward=16, embedding_width=8, positions="index" if deduplicate else "time"
    )
    model = StageModel(replace(stage, semantic_optional=optional), config, torch.Generator().manual_seed(0)).eval()
    model.transformer.embed_down.weight.data *= 20  # so that contexts matter
    return model


def semantic(rows: int = 2, frames: int = 20) -> torch.Tensor:
    return torch.randint(UNITS, (rows, 1, frames), generator=torch.Generator().manual_seed(1))


def known(rows: int = 2, frames: int = 10) -> torch.Tensor:
    return torch.randint(SIZE, (rows, BOOKS, frames), generator=torch.Generator().manual_seed(2))


def made(model, prompt, guidance, total=30, units=None, draws=None, sampling=LIKELIEST, window=None) -> torch.Tensor:
    runner = StageRunner(model, sampling, engine=ENGINE, guidance=guidance)
    draws = (
        torch.rand(len(prompt), BOOKS * total, generator=torch.Generator().manual_seed(3)) if draws is None else draws
    )
    units = semantic(len(prompt)) if units is None else units
    return runner.run({"semantic": units}, prompt, total, draws, window_frames=window).tokens


@torch.inference_mode()
def asked(model: StageModel, units: torch.Tensor, codes: torch.Tensor, slot: int, ahead: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of what follows, by one pass over everything; units (1, T), codes (Q, T), ahead (n,) done."""
    first, count = model.layout.slot(slot)
    tokens, positions = model.layout.read([units], codes)
    more = model.layout.ahead(codes.shape[-1], 1, len(tokens))
    tokens = torch.cat([tokens, ahead])
    positions = torch.cat([positions, more[: len(ahead)]])
    hidden = model.transformer(tokens[None], positions[None])[0, -1:]
    return model.transformer.logits(hidden, first, count).log_softmax(-1)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("deduplicate", [False, True])
def test_each_token_is_what_two_whole_passes_say(guidance, deduplicate):
    model, prompt, units = model_of(deduplicate=deduplicate), known(), semantic()
    got = made(model, prompt, guidance, total=16)
    for row in range(2):
        heard = torch.unique_consecutive(units[row, 0, :8])[None] if deduplicate else units[row, :, :8]
        for frame in range(10, 16):
            for slot in range(BOOKS):
                ahead = torch.tensor(
                    [int(got[row, q, frame]) + model.layout.slot(q)[0] for q in range(slot)], dtype=torch.int64
                )
                told = asked(model, heard, got[row, :, :frame], slot, ahead)
                bare = asked(model, units[row, :, :0], got[row, :, 10:frame], slot, ahead)
                both = bare + guidance * (told - bare)
                best, mine = both.max(), both[0, got[row, slot, frame]]
                assert mine == pytest.approx(float(best), abs=1e-3), (row, frame, slot)


def test_guidance_of_one_is_none_and_others_differ():
    model, prompt = model_of(), known()
    plain = StageRunner(model, LIKELIEST, engine=ENGINE).run({"semantic": semantic()}, prompt, 30, torch.zeros(2, 60))
    assert torch.equal(plain.tokens, made(model, prompt, 1.0))
    assert not torch.equal(plain.tokens, made(model, prompt, 4.0))


def test_what_cannot_be_left_out_is_kept_and_where_nothing_can_there_is_none():
    nothing, units = known(frames=0), semantic()
    must = model_of(optional=False)
    assert torch.equal(made(must, nothing, 5.0), made(must, nothing, 1.0))  # no prompt, and units it can't do without
    assert not torch.equal(made(must, known(), 5.0), made(must, known(), 1.0))  # the prompt alone is left out
    may = model_of()
    assert not torch.equal(made(may, nothing, 5.0), made(may, nothing, 1.0))
    alone = made(may, nothing, 5.0, units=units[..., :0])
    assert torch.equal(alone, made(may, nothing, 1.0, units=units[..., :0]))


def test_at_zero_nothing_that_is_told_matters():
    model, codes = model_of(), known()
    other = semantic().flip(-1)
    first, second = made(model, codes, 0.0), made(model, codes.flip(-1), 0.0, units=other)
    assert torch.equal(first[..., 10:], second[..., 10:])


@pytest.mark.parametrize("window", [None, 14])
def test_rows_do_not_depend_on_each_other_and_windows_slide(window):
    model, prompt, units = model_of(), known(3), semantic(3, 40)
    draws = torch.rand(3, 2 * 60, generator=torch.Generator().manual_seed(4))
    free = {"sampling": Sampling(1.0), "window": window, "total": 60}
    together = made(model, prompt, 2.5, units=units, draws=draws, **free)
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.equal(together[one], made(model, prompt[one], 2.5, units=units[one], draws=draws[one], **free))


def test_the_native_engine_makes_the_same(monkeypatch):
    from segue.lm.native.build import library

    if library()[0] is None:
        pytest.skip("no C++ compiler")
    model, draws = model_of(), torch.rand(2, 60, generator=torch.Generator().manual_seed(5))
    tokens = []
    for engine in ("torch", "native"):
        runner = StageRunner(model, Sampling(1.0), engine=(engine, "float32"), guidance=3.0)
        tokens.append(runner.run({"semantic": semantic()}, known(), 30, draws).tokens)
    assert torch.equal(*tokens)


def test_a_continuation_made_in_pieces_is_the_whole(bundle):
    wave = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    whole = bundle.continue_audio(wave, 16_000, 1.0, guidance=3.0).wave
    pieces = [chunk.wave for chunk in bundle.continuation(wave, 16_000, 1.0, guidance=3.0).stream()]
    assert torch.allclose(torch.cat(pieces, dim=-1), whole[..., -sum(piece.shape[-1] for piece in pieces) :], atol=1e-5)
    assert not torch.equal(whole, bundle.continue_audio(wave, 16_000, 1.0).wave)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_guidance_that_cannot_be_is_refused(bundle, wrong):
    with pytest.raises(SegueError, match=f"guidance {wrong}"):
        StageSampling(guidance=wrong)
    with pytest.raises(SegueError, match="guidance"):
        bundle.continue_audio(torch.randn(16_000) / 10, 16_000, 0.4, guidance=wrong)


def test_a_bundle_says_how_it_is_guided():
    assert Manner.read({}, "b", False) == Manner() and Manner().guidance == 1.0
    described = Manner((1.0, 0.5, 0.0), 3.0, "parallel")
    assert Manner.read(described.told(), "b", True) == described
    for wrong in ({"guidance": -1}, {"guidance": "3"}, {"temperature": [1.0, 1.0]}, {"decoder": "both"}):
        with pytest.raises(SegueError, match=f"^b: {next(iter(wrong))}"):
            Manner.read(wrong, "b", True)
    with pytest.raises(SegueError, match="parallel where there is one"):
        Manner.read({"decoder": "parallel"}, "b", False)


def test_logits_are_compared_with_their_likes():
    """A draw inverts the same distribution whatever constant a row of logits has."""
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(6))
    uniform = torch.tensor([[0.3]])
    assert torch.equal(choose(logits, Sampling(1.0), uniform), choose(logits.log_softmax(-1), Sampling(1.0), uniform))
