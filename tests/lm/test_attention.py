"""Causal attention for training on a CPU: PyTorch's, there and back, for every length and any sharing of heads."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from segue.lm import attention, transformer
from segue.lm.transformer import Block, TransformerConfig


def drawn(heads: int, shared: int, length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    rng = tiny.rng(length)
    return [torch.randn(2, n, length, 8, generator=rng).to(dtype).requires_grad_() for n in (heads, shared, shared)]


def theirs(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]), st.sampled_from([1, 2, 127, 128, 129, 300]))
def test_it_is_attention_and_so_is_its_gradient(heads, length):
    given_ = drawn(*heads, length)
    ours, expected = attention.causal(*given_), theirs(*given_)
    assert torch.allclose(ours, expected, atol=1e-5)
    pull = torch.randn(ours.shape, generator=tiny.rng())
    for one, two in zip(*(torch.autograd.grad((made * pull).sum(), given_) for made in (ours, expected)), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_no_token_hears_a_later_one():
    queries, keys, values = drawn(2, 1, 200)
    pulls = torch.autograd.grad(attention.causal(queries, keys, values)[:, :, :150].sum(), (keys, values))
    assert all(pull[:, :, 150:].eq(0).all() and pull[:, :, :150].any() for pull in pulls)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_takes_it_to_train_in_bfloat16_on_a_cpu_and_nowhere_else(dtype, monkeypatch):
    taken: list[int] = []

    def causal(*given_: Tensor) -> Tensor:
        taken.append(len(given_))
        return theirs(*given_)

    monkeypatch.setattr(transformer.attention, "causal", causal)
    with torch.random.fork_rng(devices=[]):
        block = Block(TransformerConfig(width=16, heads=2, kv_heads=1, feedforward=16)).to(dtype)
    x = torch.randn(1, 5, 16, generator=tiny.rng()).to(dtype)
    block(x, None)
    with torch.no_grad():
        block(x, None)
    monkeypatch.setattr(attention, "MOST_KEPT", 24)  # 1 * 2 * 5 * 5 / 2 is 25
    block(x, None)
    assert len(taken) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("rows", [1, 3])
def test_in_bfloat16_there_and_back_from_a_blocks_layout(rows):
    low = torch.randn(rows, 300, 8, 16, generator=tiny.rng()).bfloat16().requires_grad_()
    pull = torch.randn(rows, 4, 300, 16, generator=tiny.rng(1))
    found = []
    for make, source in ((attention.causal, low), (theirs, low), (theirs, low.detach().float().requires_grad_())):
        made = make(*source.transpose(1, 2).split((4, 2, 2), dim=1))
        found.append((made.detach().float(), torch.autograd.grad((made * pull).sum(), source)[0].float()))
    for ours, other, exact in zip(*found, strict=True):
        errors = [float((part - exact).norm() / exact.norm()) for part in (ours, other)]
        assert errors[0] < 2 * errors[1] < 0.02
