"""The codec's training step: it learns, with discriminators and without, and drops quantizer layers while it does."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from segue.artifact import Part, half
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.train.codec import CodecTraining
from segue.train.loop import generator


def training(pair: str = "spectral", **changes) -> CodecTraining:
    config = dataclasses.replace(tiny.CODEC, pair=pair)
    return CodecTraining(config, dataclasses.replace(tiny.OBJECTIVE, **changes), 0.01, 1.0, 0.9, seed=0)


def train(one: CodecTraining, steps: int, same: bool = True) -> list[dict[str, float]]:
    one.prepare(tiny.clip_batch)
    return [one.step(tiny.clip_batch(0 if same else k), generator(0, k, 0), 3e-3) for k in range(steps)]


@pytest.mark.parametrize("changes", [{}, {"quantizer": "plain"}, {"quantizer": "plain", "latent_width": 6}])
def test_all_kinds_of_codes_train_and_leave_less_where_that_is_asked(changes):
    left = {}
    for weight in (0.0, 20.0):
        config = dataclasses.replace(tiny.CODEC, **changes)
        objective = dataclasses.replace(tiny.OBJECTIVE, residual=weight, adversarial_start_step=-1)
        one = CodecTraining(config, objective, 0.01, 1.0, 0.9, seed=0)
        losses = train(one, 30)
        assert sum(step["mel"] for step in losses[-5:]) < 0.9 * sum(step["mel"] for step in losses[3:8])
        named = [step.keys() - {"loss", "gradient"} for step in losses]
        assert losses[-1]["loss"] == pytest.approx(sum(losses[-1][name] for name in named[-1]), rel=1e-5)
        assert ("residual" in named[0]) == bool(weight)
        wave = tiny.clip_batch(0)[0]
        with torch.no_grad():
            left[weight] = float(one._pass(wave, torch.full((len(wave),), 12), tiny.rng(), False, 1)[2])
    assert left[20.0] < 0.95 * left[0.0]


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_a_training_goes_on_from_a_codec(pair):
    first = training(pair, adversarial_start_step=-1)
    train(first, 8)
    part = first.export({})
    config = dataclasses.replace(tiny.CODEC, pair=pair)
    objective = dataclasses.replace(tiny.OBJECTIVE, adversarial_start_step=-1, warm_steps=3)
    again = CodecTraining(config, objective, 0.01, 1.0, 0.9, seed=5, begin=part)
    wave = tiny.clip_batch(0)[0]
    assert SoundStream.from_part(again.export({})).encode(wave).equal(SoundStream.from_part(part).encode(wave))
    assert train(again, 1)[0]["mel"] < train(training(pair, adversarial_start_step=-1), 1)[0]["mel"]
    assert not again.codec.quantizer.layers[0].codebook.equal(first.codec.quantizer.layers[0].codebook)
    with pytest.raises(SegueError, match="do not fit"):
        CodecTraining(dataclasses.replace(config, num_codebooks=3), objective, 0.01, 1.0, 0.9, seed=0, begin=part)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_a_decoder_trained_alone_keeps_the_codes(pair, accumulate):
    first = training(pair, adversarial_start_step=-1)
    train(first, 8)
    part = first.export({})
    config = dataclasses.replace(tiny.CODEC, pair=pair)
    objective = dataclasses.replace(tiny.OBJECTIVE, adversarial_start_step=1, decoder_only=True)
    with pytest.raises(SegueError, match="decoder_only: there are no codes to keep; name the codec with --init"):
        CodecTraining(config, objective, 0.01, 1.0, 0.9, seed=5)
    again = CodecTraining(config, objective, 0.01, 1.0, 0.9, seed=5, accumulate=accumulate, begin=part)
    train(again, 6)
    made = again.export({})
    assert made.fingerprint != part.fingerprint and made.token_fingerprint == part.token_fingerprint == part.fingerprint
    changed = {name.split(".")[0] for name, value in made.tensors.items() if not value.equal(part.tensors[name])}
    assert changed == {"decoder"}
    old, new, wave = SoundStream.from_part(part), SoundStream.from_part(made), tiny.clip_batch(0)[0]
    codes = old.encode(wave)
    assert new.encode(wave).equal(codes) and not new.decode(codes).equal(old.decode(codes))
    assert new.codes_fingerprint == old.codes_fingerprint == old.fingerprint != new.fingerprint
    later = CodecTraining(config, objective, 0.01, 1.0, 0.9, seed=6, begin=made)
    assert later.export({}).token_fingerprint == part.fingerprint


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_thirty_steps_with_discriminators_lower_the_loss(pair):
    one = training(pair, adversarial_start_step=3)
    losses = train(one, 30)
    heard = [step["mel"] + step["complex"] + step["wave"] for step in losses]
    assert sum(heard[-5:]) < 0.9 * sum(heard[3:8])
    assert "discriminator" not in losses[2]
    assert {"adversarial", "feature_matching", "discriminator"} <= losses[3].keys()
    assert losses[-1]["discriminator"] < losses[3]["discriminator"]
    assert all(next(iter(step)) == "loss" for step in losses)
    valid = one.validate(tiny.clip_batch(0), tiny.rng())
    assert next(iter(valid)) == "loss" and 1 <= valid["perplexity_least"] <= tiny.CODES


def test_the_loss_is_the_sum_of_what_is_named():
    step = train(training(adversarial_start_step=0), 1)[0]
    named = ("mel", "complex", "wave", "commitment", "adversarial", "feature_matching")
    assert step["loss"] == pytest.approx(sum(step[name] for name in named), rel=1e-5)


@pytest.mark.parametrize("name", ["mel", "complex", "wave", "log", "loudness", "structure"])
def test_each_weight_is_of_its_own_loss(name):
    """Named alike in objective, report and balancer, whatever the order that they are passed on in."""
    plain = {key: 1.0 for key in ("mel", "complex", "wave", "log", "loudness", "structure")}
    one, two = (training(adversarial_start_step=-1, **plain | {name: weight}) for weight in (1.0, 3.0))
    losses = [train(each, 1)[0] for each in (one, two)]
    ratios = {key: losses[1][key] / losses[0][key] for key in plain}
    assert ratios == pytest.approx({key: 3.0 if key == name else 1.0 for key in plain}, rel=1e-4)
    assert training(adversarial_start_step=-1, balanced=True, **{name: 0.7}).balancer.weights[name] == 0.7


def test_balanced_losses_train_too_and_go_on_after_a_stop():
    def one() -> CodecTraining:
        return training(balanced=True, adversarial_start_step=2)

    whole, first, second = one(), one(), one()
    losses = train(whole, 30)
    assert sum(step["mel"] for step in losses[-5:]) < 0.9 * sum(step["mel"] for step in losses[3:8])
    train(first, 5)
    second.prepare(tiny.clip_batch)
    second.load_state_dict(first.state_dict())
    again = [second.step(tiny.clip_batch(0), generator(0, k, 0), 3e-3) for k in range(5, 8)]
    assert [step["loss"] for step in again] == [step["loss"] for step in losses[5:8]]


def test_no_discriminators_where_none_are_wanted():
    one = training(adversarial_start_step=-1)
    before = [value.clone() for value in one.discriminators.parameters()]
    assert all("discriminator" not in step for step in train(one, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, one.discriminators.parameters(), strict=True))


def test_fooling_the_discriminators_leaves_them_alone():
    """The codec's own step must not move or mark the discriminators."""
    one = training(adversarial_start_step=0, warm_steps=0)
    one.prepare(tiny.clip_batch)
    wave = tiny.clip_batch(0)[0]
    before = [value.clone() for value in one.discriminators.parameters()]
    made = wave.clone().requires_grad_()
    one.discriminators.requires_grad_(False)
    sum(one._adversarial(made, wave).values()).backward()
    assert made.grad.any()
    for old, value in zip(before, one.discriminators.parameters(), strict=True):
        assert value.grad is None and torch.equal(old, value)
    one.discriminators.requires_grad_(True)
    one.step(tiny.clip_batch(0), tiny.rng(), 1e-3)
    assert all(value.requires_grad for value in one.discriminators.parameters())


