"""The parallel decoder's model and its training: padding, artifacts, and that it learns, resumes and reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from segue.artifact import Part, load_part, save_part
from segue.data.store import StoreHeader, TokenStore
from segue.data.token_batches import TokenBatches
from segue.errors import SegueError
from segue.generate.parallel import Filling, Parallel
from segue.generate.sampling import Sampling
from segue.lm.masking import draw_masks
from segue.lm.parallel import FrameBatch, FrameLayout, ParallelConfig, ParallelModel
from segue.lm.stage import Stage, Stream, acoustic_stage, coarse_stage, fine_stage
from segue.recipes import paper
from segue.train import state
from segue.train.fabric import alone
from segue.train.parallel import ParallelTraining

UNITS, BOOKS = 6, 3
STAGE = acoustic_stage(UNITS, BOOKS, UNITS, crop_seconds=0.24)
CONFIG = ParallelConfig(width=32, depth=2, heads=2, feedforward=1, conv_width=3, embedding_width=16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def copies(step: int, rows: int = 16) -> FrameBatch:
    """Level q says the semantic token of its instant, plus q; rows are of unequal length."""
    rng, layout, made = seeded(step), FrameLayout(STAGE), []
    for row in range(rows):
        semantic = torch.randint(0, UNITS, (1, 6 - row % 3), generator=rng)
        codes = (semantic.repeat_interleave(2, dim=1) + torch.arange(BOOKS)[:, None]) % UNITS
        made.append(layout.train([semantic], codes[:, : codes.shape[1] - row % 2], False))
    return layout.pad(made)


def a_training(ema: float = 0.9, dropout: float = 0.1, **options) -> ParallelTraining:
    model = ParallelModel(STAGE, replace(CONFIG, dropout=dropout), seeded())
    return ParallelTraining(model, {"codec": "x"}, ema_decay=ema, **options)


def run(training: ParallelTraining, steps, rate: float = 3e-3) -> list[float]:
    return [training.step(copies(step), seeded(step), rate)["loss"] for step in steps]


def test_it_learns_what_there_is_to_learn():
    training = a_training(dropout=0.0)
    for step in range(120):
        training.step(copies(step), seeded(step), 1e-2 * min(1, (step + 1) / 20) * (1 - 0.9 * step / 120))
    losses = training.validate(copies(999), seeded())
    assert losses["loss"] < 0.1 and all(losses[f"loss_{level}"] < 0.2 for level in range(BOOKS))
    semantic = torch.randint(0, UNITS, (8, 20), generator=seeded(5))
    wanted = (semantic.repeat_interleave(2, dim=1)[:, None] + torch.arange(BOOKS)[:, None]) % UNITS
    filling = Filling((4, 1), sampling=Sampling(0.2))
    made = Parallel(training.model.eval(), range(8), filling).extend(semantic, wanted[..., :5], 35)
    assert (made == wanted[..., 5:]).float().mean() > 0.95


def test_a_row_is_read_alone_as_in_a_batch():
    model, batch = ParallelModel(STAGE, CONFIG, seeded()).eval(), copies(0)
    frames = batch.codes.shape[2]
    valid = torch.arange(frames) < batch.lengths[:, None]
    together = model(batch.semantic, batch.codes, valid)
    for row in (1, 2, 5):
        length = int(batch.lengths[row])
        alone = model(batch.semantic[row, None, : -(-length // 2)], batch.codes[row, None, :, :length])
        assert torch.allclose(alone[0], together[row, :length], atol=1e-5)


def a_store(semantic_rate: float = 25.0, codec_rate: float = 50.0) -> TokenStore:
    """Clips of unequal length whose codes are their own frame's number."""
    header = StoreHeader("s", "c", UNITS, BOOKS, 64, semantic_rate, codec_rate)
    frames = [7, 12, 31]
    units = [np.arange(header.semantic_frames(n)) % UNITS for n in frames]
    codes = [np.arange(n)[:, None] + np.arange(BOOKS) for n in frames]
    return TokenStore(header, [{"seconds": n / codec_rate} for n in frames], units, codes)


@pytest.mark.parametrize("rates", [(25.0, 50.0), (25.0, 75.0), (25.0, 12.5), (50.0, 50.0)])
def test_a_store_gives_frames_and_the_semantic_tokens_of_their_instant(rates):
    stage = acoustic_stage(UNITS, BOOKS, 64, *rates, crop_seconds=0.24)
    layout, (semantic_rate, codec_rate) = FrameLayout(stage), rates
    batches = TokenBatches(a_store(*rates), layout, 0, 6)
    for step in range(5):
        batch = batches.batch(step)
        assert batch.codes.shape[2] == batch.lengths.max() <= round(0.24 * codec_rate)
        said = layout.aligned(batch.semantic, batch.codes.shape[2])
        for row, length in enumerate(batch.lengths.tolist()):
            first = batch.codes[row, 0, :length]
            assert torch.equal(batch.codes[row, 2, :length], first + 2)
            a_frame = max(1, round(semantic_rate / codec_rate))
            for part in range(a_frame):
                token = (first * a_frame + part) * semantic_rate // (codec_rate * a_frame)
                assert torch.equal(said[row, :length, part], token.long() % UNITS)
        assert torch.equal(batches.batch(step, slice(2, 4)).codes, batch.codes[2:4, :, : batch.lengths[2:4].max()])


def test_rows_without_semantic_tokens_have_a_token_for_none():
    layout = FrameLayout(acoustic_stage(UNITS, BOOKS, 64, crop_seconds=0.24))
    assert (TokenBatches(a_store(), layout, 0, 4, without_semantic=1.0).batch(0).semantic == UNITS).all()
    some = TokenBatches(a_store(), layout, 0, 400, without_semantic=0.25).batch(0).semantic[:, 0] == UNITS
    assert 0.15 < some.float().mean() < 0.35


