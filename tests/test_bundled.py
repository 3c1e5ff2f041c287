"""The weights that come with Segue: size, golden values, that each stage listens to what it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import segue
from segue import audio
from segue.bundle import BUNDLED, Bundle
from segue.data.corpus import encode_aligned

ROOT = Path(__file__).parents[1]
NAMES = ("speech", "piano")
GOLDEN = json.loads((ROOT / "tests" / "golden.json").read_text())


@pytest.fixture(scope="module", params=NAMES)
def bundled(request: pytest.FixtureRequest) -> Bundle:
    return segue.load(request.param)


def example(bundle: Bundle) -> torch.Tensor:
    return audio.read(ROOT / "examples" / f"{bundle.name}.wav", bundle.sample_rate).wave


def test_weights_fit_into_ninety_megabytes() -> None:
    assert 0 < sum(path.stat().st_size for path in BUNDLED.rglob("*.safetensors")) <= 90e6


def test_every_part_has_a_card_and_a_curve(bundled: Bundle) -> None:
    assert (bundled.folder / "MODEL_CARD.md").is_file() and (BUNDLED / "codec" / "MODEL_CARD.md").is_file()
    for role, card in bundled.cards.items():
        assert card["licence"] and card["steps"] > 0 and card["hours"] > 1, role
    for folder in ("semantic", "semantic_stage", "coarse_stage", "fine_stage"):
        first, last = held_out_losses(bundled.folder / folder)
        assert last < first, folder
    first, last = held_out_losses(BUNDLED / "codec")
    assert last < first
    for earlier in ("codes", "codec-heard"):
        first, last = held_out_losses(ROOT / "scripts" / "bundled" / "earlier" / earlier)
        assert last < first, earlier


def held_out_losses(folder: Path) -> tuple[float, float]:
    """First and last, by the curve beside a part."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if '"valid"' in line]
    return losses[0], losses[-1]


def test_golden_values(bundled: Bundle) -> None:
    golden = GOLDEN[bundled.name]
    assert bundled.fingerprint == golden["fingerprint"], "new weights: run scripts/bundled/golden.py"
    wave = example(bundled)[None, : 2 * bundled.sample_rate]
    codes = bundled.codec.encode(wave)
    assert agreement(bundled.semantic.encode(wave)[0], golden["semantic"]) >= 0.95
    assert agreement(codes[0, 0], golden["first_codes"]) >= 0.95
    rms = float(bundled.codec.decode(codes).square().mean().sqrt())
    assert rms == pytest.approx(golden["decoded_rms"], rel=0.05)


def agreement(found: torch.Tensor, wanted: list[int]) -> float:
    return float((found == torch.tensor(wanted)).double().mean())


def test_more_codebooks_come_nearer(bundled: Bundle) -> None:
    wave = example(bundled)
    errors = [float((bundled.reconstruct(wave, count) - wave).square().mean()) for count in (1, 4, 12)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5 * float(wave.square().mean())


def test_the_coarse_stage_listens_to_semantic_tokens(bundled: Bundle) -> None:
    """The right ones make the true codes likelier than the same ones a quarter of a second late."""
    model = bundled.stages.coarse
    semantic, codes = encode_aligned(example(bundled), bundled.semantic, bundled.codec)
    frames = min(model.stage.crop_frames, codes.shape[1] // 2 * 2)

    def loss(shift: int) -> float:
        said = semantic[None, : frames // 2].roll(shift, -1)
        sums, counts = model.slot_losses(model.layout.train([said], codes[:4, :frames], ends=False))
        return float(sums.sum() / counts.sum())

    with torch.inference_mode():
        assert loss(0) < loss(7) - 0.02


def test_continuation_is_sound_and_depends_on_prompt_and_seed(bundled: Bundle) -> None:
    wave = example(bundled)[: 2 * bundled.sample_rate]
    made = [bundled.continue_audio(wave, bundled.sample_rate, seconds=1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(made[0].wave, made[1].wave)
    assert not torch.equal(made[0].wave, made[2].wave)
    assert made[0].wave.shape == (1, 3 * bundled.sample_rate)
    assert torch.equal(made[0].wave[0, : wave.numel() - 400], wave[:-400])
    late = made[0].wave[0, wave.numel() :]
    assert 0.001 < float(late.square().mean().sqrt()) < 0.5