def test_codebooks_start_from_data_after_the_warm_up():
    one = training(warm_steps=3, adversarial_start_step=-1)
    first = [layer.codebook.clone() for layer in one.codec.quantizer.layers]
    train(one, 3)
    for old, layer in zip(first, one.codec.quantizer.layers, strict=True):
        assert torch.equal(old, layer.codebook)
    one.step(tiny.clip_batch(1), generator(0, 3, 0), 1e-3)
    codes = one.codec.eval().encode(torch.cat([tiny.clip_batch(k)[0] for k in range(16)]))
    for index, (old, layer) in enumerate(zip(first, one.codec.quantizer.layers, strict=True)):
        assert not torch.equal(old, layer.codebook)
        assert len(codes[:, index].unique()) > tiny.CODES // 2, index


def test_half_of_each_batch_drops_its_last_layers(monkeypatch):
    one, seen = training(warm_steps=0, adversarial_start_step=-1), []
    forward = one.codec.quantizer.forward
    monkeypatch.setattr(
        one.codec.quantizer, "forward", lambda x, used, *rest: (seen.append(used.clone()), forward(x, used, *rest))[1]
    )
    train(one, 20)
    full, dropped = torch.stack(seen)[:, 0], torch.stack(seen)[:, 1]
    assert (full == 12).all()
    assert dropped.min() >= 1 and dropped.max() <= 12 and len(dropped.unique()) > 5