def test_what_is_hidden_is_what_was_drawn_and_nothing_of_it_is_seen():
    training, batch = ParallelTraining(ParallelModel(STAGE, CONFIG, seeded()), {}), copies(0)
    draws = draw_masks(16, 12, BOOKS, 0.0, seeded())
    asked = training._questions(batch, draws)
    masked = asked.seen == training.model.mask
    assert torch.equal(masked[torch.arange(16), draws.levels], asked.asked)
    assert torch.equal(asked.answers, batch.codes[torch.arange(16), draws.levels])
    assert torch.equal(asked.seen[~masked], batch.codes[~masked])
    other = replace(batch, codes=torch.where(masked, (batch.codes + 1) % UNITS, batch.codes))
    again = training._questions(other, draws)
    assert torch.equal(again.seen, asked.seen) and not torch.equal(again.answers, asked.answers)


def test_a_resumed_training_is_the_same_training(tmp_path):
    whole, first, second = (a_training() for _ in range(3))
    run(whole, range(6))
    run(first, range(3))
    state.save(tmp_path, 3, {"training": first.state_dict()})
    second.load_state_dict(state.load_newest(tmp_path)[1]["training"])
    run(second, range(3, 6))
    assert whole.export({}).fingerprint == second.export({}).fingerprint
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])


def test_a_batch_in_parts_is_the_batch():
    one, parts = a_training(dropout=0.0), a_training(dropout=0.0, accumulate=4)
    assert run(parts, range(4)) == pytest.approx(run(one, range(4)), abs=1e-5)
    found, wanted = (training.validate(copies(9), seeded()) for training in (parts, one))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_validation_asks_every_level_however_few_rows_there_are():
    losses = a_training().validate(copies(0, rows=2), seeded())
    assert set(losses) == {"loss", "loss_0", "loss_1", "loss_2"} and next(iter(losses)) == "loss"
    assert all(0.5 < value < 4 for value in losses.values())


def test_the_average_is_what_is_kept():
    training, plain = a_training(), a_training(ema=0)
    for made in (training, plain):
        run([made][0], range(3), 1e-2)
    table = training.model.table
    assert not torch.allclose(training.export({}).tensors["table"].float(), table, atol=1e-3)
    assert torch.allclose(plain.export({}).tensors["table"].float(), plain.model.table, atol=1e-3)
    assert training.amount(copies(0)) == (float(copies(0).lengths.sum()), 16 * 12.0)


def test_bfloat16_learns_as_float32_does():
    losses = {}
    for precision in ("float32", "bfloat16"):
        losses[precision] = run(a_training(dropout=0.0, world=alone(precision=precision)), [0] * 8)
    assert losses["bfloat16"][-1] < losses["bfloat16"][0] - 0.1
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.05)


def test_an_artifact_gives_back_the_model(tmp_path):
    training = a_training()
    run(training, range(2))
    save_part(training.export({"hours": 1}), tmp_path / "part")
    part = load_part(tmp_path / "part", "parallel")
    assert part.requires == {"codec": "x"} and part.kind == "parallel"
    assert all(tensor.dtype == torch.float16 for tensor in part.tensors.values())
    model = ParallelModel.from_part(part)
    assert model.stage == STAGE and model.config.width == 32 and model.card == {"hours": 1} and not model.training
    assert model.to_part(model.requires, model.card).fingerprint == part.fingerprint


def test_what_is_no_such_artifact_is_refused():
    part = a_training().export({})
    with pytest.raises(SegueError, match="describes no parallel decoder"):
        ParallelModel.from_part(replace(part, kind="stage"))
    with pytest.raises(SegueError, match="don't fit the config"):
        ParallelModel.from_part(Part(part.kind, part.config, {"table": part.tensors["table"]}))


def test_tables_start_from_the_codes_own_vectors():
    books = torch.randn(BOOKS, UNITS, 4, generator=seeded())
    books[1, 3] = books[1, 2] + 0.01
    model = ParallelModel(STAGE, CONFIG, seeded())
    mask = model.table[:, -1].clone()
    model.start_from(books, seeded(1))
    apart = torch.cdist(model.table[1, :-1], model.table[1, :-1]) + 9 * torch.eye(UNITS)
    assert apart.argmin() in (2 * UNITS + 3, 3 * UNITS + 2)
    assert torch.equal(model.table[:, -1], mask)


def test_stages_that_can_not_be_filled_in_parallel_are_refused():
    for stage in (coarse_stage(UNITS, 2, UNITS, deduplicate=True), fine_stage(UNITS, 5, 2, UNITS)):
        with pytest.raises(SegueError, match="parallel decoding"):
            ParallelModel(stage, CONFIG)
    late = Stage("acoustic", STAGE.prefix, Stream("acoustic", 1, 2, UNITS, 1), 50.0, 2, 0.24)
    with pytest.raises(SegueError, match="first codebook"):
        ParallelModel(late, CONFIG)


@pytest.mark.parametrize("wrong", [{"width": 30, "heads": 4}, {"conv_width": 4}, {"dropout": 1.0}, {"depth": 0}])
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SegueError, match="parallel"):
        ParallelConfig(**wrong)


def test_the_papers_size():
    with torch.device("meta"):
        model = ParallelModel(acoustic_stage(1024, 12, 1024), paper().parallel.model)
    assert 320e6 < sum(weight.numel() for weight in model.parameters()) < 370e6  # the paper says 350 M
    assert model.blocks[0].convolution.depthwise.kernel_size == (1, 5)
    assert model.blocks[0].first.widen.out_features == 4096
