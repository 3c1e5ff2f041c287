"""Training a stage: it learns, goes on where it stopped, and its prefix and <end> mean something."""

from __future__ import annotations

import pytest
import torch

from segue.generate.run_stage import run_stage
from segue.generate.sampling import Sampling
from segue.lm.model import StageModel
from segue.lm.sequence import TokenBatch, pad
from segue.lm.stage import Stage, coarse_stage, semantic_stage
from segue.lm.transformer import TransformerConfig
from segue.train import state
from segue.train.fabric import alone
from segue.train.lm import StageTraining

SIZE = TransformerConfig(width=32, depth=2, heads=2, feedforward=64, embedding_width=16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(stage: Stage, make, steps: int, rate: float = 1e-2) -> StageModel:
    training = StageTraining(StageModel(stage, SIZE, seeded()), {})
    for step in range(steps):
        rng = seeded(step)
        batch = pad([training.model.layout.train(*make(rng)) for _ in range(16)])
        training.step(batch, rng, rate * min(1, (step + 1) / 20) * (1 - 0.9 * step / steps))
    return training.model.eval()


def copies(rng: torch.Generator):
    """Codes that repeat the semantic token of their instant."""
    semantic = torch.randint(0, 6, (1, 6), generator=rng)
    return [semantic], semantic.repeat_interleave(2, dim=1).expand(2, -1), False


@pytest.fixture(scope="module")
def copying() -> StageModel:
    return trained(coarse_stage(6, 2, 6), copies, 200)


def test_the_prefix_decides_the_target(copying):
    semantic = torch.randint(0, 6, (8, 1, 6), generator=seeded(9))
    rngs = [seeded(row) for row in range(8)]
    made = run_stage(copying, {"semantic": semantic}, torch.zeros(8, 2, 0).long(), 12, Sampling(0), rngs).tokens
    wanted = semantic.repeat_interleave(2, dim=2).expand(-1, 2, -1)
    assert (made == wanted).float().mean() > 0.95


def test_the_prefix_decides_the_target_beyond_one_window(copying):
    semantic = torch.randint(0, 6, (4, 1, 20), generator=seeded(9))
    rngs = [seeded(row) for row in range(4)]
    known = semantic.repeat_interleave(2, dim=2).expand(-1, 2, -1)[..., :3]
    made = run_stage(copying, {"semantic": semantic}, known, 39, Sampling(0), rngs, window_frames=12).tokens
    wanted = semantic.repeat_interleave(2, dim=2).expand(-1, 2, -1)[..., :39]
    assert made.shape == wanted.shape
    assert (made == wanted).float().mean() > 0.95


def test_the_end_is_learnt_and_obeyed():
    def ten(rng):
        return [], torch.randint(0, 3, (1, 10), generator=rng), True

    model = trained(semantic_stage(3), ten, 150)
    known = torch.randint(0, 3, (4, 1, 3), generator=seeded(7))
    rngs = [seeded(row) for row in range(4)]
    result = run_stage(model, {}, known, 25, Sampling(1.0), rngs, end_from=0)
    assert result.ended_at == (10, 10, 10, 10)
    assert result.tokens.shape == (4, 1, 10)
    assert (result.tokens < 3).all()
    deaf = run_stage(model, {}, known, 25, Sampling(1.0), [seeded(row) for row in range(4)])
    assert deaf.tokens.shape == (4, 1, 25) and (deaf.tokens < 3).all()
    late = run_stage(model, {}, known, 25, Sampling(1.0), rngs, end_from=12)
    assert all(end is None or end >= 12 for end in late.ended_at)


def batch(step: int, training: StageTraining) -> TokenBatch:
    return pad([training.model.layout.train(*copies(seeded(step))) for _ in range(4)])


def a_training(ema: float = 0.9, optimiser: str = "muon") -> StageTraining:
    size = TransformerConfig(width=32, depth=1, heads=2, feedforward=32, embedding_width=8, dropout=0.1)
    model = StageModel(coarse_stage(6, 2, 6), size, seeded())
    return StageTraining(model, {"codec": "x"}, ema_decay=ema, optimiser=optimiser)


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_resumed_training_is_the_same_training(optimiser, tmp_path):
    whole, first, second = (a_training(optimiser=optimiser) for _ in range(3))
    for step in range(6):
        whole.step(batch(step, whole), seeded(step), 1e-2)
    for step in range(3):
        first.step(batch(step, first), seeded(step), 1e-2)
    state.save(tmp_path, 3, {"training": first.state_dict()})
    second.load_state_dict(state.load_newest(tmp_path)[1]["training"])
    for step in range(3, 6):
        second.step(batch(step, second), seeded(step), 1e-2)
    expected, found = whole.export({}), second.export({})
    assert expected.fingerprint == found.fingerprint
    assert found.requires == {"codec": "x"}
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])


def test_a_step_reports_and_the_average_is_what_is_validated():
    training = a_training()
    before = training.validate(batch(0, training), seeded())
    report = training.step(batch(0, training), seeded(), 1e-2)
    assert next(iter(report)) == "loss" and {"loss_0", "loss_1", "gradient_norm"} <= report.keys()
    assert all(isinstance(value, float) for value in report.values())
    after = training.validate(batch(0, training), seeded())
    assert after["loss"] < before["loss"]
    plain = a_training(ema=0)
    for _ in range(3):
        training.step(batch(0, training), seeded(), 1e-2)
        plain.step(batch(0, plain), seeded(), 1e-2)
    kept, last = training.export({}).tensors["table"], training.model.transformer.table
    assert not torch.allclose(kept.float(), last, atol=1e-3)
    assert torch.allclose(plain.export({}).tensors["table"].float(), plain.model.transformer.table, atol=1e-3)


def test_bfloat16_learns_as_float32_does():
    size = TransformerConfig(width=32, depth=1, heads=2, feedforward=32, embedding_width=8)
    losses = {}
    for precision in ("float32", "bfloat16"):
        training = StageTraining(
            StageModel(coarse_stage(6, 2, 6), size, seeded()), {}, world=alone(precision=precision)
        )
        losses[precision] = [training.step(batch(0, training), seeded(), 1e-2)["loss"] for _ in range(8)]
    assert losses["bfloat16"][-1] < losses["bfloat16"][0] - 0.1
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.03)
