"""Discriminant axes of clusters found without labels: the equation they solve, what they find, what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from segue.errors import SegueError
from segue.recipes import tiny as tiny_recipe
from segue.semantic import discriminant, kmeans
from segue.semantic.discriminant import discriminant_axes
from segue.semantic.fitting import fit_tokens
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig
from segue.train.semantic import SemanticTraining

KINDS, WIDTH = 12, 16


def sounds(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, 16) of twelve kinds, which lie apart along six dimensions; seven others are wide and tell nothing."""
    rng = tiny.rng(seed)
    labels = torch.randint(KINDS, (count,), generator=rng)
    centres = torch.randn(KINDS, 6, generator=tiny.rng(99)) * 1.6
    rows = torch.randn(count, WIDTH, generator=rng)
    rows[:, :6] = rows[:, :6] * 0.4 + centres[labels]
    rows[:, 6:13] *= 2.5
    mixing = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=tiny.rng(98)))[0]
    return rows @ mixing, labels


def batches(rows: torch.Tensor, parts: int):
    return rows.tensor_split(parts).__getitem__


def told_apart(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of rows whose nearest other row, by direction, is of their kind."""
    own = torch.nn.functional.normalize(features, dim=-1)
    likeness = (own @ own.T).fill_diagonal_(-2)
    return float((labels[likeness.argmax(1)] == labels).float().mean())


def test_axes_solve_the_equation_the_greatest_first():
    rows, labels = sounds(800)
    rows, parts = rows.double(), (labels[:500], labels[500:])
    _, total = discriminant._covariance(batches(rows.float(), 3), 3)
    assert torch.allclose(total, torch.cov(rows.T, correction=0), atol=1e-5)
    between = discriminant._between([rows[:500], rows[500:]].__getitem__, list(parts), KINDS)
    means = torch.stack([rows[labels == kind].mean(0) for kind in range(KINDS)])
    assert torch.allclose(between, torch.cov(means.T, correction=0, fweights=labels.bincount()), atol=1e-9)
    for shrinkage in (0.0, 0.6):
        axes = discriminant._apart(between, total - between, shrinkage)
        within = (1 - shrinkage) * (total - between)
        within += shrinkage * torch.eye(WIDTH) * (total - between).trace() / WIDTH
        assert torch.allclose(axes.T @ within @ axes, torch.eye(WIDTH, dtype=torch.float64), atol=1e-8)
        gains = (axes.T @ between @ axes).diagonal()
        assert torch.allclose(between @ axes, within @ axes * gains, atol=1e-8)
        assert (gains.diff() <= 1e-9).all() and gains[0] > 10 * gains[5].abs()


def test_they_keep_what_tells_kinds_apart_and_lose_the_rest():
    rows, _ = sounds(3000)
    axes = discriminant_axes(batches(rows, 4), 4, 6, seed=0, clusters=24, shrinkage=0.1)
    assert axes.shape == (WIDTH, 6) and torch.equal(axes, axes.half().float())
    assert torch.equal(axes, discriminant_axes(batches(rows, 4), 4, 6, seed=0, clusters=24, shrinkage=0.1))
    unheard, kinds = sounds(600, seed=7)
    assert told_apart(unheard @ axes, kinds) > told_apart(unheard, kinds) + 0.05


def test_what_is_refused():
    rows, _ = sounds(100)
    with pytest.raises(SegueError, match="axes 24: 24 clusters lie apart along 23 at most"):
        discriminant_axes(batches(rows, 2), 2, 24, seed=0, clusters=24)
    with pytest.raises(SegueError, match="256 clusters, and there are only 100 frames"):
        discriminant_axes(batches(rows, 2), 2, 4, seed=0)
    with pytest.raises(SegueError, match="all frames are alike"):
        discriminant_axes(lambda k: torch.zeros(100, WIDTH), 2, 4, seed=0, clusters=24)
    with pytest.raises(SegueError, match=r"tokenizer.axes 17: an encoder of width 16"):
        dataclasses.replace(tiny.PREDICTIVE.tokenizer, axes=17).checked()
    with pytest.raises(SegueError, match=r"tokenizer.axes 256: from 0 to 255"):
        dataclasses.replace(tiny.PREDICTIVE.tokenizer, axes=256)
    wide = dataclasses.replace(tiny.PREDICTIVE, tokenizer=dataclasses.replace(tiny.PREDICTIVE.tokenizer, axes=17))
    with pytest.raises(SegueError, match="an encoder of width 16"):
        SemanticTraining(wide)
    narrow = dataclasses.replace(wide.tokenizer.encoder, width=8)
    both = dataclasses.replace(wide, tokenizer=dataclasses.replace(wide.tokenizer, encoder=narrow, axes=9))
    with pytest.raises(SegueError, match="an encoder of width 8 has"):  # before the first training, not after it
        dataclasses.replace(tiny_recipe().semantic, model=both, rounds=1)


def test_a_few_sounds_over_and_over_again_do_no_harm():
    rows, _ = sounds(20)
    axes = discriminant_axes(lambda k: rows.repeat(3, 1), 2, 4, seed=0, clusters=24)
    assert torch.isfinite(axes).all() and axes.norm(dim=0).max() == pytest.approx(1, abs=1e-3)


def test_axes_are_clustered_as_wide_as_they_are():
    rows = sounds(500)[0] * torch.linspace(0.1, 4, WIDTH)
    as_they_are = kmeans.fit(batches(rows, 2), 2, 8, seed=0, per_dimension=False)
    assert torch.equal(as_they_are.std, as_they_are.std[:1].expand(WIDTH))
    assert float(as_they_are.std[0]) == pytest.approx(float(rows.var(0, correction=0).mean().sqrt()), rel=1e-3)


def test_a_tokenizer_has_them_on_disk_and_tells_places_on_them():
    config = dataclasses.replace(tiny.PREDICTIVE.tokenizer, axes=5, angular=True)
    base = tiny.make_semantic(config=tiny.PREDICTIVE)
    hidden = [(torch.randn(4, 80, 16, generator=tiny.rng(k)), torch.ones(4, 80, dtype=torch.bool)) for k in range(2)]
    axes, clusters = fit_tokens(hidden.__getitem__, 2, config, seed=0)
    assert axes is not None and axes.shape == (16, 5) and clusters.centroids.shape == (config.vocab_size, 5)
    own = {"axes": axes, "mean": clusters.mean, "std": clusters.std, "centroids": clusters.centroids}
    tokenizer = SemanticTokenizer(config, {name: value.half() for name, value in (base.state_dict() | own).items()})
    again = SemanticTokenizer.from_part(tokenizer.to_part({}))
    wave = tiny.waves(2, 2.0, seed=3)
    assert torch.equal(again.encode(wave), tokenizer.encode(wave)) and again.fingerprint == tokenizer.fingerprint
    *_, last, placed = tokenizer.activations(wave[0])
    assert torch.equal(placed, last @ axes) and placed.shape == (100, 5)
    assert len(base.activations(wave[0])) == 2 and "axes" not in base.to_part({}).config


def test_activations_beyond_what_is_held_are_asked_for_again(monkeypatch):
    config: TokenizerConfig = dataclasses.replace(tiny.PREDICTIVE.tokenizer, vocab_size=8)
    made = [(torch.randn(2, 40, 16, generator=tiny.rng(k)), torch.ones(2, 40, dtype=torch.bool)) for k in range(3)]

    def clustered(bound: int) -> tuple[kmeans.Clusters, list[int]]:
        monkeypatch.setattr("segue.semantic.fitting._KEPT_BYTES", bound)
        asked: list[int] = []

        def hidden(k: int) -> tuple[torch.Tensor, torch.Tensor]:
            asked.append(k)
            return made[k]

        return fit_tokens(hidden, 3, config, seed=0)[1], asked

    (held, once), (streamed, often) = clustered(2**20), clustered(made[0][0].nbytes)
    assert torch.equal(held.centroids, streamed.centroids)
    assert sorted(once) == [0, 1, 2] and often.count(0) == 1 and often.count(2) > 2
