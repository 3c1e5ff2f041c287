"""The suite detector on a tiny bundle, whose noise is easily told from sound."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import soundfile
import tiny

from segue.evaluate.cache import Cache
from segue.evaluate.recordings import held_out
from segue.evaluate.suite import Context
from segue.evaluate.suites import detector, suite
from segue.safety.detector import DetectorConfig, load


@pytest.fixture
def context(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "CONFIG", DetectorConfig(0.4, mel_bands=16, width=8, steps=30, batch_size=16))
    rows = []
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(3.2, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": f"{number}"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = held_out([tmp_path], 10, 7.0, 0)
    return Context(bundle, tuple(found), "speech", tmp_path / "out", Cache(tmp_path / "out" / "cache"), 0, 1.0, 1.3)


def test_the_suite_tells_accuracy_by_length_and_of_a_control(context, monkeypatch):
    found = suite("detector")(context)
    rows = found.tables[0].rows
    assert list(rows)[:4] == ["0.4 s", "0.8 s", "1.2 s", "whole continuation"]
    assert rows["0.4 s"]["stretches"].value == 2 * 6 * 3 and rows["whole continuation"]["stretches"].value == 12
    assert rows["control: real against real, 1 piece"]["stretches"].value == 3 * 2 * 6 * 1
    assert all(0 <= row["accuracy"].value <= 1 for row in rows.values())
    assert "between 0.333 and 0.667" in found.notes[0], "of 36 tosses"
    kept = load(context.out / detector.FOLDER)
    assert kept.requires == {"codec": context.bundle.codec.fingerprint} and kept.card["recordings"] == 6
    monkeypatch.setattr(detector, "cross_validated", lambda *a: pytest.fail("heard again"))
    again = detector.run(context)
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)
    assert load(context.out / detector.FOLDER).to_part({}, {}).fingerprint == kept.to_part({}, {}).fingerprint


def test_too_few_speakers_give_no_figure(context):
    found = detector.run(replace(context, recordings=context.recordings[:3]))
    assert found.tables == () and "3 speakers or recordings" in found.not_measured["accuracy of a detector"]
