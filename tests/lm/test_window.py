"""Attention through windows of time: what is seen, in which blocks, and by rows whose positions differ."""

from __future__ import annotations

import pytest
import torch

from segue.config import from_dict, to_disk
from segue.errors import SegueError
from segue.lm import window
from segue.lm.decoder import make_decoder
from segue.lm.native import build
from segue.lm.sequence import Layout
from segue.lm.stage import coarse_stage
from segue.lm.transformer import Transformer, TransformerConfig, causal_mask

SIZE = {"width": 32, "heads": 4, "feedforward": 48, "kv_heads": 1, "embedding_width": 16}
STAGE = coarse_stage(6, 2, 8)


def a_model(**changes) -> Transformer:
    return Transformer(30, TransformerConfig(**{**SIZE, **changes}), torch.Generator().manual_seed(0)).eval()


def a_sequence(semantic: int, frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (1, L) and positions (1, L) of a coarse stage: semantic frames of two ticks, frames of two codes."""
    rng = torch.Generator().manual_seed(seed)
    parts = torch.randint(0, 6, (1, semantic), generator=rng), torch.randint(0, 8, (2, frames), generator=rng)
    tokens, positions = Layout(STAGE).read(parts[:1], parts[1])
    return tokens[None], positions[None]


@torch.inference_mode()
def test_what_sounds_at_the_same_time_is_seen_and_nothing_else():
    model = a_model(depth=1, window_frames=3, global_every=0)
    tokens, positions = a_sequence(20, 40)
    last, now = tokens.shape[1] - 1, positions[0, -1]
    before = model(tokens, positions)[0, last]
    for place in range(last):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 30
        moved = not torch.allclose(model(other, positions)[0, last], before, atol=1e-6)
        assert moved == bool((positions[0, place] - now).abs() <= 3), place


def test_stretches_are_the_mask_cut_up():
    """Also where rows' positions differ and where there is padding."""
    sequences = [a_sequence(semantic, 300) for semantic in (150, 0)]
    length = min(tokens.shape[1] for tokens, _ in sequences)
    positions = torch.cat([times[:, :length] for _, times in sequences])
    for mask in (None, torch.arange(length) >= torch.tensor([[7], [300]])):
        whole = causal_mask(torch.ones(2, length, dtype=torch.bool) if mask is None else mask)
        whole &= window.near(positions[:, :, None], positions[:, None], 5)[:, None]
        parts, first = window.stretches(positions, 5, mask), 0
        for part in parts:
            again = torch.zeros(2, 1, part.stop - first, length, dtype=torch.bool)
            again[..., part.places] = part.seen
            assert torch.equal(again, whole[:, :, first : part.stop])
            first = part.stop
        assert first == length and len(parts[1].places) < 400
        queries, keys, values = torch.randn(3, 2, 4, length, 8, generator=torch.Generator().manual_seed(1))
        expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=whole)
        assert torch.allclose(window.attend(queries, keys, values, parts), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("engine", "weights"), [("torch", "float32"), ("static", "float32"), ("native", "float32"), ("native", "int8")]
)
@torch.inference_mode()
def test_rows_may_stand_at_other_times(engine, weights):
    if engine == "native" and build.library()[0] is None:
        pytest.skip(build.library()[1])
    model = a_model(depth=3, window_frames=3, global_every=3)
    rows = [a_sequence(semantic, 40, seed)[0:2] for seed, semantic in enumerate((20, 13))]
    length = min(tokens.shape[1] for tokens, _ in rows)
    tokens, positions = (torch.cat([row[part][:, :length] for row in rows]) for part in (0, 1))
    decoder = make_decoder(model, 2, length, engine=engine, weights=weights)
    decoder.prefill(tokens[:, :30], positions)
    states = [decoder.step(tokens[:, place]) for place in range(30, length)]
    found = torch.stack([decoder.logits(state, 0, 30) for state in states], dim=1)
    expected = model.logits(model(tokens, positions), 0, 30)[:, 30:]
    assert (found - expected).abs().max() < (0.1 if weights == "int8" else 1e-4)


def test_which_blocks_have_a_window():
    assert TransformerConfig(depth=4, window_frames=5).windowed == (True, True, True, False)
    assert TransformerConfig(depth=3, window_frames=5, global_every=0).windowed == (True,) * 3
    assert TransformerConfig(depth=3, window_frames=5, global_every=1).windowed == (False,) * 3
    assert TransformerConfig(depth=3).windowed == (False,) * 3


def test_older_configs_have_full_attention():
    written = to_disk(TransformerConfig())
    assert not {"window_frames", "global_every"} & set(written)
    assert not any(from_dict(TransformerConfig, written, complete=True).windowed)
    narrow = TransformerConfig(window_frames=5, global_every=2)
    assert from_dict(TransformerConfig, to_disk(narrow), complete=True) == narrow


def test_windows_that_make_no_sense_are_refused():
    with pytest.raises(SegueError, match="positions time"):
        TransformerConfig(window_frames=5, positions="index")
    for wrong in ({"window_frames": -1}, {"global_every": -1}):
        with pytest.raises(SegueError, match="0 or more"):
            TransformerConfig(**wrong)


def test_its_cost_is_counted_without_values():
    with torch.device("meta"):
        model = Transformer(30, TransformerConfig(**SIZE, depth=2, window_frames=3))
        hidden = model(torch.zeros(2, 600, dtype=torch.long), torch.zeros(2, 600))
    assert hidden.shape == (2, 600, 32) and hidden.is_meta
