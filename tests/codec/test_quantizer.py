"""The residual quantizer: each layer codes what the one before left over, learns, stays in use, and may be dropped."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tiny
import torch
from torch.nn import functional as F

from segue.codec.quantizer import CodebookLayer, ResidualQuantizer

WIDTH, CODE_WIDTH, LAYERS, SIZE = 12, 4, 4, 16


LATENT = 6
KINDS = {
    "factorised": (CODE_WIDTH, LAYERS, SIZE),
    "plain": (None, LAYERS, SIZE),
    "plain, latent": (None, LAYERS, SIZE, LATENT),
}


def quantizer(seed: int = 0, kind: str = "factorised") -> ResidualQuantizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualQuantizer(WIDTH, *KINDS[kind])


def data(count: int, seed: int) -> torch.Tensor:
    """Features (1, count, D) that cluster: a sum of three choices among eight directions each, and noise."""
    draw, directions = tiny.rng(seed), torch.randn(3, 8, WIDTH, generator=tiny.rng(99))
    picks = torch.randint(8, (3, count), generator=draw)
    parts = torch.stack([directions[level][picks[level]] * 0.6**level for level in range(3)]).sum(0)
    return (parts + 0.1 * torch.randn(count, WIDTH, generator=draw))[None]


def all_layers(rows: int) -> torch.Tensor:
    return torch.full((rows,), LAYERS)


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    """After k-means and 40 steps on features that cluster: (quantizer, gradients seen in the last step)."""
    module = quantizer(kind=request.param)
    with torch.no_grad():
        module.start(data(512, 0)[0], tiny.rng())
    optimiser = torch.optim.Adam([*module.parameters(), torch.zeros(1).requires_grad_()], lr=1e-2)
    draw = tiny.rng(1)
    for step in range(60):
        features = data(256, step)
        made = module(features, all_layers(1), draw)
        optimiser.zero_grad()
        loss = F.mse_loss(made.features, features) + 0.1 * made.commitment
        if loss.requires_grad:
            loss.backward()
        optimiser.step()
    return module


def test_residual_energy_falls_with_every_layer(trained):
    features = data(512, 1000)
    codes = trained.encode(features, LAYERS)
    left = [float((features - trained.decode(codes[:, :q])).square().mean().detach()) for q in range(1, LAYERS + 1)]
    energy = float(features.square().mean())
    assert left[0] < 0.85 * energy and left[-1] < 0.5 * energy, (energy, left)
    assert all(after < 0.95 * before for before, after in pairwise(left)), (energy, left)


def test_k_means_starts_from_the_data():
    module, features = quantizer(), data(512, 0)
    layer = module.layers[0]
    with torch.no_grad():
        projected = layer.project(features[0])

        def distortion() -> float:
            return float((projected - layer.codebook[layer.nearest(projected)]).square().sum(-1).mean())

        before = distortion()
        module.start(features[0], tiny.rng())
    assert distortion() < 0.5 * before
    for layer in module.layers:
        assert torch.allclose(layer.codebook.norm(dim=-1), torch.ones(SIZE), atol=1e-5)
        assert torch.allclose(F.normalize(layer.total, dim=-1), layer.codebook, atol=1e-5)


def test_k_means_does_with_less_data_than_codes():
    layer = CodebookLayer(WIDTH, CODE_WIDTH, SIZE)
    vectors = F.normalize(torch.randn(5, CODE_WIDTH, generator=tiny.rng()), dim=-1)
    layer.start(vectors, tiny.rng())
    assert torch.isfinite(layer.codebook).all()


def test_every_layer_is_used_and_learns(trained):
    codes = trained.encode(data(1024, 2000), LAYERS)
    for index in range(LAYERS):
        share = torch.bincount(codes[0, index], minlength=SIZE) / codes.shape[-1]
        perplexity = float(torch.exp(-(share * share.clamp(min=1e-9).log()).sum()))
        assert perplexity > SIZE / 3, (index, perplexity)
    module = quantizer(1).train()
    features = data(64, 3).requires_grad_()
    made = module(features, all_layers(1), tiny.rng())
    (made.features.square().sum() + made.commitment).backward()
    for index, layer in enumerate(module.layers):
        for name, weight in layer.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, (index, name)
    assert features.grad.abs().sum() > 0


def test_the_first_layers_decode_alone(trained):
    features = data(40, 7)
    codes = trained.encode(features, LAYERS)
    for q in range(1, LAYERS + 1):
        assert torch.equal(trained.encode(features, q), codes[:, :q])
        decoded = trained.decode(codes[:, :q])
        assert decoded.shape == features.shape
        summed = trained.widen(sum(layer.embed(codes[:, i]) for i, layer in enumerate(trained.layers) if i < q))
        assert torch.allclose(decoded, summed, atol=1e-6)


def test_training_gives_what_decoding_gives(trained):
    """Straight-through features, with the last layers dropped in some rows, are those of the first q layers."""
    features, layers_in_use = data(90, 8).view(3, 30, WIDTH), torch.tensor([1, 3, LAYERS])
    with torch.no_grad():
        module = quantizer(2)
        module.eval()
        made = module(features, layers_in_use, tiny.rng())
        assert made.codes.shape == (3, LAYERS, 30) and made.codes.dtype == torch.int64
        for row, q in enumerate(layers_in_use.tolist()):
            alone = module.decode(module.encode(features[row : row + 1], q))
            assert torch.allclose(made.features[row : row + 1], alone, atol=1e-5)


def test_plain_codes_are_means_of_what_chose_them():
    layer, vectors = CodebookLayer(WIDTH, None, SIZE), data(400, 12)[0]
    layer.start(vectors, tiny.rng())
    for _ in range(600):
        chosen = layer.nearest(vectors)
        layer.follow(vectors, chosen, tiny.rng())
    for index in range(SIZE):
        mine = vectors[chosen == index]
        assert len(mine) and torch.allclose(layer.codebook[index], mine.mean(dim=0), atol=0.02), index
        distances = (vectors[:, None] - layer.codebook).square().sum(dim=-1)
    assert torch.equal(distances.argmin(dim=-1), layer.nearest(vectors))


def test_plain_codes_pass_the_gradient_straight_through():
    module, features = quantizer(kind="plain"), data(30, 9).requires_grad_()
    module(features, torch.tensor([LAYERS]), tiny.rng()).features.sum().backward()
    assert torch.allclose(features.grad, torch.ones_like(features), atol=1e-5)


def test_dropped_layers_get_no_gradient_from_that_row():
    module, features = quantizer(3), data(30, 9)
    made = module(features, torch.tensor([2]), tiny.rng())
    (made.features.sum() + made.commitment).backward()
    heard = [bool(layer.project_out.weight.grad.abs().sum() > 0) for layer in module.layers]
    assert heard == [True, True, False, False]


def test_a_dead_code_comes_back_to_life():
    layer = CodebookLayer(WIDTH, CODE_WIDTH, SIZE)
    draw = tiny.rng(4)
    vectors = F.normalize(torch.randn(400, CODE_WIDTH, generator=draw), dim=-1)
    layer.start(vectors, draw)
    layer.codebook[3] = layer.codebook[7]  # the second of two equal codes is never the nearest
    layer.codebook[7] = -vectors.mean(0)
    layer.codebook[7] /= 1e3
    layer.total.copy_(layer.codebook * layer.usage[:, None])
    dead = int(torch.bincount(layer.nearest(vectors), minlength=SIZE)[7])
    assert dead == 0
    layer.usage[7] = 0.0
    layer.follow(vectors, layer.nearest(vectors), draw)
    assert (vectors @ layer.codebook[7]).max() > 0.999
    assert torch.bincount(layer.nearest(vectors), minlength=SIZE)[7] > 0
    assert (layer.usage > 0.1 * 400 / SIZE).all()


def test_codebooks_follow_their_data_only_while_training():
    module, features = quantizer(5), data(200, 10)
    before = [layer.codebook.clone() for layer in module.layers]
    module.eval()
    module(features, all_layers(1), tiny.rng())
    assert all(torch.equal(layer.codebook, old) for layer, old in zip(module.layers, before, strict=True))
    module.train()
    module(features, all_layers(1), tiny.rng())
    assert not any(torch.equal(layer.codebook, old) for layer, old in zip(module.layers, before, strict=True))


def test_warm_features_are_not_rounded():
    module, features = quantizer(6), data(50, 11)
    with torch.no_grad():
        module.eval()
        rounded, warm = (module(features, all_layers(1), tiny.rng(), warm=flag).features for flag in (False, True))
        part = module.layers[0].project_out(module.layers[0].project(features))
    assert not torch.allclose(rounded, warm, atol=1e-3)
    only_first = module(features, torch.ones(1, dtype=torch.int64), tiny.rng(), warm=True).features
    assert torch.allclose(only_first, part, atol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "plain, latent"])
def test_plain_codes_follow_how_loud_the_features_are(kind):
    """Half of the frames ten times as large: their codes are longer."""
    module, features = quantizer(kind=kind), data(1024, 13) - data(1024, 13).mean(dim=1, keepdim=True)
    features[:, 512:] *= 10
    layer = module.layers[0]
    with torch.no_grad():
        if isinstance(module.narrow, torch.nn.Linear):
            module.narrow.bias.zero_()
        module.start(features[0], tiny.rng())
        lengths = layer.codebook[module.encode(features, 1)[0, 0]].norm(dim=-1)
    assert lengths[512:].mean() > 2 * lengths[:512].mean()


@pytest.mark.parametrize("kind", ["plain", "plain, latent"])
def test_commitment_of_plain_codes_and_what_they_leave_are_shares(kind):
    """Both stay as they are when features, bias and codes are all a thousand times as large."""
    module, features = quantizer(kind=kind).eval(), data(100, 14)
    with torch.no_grad():
        module.start(features[0], tiny.rng())
        before = module(features, all_layers(1), tiny.rng())
        if isinstance(module.narrow, torch.nn.Linear):
            module.narrow.bias *= 1000
        for layer in module.layers:
            layer.codebook *= 1000
        after = module(1000 * features, all_layers(1), tiny.rng())
    assert torch.equal(after.codes, before.codes)
    assert torch.allclose(after.commitment, before.commitment, rtol=1e-3)
    assert torch.allclose(after.left, before.left, rtol=1e-3)


def test_what_is_left_is_the_mean_share_of_the_residual_over_the_layers_in_use():
    module, features = quantizer(7).eval(), data(60, 15).view(2, 30, WIDTH)
    with torch.no_grad():
        codes = module.encode(features, LAYERS)
        left = [(features - module.decode(codes[:, :q])).square().sum(-1).mean(-1) for q in range(1, LAYERS + 1)]
        energy = features.square().sum(-1).mean()
        made = module(features, torch.tensor([2, LAYERS]), tiny.rng())
    expected = (sum(rest[0] for rest in left[:2]) + sum(rest[1] for rest in left)) / (2 * LAYERS * energy)
    assert torch.allclose(made.left, expected, rtol=1e-4)


def test_a_latent_is_projected_once_for_all_layers():
    module, features = quantizer(8, "plain, latent"), data(30, 16).requires_grad_()
    assert module.layers[0].codebook.shape == (SIZE, LATENT)
    made = module(features, torch.tensor([LAYERS]), tiny.rng())
    made.features.sum().backward()
    straight = module.widen(module.narrow(features)).sum()
    assert torch.allclose(features.grad, torch.autograd.grad(straight, features)[0], atol=1e-5)


def energy_left(module: ResidualQuantizer, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """(B, T) what the sum of the codes leaves of the latent."""
    parts = [layer.embed(codes[:, index]) for index, layer in enumerate(module.layers)]
    return (module.narrow(features) - torch.stack(parts).sum(0)).square().sum(-1).detach()


def test_a_search_leaves_less_and_never_more(trained):
    features = data(1100, 2000)
    nearest, searched = (trained.encode(features, LAYERS, candidates) for candidates in (1, 4))
    before, after = (energy_left(trained, features, codes) for codes in (nearest, searched))
    assert bool((after <= before + 1e-5).all()) and float(after.mean()) < 0.97 * float(before.mean())


@pytest.mark.parametrize("code_width", [None, 3])
def test_a_search_that_drops_nothing_finds_the_nearest_of_all_sums(code_width):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ResidualQuantizer(WIDTH, code_width, 3, 4)
    features = data(40, 0)
    every = torch.cartesian_prod(*[torch.arange(4)] * 3).T[None].expand(40, -1, -1)
    left = energy_left(module, features[0][:, None].expand(-1, 64, -1), every)
    found = energy_left(module, features, module.encode(features, 3, 64))[0]
    assert torch.allclose(found, left.min(1).values, rtol=1e-4)


def test_a_search_looks_at_each_frame_by_itself(trained, monkeypatch):
    features = data(40, 3)
    whole = trained.encode(features, LAYERS, 3)
    monkeypatch.setattr("segue.codec.quantizer._VECTORS_AT_ONCE", 7 * 3**2)
    assert torch.equal(trained.encode(features.reshape(4, 10, WIDTH), LAYERS, 3).mT.reshape(1, 40, -1).mT, whole)