@pytest.mark.parametrize(("share", "dropped"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_the_share_of_rows_that_lose_layers_is_as_asked(share, dropped):
    one = training(dropped_share=share)
    seen = torch.stack([one._layers_in_use(8, tiny.rng(k)) for k in range(60)])
    assert int((seen.float().mean(dim=0) < 11).sum()) == dropped
    assert seen.min() >= 1 and seen.max() == 12


def test_a_step_draws_from_its_generator_alone():
    def one_step(outside: int, own: int) -> float:
        one = training()
        one.prepare(tiny.clip_batch)
        torch.manual_seed(outside)
        one.step(tiny.clip_batch(0), tiny.rng(own), 1e-3)
        return float(sum(value.detach().abs().sum() for value in one.codec.parameters()))

    assert one_step(1, 5) == one_step(2, 5) != one_step(1, 6)


def test_the_first_weights_follow_the_seed_and_leave_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = training()
    assert torch.rand(1) == expected
    other = CodecTraining(tiny.CODEC, tiny.OBJECTIVE, 0.01, 1.0, 0.9, seed=1)
    assert torch.equal(one.codec.encoder.embed.weight, training().codec.encoder.embed.weight)
    assert not torch.equal(one.codec.encoder.embed.weight, other.codec.encoder.embed.weight)


def test_the_average_is_what_is_exported():
    one = training(adversarial_start_step=-1)
    train(one, 6)
    part = one.export({"hours": 1.0})
    assert part.kind == "codec" and part.card == {"hours": 1.0}
    assert all(value.dtype == torch.float16 for value in part.tensors.values() if value.is_floating_point())
    name = "encoder.embed.weight"
    kept = one.average.average[name]
    assert torch.equal(part.tensors[name], kept.half())
    assert not torch.equal(kept, one.codec.state_dict()[name])
    codec = SoundStream.from_part(part)
    assert codec.fingerprint == part.fingerprint and codec.encode(tiny.waves(1, 0.1)).shape == (1, 12, 5)


def test_training_goes_on_from_an_artifact_whose_sums_are_beyond_half_precision():
    """Sums of codes over many frames may be more than 65,504; what follows from codes and their use is not kept."""
    codec = SoundStream(dataclasses.replace(tiny.CODEC, quantizer="plain"))
    for layer in codec.quantizer.layers:
        layer.usage.fill_(3000.0)
        layer.codebook.mul_(100.0)
        layer.total.copy_(layer.codebook * layer.usage[:, None])
    part = codec.to_part({})
    assert not [name for name in part.tensors if name.endswith(".total")]
    assert all(bool(tensor.isfinite().all()) for tensor in part.tensors.values())
    old = Part("codec", part.config, part.tensors | half({k: v for k, v in codec.state_dict().items() if "total" in k}))
    assert not all(bool(tensor.isfinite().all()) for tensor in old.tensors.values())
    for begin in (part, old):
        training = CodecTraining(codec.config, tiny.OBJECTIVE, 0.01, 1.0, 0.0, 0, begin=begin)
        before = training.codec.codebooks().clone()
        training.step(tiny.clip_batch(0), torch.Generator().manual_seed(0), 0.0)
        after = training.codec.codebooks()
        assert bool(after.isfinite().all())
        assert float((after - before).norm() / before.norm()) < 0.01, "one batch moves long averages by little"
