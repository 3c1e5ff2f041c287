"""The benchmarks run, say what they did not measure, and their own arithmetic is right."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
import types
import wave as wav
import zlib
from pathlib import Path

import benchmark
import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue.artifact import save_part
from segue.errors import SegueError
from segue.evaluate.panels import ticks
from segue.evaluate.players import spectrogram

quality, speed, page = (benchmark.load(name) for name in ("codec", "codec_speed", "codec_page"))


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("codec")
    save_part(tiny.make_codec().to_part({"steps": 7, "hours_seen": 0.5, "training_seconds": 3}), folder)
    return folder


@pytest.fixture
def sounds(tmp_path) -> Path:
    return tiny.corpus(tmp_path / "sounds", 2, 3.0)


@pytest.fixture
def scorers() -> None:
    for name in ("pesq", "pystoi", "visqol", "ai_edge_litert", "torchmetrics"):
        pytest.importorskip(name)


@pytest.fixture
def opinion(monkeypatch) -> None:
    """A stand-in for distillmos that finds every wave (1, N) worth 3."""

    class Model(torch.nn.Module):
        def forward(self, wave):
            assert wave.ndim == 2
            return torch.full((len(wave),), 3.0)

    module = types.ModuleType("distillmos")
    module.ConvTransformerSQAModel = Model
    monkeypatch.setitem(sys.modules, "distillmos", module)


def figures_of_speech(codec_folder, sounds, tmp_path, **options) -> dict:
    out = tmp_path / "figures.json"
    options = {"codebooks": [1, 12], "limit": 1, "health_limit": 2} | options
    quality.main(sounds, "speech", codec_folder, seconds=1.5, json_out=out, **options)
    return json.loads(out.read_text())


def test_quality_of_speech(codec_folder, sounds, tmp_path, scorers, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distillmos", None)
    figures = figures_of_speech(codec_folder, sounds, tmp_path)
    rows = [(row["codebooks"], row["kbit_s"], row["refinement"]) for row in figures["rows"]]
    assert rows == [(1, 0.2, 0), (1, 0.2, 6), (12, 2.4, 0), (12, 2.4, 6)]
    for row in figures["rows"]:
        assert 1 <= row["pesq_wb"] <= 4.7 and 1 <= row["visqol"] <= 5 and row["si_sdr_db"] < 100
        assert row["distillmos"] is None and row["measured"]["distillmos"] == 0
    assert "--no-deps" in figures["not_measured"]["distillmos"] and figures["original"] is None
    assert [len(reference["rows"]) for reference in figures["references"]] == [3, 3]
    assert figures["data"].endswith("/sounds") and figures["settings"]["shortest"] == 3.0
    assert figures["training"] == {"steps": 7, "hours_seen": 0.5, "training_seconds": 3}
    assert len(figures["health"]) == 12 and figures["health"][0]["frames"] == 2 * 75
    assert [row["file"] for row in figures["per_file"]] == ["clip000.wav"] * 4
    assert figures["versions"]["pesq"] and "distillmos" in figures["versions"]
    shown = capsys.readouterr().out
    assert "not measured" in shown and "12, refined" in shown and "Lyra v2 [2]" in shown and "not in this run" in shown
    assert "7 steps, 0.5 h of sound, 0 min of training" in shown


def test_an_opinion_of_the_originals_comes_with_that_of_what_was_made(sounds, codec_folder, tmp_path, scorers, opinion):
    figures = figures_of_speech(codec_folder, sounds, tmp_path, codebooks=[12])
    assert figures["rows"][0]["distillmos"] == 3 and figures["original"]["distillmos"] == 3
    assert figures["not_measured"] == {}


def test_distillmos_itself_ranks_sound_and_noise_and_leaves_no_stand_in():
    pytest.importorskip("xls_r_sqa")
    measure = quality.distillmos_measure(16_000)
    assert "torchaudio" not in sys.modules or sys.modules["torchaudio"].__file__
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    assert 1 <= measure(noise) < 3


def test_no_training_budget_is_said_to_be_unknown():
    assert quality.told_budget(dict.fromkeys(quality.BUDGET)) == "training unknown"


def test_piano_is_scored_by_what_is_made_for_it(codec_folder, sounds, tmp_path, scorers, capsys):
    out = tmp_path / "figures.json"
    quality.main(sounds, "piano", codec_folder, [12], limit=1, seconds=1.0, health_limit=1, json_out=out)
    row = json.loads(out.read_text())["rows"][0]
    assert set(row) == {"codebooks", "kbit_s", "candidates", "refinement", "visqol", "si_sdr_db", "ci95", "measured"}
    assert "Lyra" not in capsys.readouterr().out


def test_visqol_without_its_lattice_is_refused(scorers, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(SegueError, match="lattice"):
        quality.visqol_measure("speech", 16_000)


def test_a_score_that_can_not_be_had_is_left_out_and_told():
    def fails(original, made):
        raise ValueError("no speech in it")

    ready = {"a": fails, "b": lambda original, made: math.nan, "c": lambda original, made: 2.0}
    values, failed = quality.score(ready, np.zeros(4), np.zeros(4))
    assert values == {"c": 2.0} and set(failed) == {"a", "b"} and "no speech" in failed["a"]
    means = quality.summary([values, {"c": 4.0}], ("a", "c"))
    assert means["a"] is None and means["ci95"]["a"] is None and means["c"] == 3.0
    assert means["measured"] == {"a": 0, "c": 2}


def test_the_interval_holds_the_mean_and_narrows_with_more_files():
    values = list(np.random.default_rng(1).normal(3.0, 1.0, 400))
    low, high = quality.interval(values)
    assert low < np.mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    few = quality.interval(values[:25])
    assert few[1] - few[0] > 2 * (high - low)
    assert quality.interval([1.0]) is None


def test_files_are_taken_from_each_source_in_turn(tmp_path):
    folder = tiny.corpus(tmp_path, 4, 3.0)
    sources = {"clip000.wav": "a", "clip001.wav": "a", "clip002.wav": "a", "clip003.wav": "b"}
    lines = (json.dumps({"path": name, "source": source}) for name, source in sources.items())
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    assert [path.name for path in quality.choose(folder, 3)] == ["clip000.wav", "clip003.wav", "clip001.wav"]
    with pytest.raises(SegueError, match="no sound file"):
        quality.choose(tiny.corpus(tmp_path / "short", 1, 1.0), 3)


def test_speed_beside_a_peer(codec_folder, tmp_path, capsys):
    pytest.importorskip("transformers")
    out, threads = tmp_path / "speed.json", torch.get_num_threads()
    speed.main(codec_folder, ["encodec"], seconds=0.2, repeats=2, json_out=out)
    figures = json.loads(out.read_text())
    rows = {row["name"]: row for row in figures["rows"]}
    assert rows["segue"]["encode"]["ours_is_faster_by"]["median"] == 1
    assert len(rows["EnCodec 24 kHz"]["decode"]["seconds"]) == 2
    assert 14e6 < rows["EnCodec 24 kHz"]["parameters"] < 16e6
    for part in ("encode", "decode"):
        assert figures["floor"][part]["flops"]["fft"] > 0 and 0 < figures["floor"][part]["fraction_reached"] < 1
    assert torch.get_num_threads() == threads
    assert "EnCodec" in capsys.readouterr().out


def test_peers_that_can_not_be_had_are_named(monkeypatch):
    with pytest.raises(SegueError, match="encodec, dac, mimi"):
        speed.peer("opus", 1.0)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SegueError, match="need transformers"):
        speed.peer("dac", 1.0)


def test_the_floor_counts_products_convolutions_and_ffts():
    linear, convolution = torch.nn.Linear(8, 16), torch.nn.Conv1d(6, 6, 5, groups=3)
    assert speed.flops(lambda: linear(torch.zeros(2, 10, 8))) == {"fft": 0, "rest": 2 * 20 * 8 * 16}
    assert speed.flops(lambda: convolution(torch.zeros(1, 6, 24))) == {"fft": 0, "rest": 2 * 20 * 6 * 2 * 5}
    there = speed.flops(lambda: torch.fft.rfft(torch.zeros(3, 4, 64)))
    back = speed.flops(lambda: torch.fft.irfft(torch.zeros(3, 4, 33, dtype=torch.complex64), n=64))
    assert there == back == {"fft": 12 * 2.5 * 64 * 6, "rest": 0}


def test_works_take_turns_after_a_round_that_does_not_count():
    seen = []
    times = speed.measure({name: lambda name=name: seen.append(name) for name in "ab"}, 3, "wall")
    assert "".join(seen) == "abababab" and [len(taken) for taken in times.values()] == [3, 3]


@pytest.fixture(scope="module")
def made_page(codec_folder, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    soundfile.write(folder / "a<b>.wav", tiny.sound(1.0), tiny.RATE)
    page.main(folder, folder / "page.html", codec_folder)
    return (folder / "page.html").read_text()


def test_the_page_stands_alone_and_holds_every_version(made_page):
    assert len(re.findall("<figure ", made_page)) == len(re.findall("<audio", made_page)) == 3
    assert all(name in made_page for name in ("original", "3 codebooks", "12 codebooks", "frequency, kHz", "time, s"))
    assert "a&lt;b&gt;.wav" in made_page and "a<b>" not in made_page
    assert set(re.findall(r'(?:src|href)="([^:]*):', made_page)) == {"data"}
    assert "http" not in re.sub(r"base64,[^\"]*|http-equiv", "", made_page)


def test_the_page_plays_and_shows_the_original(made_page):
    sound, image = (
        base64.b64decode(re.search(rf'data:{kind};base64,([^"]*)"', made_page).group(1))
        for kind in ("audio/wav", "image/png")
    )
    with wav.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels()) == (tiny.RATE, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert np.abs(samples - tiny.sound(1.0)).max() < 2 / 32767
    columns, rows = np.frombuffer(image[16:24], ">u4")
    assert (rows, columns) == (257, 126)
    start = image.index(b"IDAT")
    lines = np.frombuffer(zlib.decompress(image[start + 4 :]), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any() and lines[-40:, 1:].mean() > lines[:40, 1:].mean() + 20


def test_a_tone_stands_at_its_frequency_and_level():
    rate, frequency = 16_000, 2000
    tone = 0.1 * torch.sin(2 * math.pi * frequency * torch.arange(rate) / rate)
    levels = spectrogram(tone, rate)[:, 20:-20]
    assert torch.equal(levels.argmax(dim=0), torch.full((levels.shape[1],), frequency * 512 // rate))
    assert levels.amax(dim=0).mean() == pytest.approx(-20, abs=0.1)


def test_ticks_are_round_and_few():
    assert ticks(5.0, 6) == [0, 1, 2, 3, 4, 5]
    assert ticks(8.0, 4) == [0, 2, 4, 6, 8]
    assert len(ticks(3.37, 6)) <= 7
