"""One batch again and again: a part that can learn does, and one whose rate is wrong is found out."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from segue.data.store import StoreHeader, TokenStore
from segue.doctor import overfit
from segue.doctor.effort import Effort
from segue.doctor.findings import Finding
from segue.lm.stage import semantic_stage

ALL = Effort(1e9)


def of_kind(kind: str, rate: float, effort: Effort = ALL) -> Finding:
    if kind == "stage":
        training = overfit.stage_training(semantic_stage(tiny.VOCAB, crop_seconds=2.0), tiny.TRANSFORMER, None, 0)
        rng = np.random.default_rng(0)
        header = StoreHeader("s", "c", tiny.VOCAB, 2, tiny.CODES)
        clips = [rng.integers(tiny.VOCAB, size=60).astype(np.int16) for _ in range(3)]
        codes = [np.zeros((120, 2), np.int16)] * 3
        store = TokenStore(header, [{"seconds": 2.4}] * 3, clips, codes)
        return overfit.overfit("semantic stage", kind, training, overfit.token_batch(store, training, 0), rate, effort)
    waves = list(tiny.waves(3, 2.0))
    if kind == "codec":
        batch = overfit.sound_batch(waves, overfit.CODEC_SECONDS, tiny.RATE, 320)
        return overfit.overfit("codec", kind, overfit.codec_training(tiny.CODEC, 0), batch, rate, effort)
    batch = overfit.sound_batch(waves, overfit.SEMANTIC_SECONDS, tiny.RATE, 640)
    return overfit.overfit("semantic", kind, overfit.semantic_training(tiny.SEMANTIC, 0), batch, rate, effort)


@pytest.mark.parametrize(("kind", "rate"), [("codec", 5e-3), ("semantic", 1e-2), ("stage", 3e-2)])
def test_a_sound_part_learns_its_batch(kind, rate):
    finding = of_kind(kind, rate)
    assert finding.verdict == "ok" and finding.figures["steps"] < overfit.MOST_STEPS, finding
    assert finding.figures["last_loss"] < finding.figures["first_loss"]


@pytest.mark.parametrize("kind", ["codec", "semantic", "stage"])
@pytest.mark.parametrize("rate", [1e-9, 1e3])
def test_a_rate_that_is_wrong_is_bad(kind, rate, monkeypatch):
    monkeypatch.setattr(overfit, "MOST_STEPS", 30)
    finding = of_kind(kind, rate)
    assert finding.verdict == "bad" and "rate" in finding.remedy, finding


def test_out_of_time_is_not_out_of_hope(monkeypatch):
    monkeypatch.setattr(overfit, "MUST_FALL_TO", {"stage": 0.0})
    finding = of_kind("stage", 3e-2, Effort(1e-6))
    assert finding.verdict == "warn" and "ran out of time" in finding.meaning and "--seconds" in finding.remedy


def test_short_waves_make_a_shorter_batch():
    wave, lengths = overfit.sound_batch(list(tiny.waves(2, 0.5)), 3.0, tiny.RATE, 320)
    assert wave.shape == (2, 8000) and lengths.tolist() == [8000, 8000]
