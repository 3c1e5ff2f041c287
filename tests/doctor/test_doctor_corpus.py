"""The doctor on sound: what is wrong is listed with its reason, and what is right is left alone."""

from __future__ import annotations

import json
import math
import shutil
import tarfile

import numpy as np
import pytest
import soundfile
import tiny

from segue.doctor import listen
from segue.doctor.corpus import findings_on_sound
from segue.doctor.effort import Effort
from segue.doctor.facts import Told, findings_on_facts
from segue.errors import SegueError
from segue.recipes import tiny as recipe

ALL = Effort(math.inf, quick=True)


def examined(*places, effort=ALL):
    return {finding.subject.removeprefix("data: "): finding for finding in findings_on_sound(places, recipe(), effort)}


@pytest.fixture
def folder(tmp_path):
    """Twelve recordings with nothing wrong but that they are few."""
    return tiny.corpus(tmp_path / "sound", 12, 6.0)


def test_good_sound_is_well_but_for_its_length(folder):
    found = examined(folder)
    wrong = {name for name, finding in found.items() if finding.verdict != "ok"}
    assert wrong == {"length", "licences"}
    length = found["length"]
    assert length.figures["hours"] == pytest.approx(72 / 3600) and length.figures["recordings"] == 12
    assert "times" in length.meaning and length.remedy
    assert found["rates"].figures == {"16000_hz": 12, "1_channels": 12}
    assert found["clipping"].figures["heard"] == 12 and found["clipping"].figures["heard_share"] == 1.0


def test_files_that_can_not_be_read_are_listed_with_the_reason(folder):
    (folder / "broken.wav").write_bytes(b"RIFFnothing")
    (folder / "empty.flac").write_bytes(b"")
    soundfile.write(folder / "blip.wav", np.ones(100, np.float32), tiny.RATE)
    soundfile.write(folder / "still.wav", np.zeros(16_000, np.float32), tiny.RATE)
    files = examined(folder)["files"]
    assert files.verdict == "bad" and files.figures == {"files": 16, "unusable": 4}
    told = "\n".join(files.items)
    for name, reason in (
        ("broken", "can be read"),
        ("empty", "can be read"),
        ("blip", "0.006 s"),
        ("still", "silence"),
    ):
        assert any(name in line and reason in line for line in files.items), (name, told)
    for name in ("broken.wav", "blip.wav", "still.wav"):
        (folder / name).unlink()
    assert examined(folder)["files"].verdict == "warn"
    (folder / "empty.flac").unlink()
    assert examined(folder)["files"].verdict == "ok"


def test_nothing_that_can_be_read_is_bad(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"?")
    assert [finding.verdict for finding in findings_on_sound([tmp_path], recipe(), ALL)] == ["bad"]


def test_no_sound_at_all_is_a_mistake(tmp_path):
    with pytest.raises(SegueError, match="no sound files"):
        examined(tmp_path)


def spoil(folder, count, change):
    for path in sorted(folder.glob("*.wav"))[:count]:
        wave, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, change(wave), rate)


@pytest.mark.parametrize(
    ("name", "change", "verdicts"),
    [
        ("clipping", lambda wave: np.clip(wave * 9, -1, 1) * 0.9, ("warn", "bad")),
        ("silence", lambda wave: wave * (np.arange(len(wave)) < 0.1 * len(wave)), ("ok", "bad")),
        ("offset", lambda wave: wave + 0.2, ("warn", "warn")),
    ],
)
def test_faults_weigh_by_how_many_have_them(folder, name, change, verdicts):
    spoil(folder, 2, change)
    finding = examined(folder)[name]
    assert finding.verdict == verdicts[0]
    assert sorted(item.split("/")[-1] for item in finding.items) == ["clip000.wav", "clip001.wav"]
    spoil(folder, 12, change)
    assert examined(folder)[name].verdict == verdicts[1]


