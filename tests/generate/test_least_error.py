"""The code of the least error to be expected: against every code tried in turn, and where it is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_continuation import BOOKS, COARSE, SIZE, FakeCodec
from test_stream import models_of

from segue.generate.continuation import Settings
from segue.generate.least_error import least_error
from segue.generate.sampling import Sampling
from segue.generate.stages import StageSampling


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10_000), codes=st.integers(2, 12), width=st.integers(1, 5), heat=st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_no_other_code_has_less_error(seed: int, codes: int, width: int, heat: float) -> None:
    logits, vectors = random(seed, 3, codes) * heat, random(seed + 1, codes, width)
    shares = logits.double().softmax(-1)
    apart = (vectors[:, None] - vectors).double().square().sum(-1)
    error = shares @ apart  # (3, codes): row b's if code c is taken
    taken = error.gather(1, least_error(logits, vectors)[:, None])[:, 0]
    assert (taken <= error.amin(dim=1) + 1e-5).all()


def test_who_is_sure_takes_the_likeliest() -> None:
    logits = random(0, 50, 16) * 200
    assert torch.equal(least_error(logits, random(1, 16, 4)), logits.argmax(-1))


def test_who_knows_nothing_takes_what_changes_least() -> None:
    vectors = torch.cat([random(0, 15, 4), torch.zeros(1, 4)])
    vectors[:15] -= vectors[:15].mean(0)
    assert least_error(torch.zeros(2, 16), vectors).tolist() == [15, 15]


class WithVectors(FakeCodec):
    def codebooks(self):
        vectors = random(5, BOOKS, SIZE, 3)
        vectors[:, 3] = 100.0  # so far from the others that only who gives it half of all chances takes it
        return vectors


def codes(codec: FakeCodec, fine: float) -> torch.Tensor:
    sampling = StageSampling(Sampling(1.0), Sampling(1.0), Sampling(fine))
    decoder = models_of(codec=codec).acoustic(Settings((7, 8), sampling, engine=("torch", "float32")))
    semantic = torch.randint(6, (2, 60), generator=torch.Generator().manual_seed(1))
    return decoder.extend(semantic, torch.zeros(2, BOOKS, 0, dtype=torch.long), 100, (0, 1), None)


def test_the_fine_stage_chooses_by_the_codecs_vectors() -> None:
    plain, by_error = codes(FakeCodec(), 0.0), codes(WithVectors(), 0.0)
    assert torch.equal(plain[:, :COARSE], by_error[:, :COARSE])
    assert (plain[:, COARSE:] != by_error[:, COARSE:]).double().mean() > 0.2


@pytest.mark.parametrize("fine", [0.5, 1.0])
def test_above_temperature_0_it_draws_as_ever(fine: float) -> None:
    assert torch.equal(codes(FakeCodec(), fine), codes(WithVectors(), fine))