def test_mp3_leaves_its_edge(folder):
    for path in sorted(folder.glob("*.wav"))[:6]:
        wave, rate = soundfile.read(path)
        spectrum = np.fft.rfft(wave + 0.01 * np.random.default_rng(0).standard_normal(len(wave)))
        spectrum[np.fft.rfftfreq(len(wave), 1 / rate) > 5500] = 0
        soundfile.write(path, np.fft.irfft(spectrum), rate)
    finding = examined(folder)["bandwidth"]
    assert finding.verdict == "warn" and len(finding.items) == 6
    assert finding.figures["median_edge_hz"] == pytest.approx(5500, abs=300)


def test_low_rates_and_channels_are_told(folder):
    soundfile.write(folder / "old.wav", tiny.sound(6.0, 99, 8000), 8000)
    soundfile.write(folder / "wide.wav", np.stack([tiny.sound(6.0, 98)] * 2, axis=1), tiny.RATE)
    rates = examined(folder)["rates"]
    assert rates.verdict == "warn" and rates.figures == {
        "8000_hz": 1,
        "16000_hz": 13,
        "1_channels": 13,
        "2_channels": 1,
    }


def test_copies_and_near_copies_are_found(folder):
    shutil.copy(folder / "clip003.wav", folder / "zz-copy.wav")
    wave, rate = soundfile.read(folder / "clip005.wav", dtype="float32")
    soundfile.write(folder / "zz-again.flac", 0.5 * wave, rate)
    finding = examined(folder)["duplicates"]
    assert finding.verdict == "warn" and (finding.figures["same_bytes"], finding.figures["same_sound"]) == (1, 1)
    assert any("clip003.wav =" in item and "zz-copy" in item for item in finding.items)
    assert any("clip005.wav ~" in item and "zz-again" in item for item in finding.items)


def test_shards_and_manifests_are_gone_through_too(folder, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in sorted(folder.glob("*.wav"))[:6]:
            tar.add(path, path.name)
        tar.add(folder / "clip000.wav", "again.wav")
    found = examined(tmp_path / "shard.tar")
    assert found["length"].figures["recordings"] == 7 and found["duplicates"].figures["same_bytes"] == 1
    rows = [{"path": f"sound/clip00{n}.wav", "speaker": f"s{n % 2}", "licence": "CC0"} for n in range(4)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = examined(tmp_path / "list.jsonl")
    assert found["speakers"].figures["speakers"] == 2 and found["licences"].verdict == "ok"


def test_time_is_kept_and_headers_are_read_all_the_same(folder, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(listen.time, "monotonic", lambda: float(next(clock)))
    found = examined(folder, effort=Effort(3.5, quick=True))
    assert found["length"].figures["recordings"] == 12 and 1 <= found["clipping"].figures["heard"] <= 4


def test_speech_is_asked_for_where_there_is_time(folder, monkeypatch):
    monkeypatch.setattr(listen, "speech_finder", lambda: lambda wave: [(0.0, 3.0)])
    assert examined(folder, effort=Effort(math.inf))["speech"].figures["speech"] == pytest.approx(0.5)
    monkeypatch.setattr(listen, "speech_finder", lambda: lambda wave: [])
    assert "hardly any speech" in examined(folder, effort=Effort(math.inf))["speech"].meaning

    def missing():
        raise SegueError("silero-vad is missing")

    monkeypatch.setattr(listen, "speech_finder", missing)
    assert "speech" not in examined(folder, effort=Effort(math.inf))


def test_one_voice_among_several_is_told():
    def on_speakers(*seconds):
        told = [Told(length, speaker=f"s{number}", licence="CC0") for number, length in enumerate(seconds)]
        return {finding.subject: finding for finding in findings_on_facts(told)}["data: speakers"]

    assert on_speakers(10.0, 1.0).verdict == "warn" and "s0" in on_speakers(10.0, 1.0).meaning
    assert on_speakers(10.0, 9.0).verdict == "ok" and on_speakers(10.0).verdict == "ok"
