"""Scorers behind their seam: what is missing is told with what installs it, what fails is told and never a number."""

from __future__ import annotations

import importlib.util
import math
import sys

import numpy as np
import pytest
import scorer_stubs as stubs
import tiny
import torch

from segue.errors import SegueError
from segue.evaluate import scorers
from segue.evaluate.bench import Bench
from segue.evaluate.cache import Cache
from segue.evaluate.fidelity import fidelity
from segue.evaluate.scorers import words
from segue.evaluate.scorers.seam import Scorer

WAVE = torch.from_numpy(tiny.sound(3.2))
NOTHING = torch.zeros(0)
MODULES = {
    "pesq": "pesq",
    "stoi": "pystoi",
    "si_sdr": "torchmetrics",
    "visqol": "visqol",
    "distillmos": "distillmos",
    "dnsmos": "speechmos",
    "voice": "resemblyzer",
    "words": "faster_whisper",
    "notes": "basic_pitch",
    "tempo": "librosa",
}


@pytest.mark.parametrize("name", [name for name in scorers.SCORERS if name in MODULES])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, monkeypatch):
    for inner in [module for module in sys.modules if module.startswith(f"{MODULES[name]}.")]:
        monkeypatch.delitem(sys.modules, inner)  # or what was imported before would be found
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    bench = Bench((name,), "speech", tiny.RATE)
    pair = (WAVE, WAVE) if name in PAIRS else (WAVE,)
    assert bench(name, *pair) is None
    assert "pip install" in bench.missing[name] and bench.versions == {}


def test_a_version_that_is_not_installed_is_missed_before_anything_is_imported(monkeypatch):
    gone = Scorer("voice", ("no-such-distribution",), "pip install it", 16_000, lambda: pytest.fail("made"))
    monkeypatch.setattr(scorers, "scorer", lambda name, kind: gone)
    bench = Bench(("voice",), "speech", tiny.RATE)
    assert bench.missing == {"voice": "no-such-distribution is not installed; pip install it"}
    assert math.isnan(bench.number("voice", WAVE)) and not bench.has("voice")


def test_there_is_no_other_scorer():
    with pytest.raises(SegueError, match="scorer loveliness: one of pesq, "):
        scorers.scorer("loveliness", "speech")


def test_a_value_is_measured_once_and_found_by_its_sound(tmp_path, monkeypatch):
    calls = []
    stubs.use(monkeypatch, distillmos=lambda wave: calls.append(len(wave)) or 4.0)
    for _ in range(2):
        bench = Bench(("distillmos",), "speech", tiny.RATE, Cache(tmp_path))
        assert bench("distillmos", WAVE) == 4.0 and bench("distillmos", WAVE * 0.5) == 4.0
    assert len(calls) == 2


def test_kept_values_depend_on_version_and_setting(tmp_path, monkeypatch):
    made = Scorer("tempo", (), "", 16_000, lambda: lambda wave: 1.0, setting="one")
    monkeypatch.setattr(scorers, "scorer", lambda name, kind: made)
    assert Bench(("tempo",), "speech", tiny.RATE, Cache(tmp_path))("tempo", WAVE) == 1.0
    other = Scorer("tempo", (), "", 16_000, lambda: lambda wave: 2.0, setting="two")
    monkeypatch.setattr(scorers, "scorer", lambda name, kind: other)
    assert Bench(("tempo",), "speech", tiny.RATE, Cache(tmp_path))("tempo", WAVE) == 2.0
    newer = Scorer("tempo", ("numpy",), "", 16_000, lambda: lambda wave: 3.0, setting="one")
    monkeypatch.setattr(scorers, "scorer", lambda name, kind: newer)
    bench = Bench(("tempo",), "speech", tiny.RATE, Cache(tmp_path))
    assert bench("tempo", WAVE) == 3.0 and bench.versions == {"numpy": np.__version__}


def test_what_fails_is_told_and_never_a_number(tmp_path, monkeypatch):
    def refuses(wave):
        raise ValueError("no voice in it")

    stubs.use(monkeypatch, voice=refuses, distillmos=lambda wave: math.nan)
    for _ in range(2):  # the second time what is kept is read
        bench = Bench(("voice", "distillmos", "pesq"), "speech", tiny.RATE, Cache(tmp_path))
        assert bench.vector("voice", WAVE) is None and math.isnan(bench.number("distillmos", WAVE))
        assert bench("pesq", WAVE, NOTHING) is None and bench("pesq", torch.zeros(32_000), WAVE) is None
        assert bench.failed["voice"] == ["ValueError: no voice in it"]
        assert bench.failed["distillmos"] == ["the score is no number"]
        assert "0.00 s is too short" in bench.failed["pesq"][0] and bench.failed["pesq"][1] == "the original is silent"
        assert "voices: no value for 1 sounds" in "\n".join(bench.notes({"voice": "voices"}))
    assert bench.missing == {} and bench.versions == {}


def test_waves_are_cut_to_one_length_and_brought_to_the_scorers_rate(monkeypatch):
    lengths = []
    stubs.use(monkeypatch, pesq=lambda *waves: lengths.append([len(wave) for wave in waves]) or 1.0)
    Bench(("pesq",), "speech", 32_000)("pesq", torch.ones(64_000), torch.ones(48_000))
    assert lengths == [[24_000, 24_000]]


def test_fidelity_leaves_out_what_is_missing(monkeypatch):
    stubs.use(monkeypatch, pesq=ImportError("no pesq"))
    bench = Bench(("pesq", "stoi", "voice", "distillmos"), "speech", tiny.RATE)
    found = fidelity(bench, WAVE, WAVE)
    assert set(found) == {"stoi", "speaker_similarity", "distillmos"}
    assert found["speaker_similarity"] == pytest.approx(1.0)
    assert bench.missing == {"pesq": "no pesq; pip install pesq"}


def test_si_sdr_is_its_formula():
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed (extra eval)")
    si_sdr_db = scorers.scorer("si_sdr", "speech").make()
    rng = np.random.default_rng(0)
    one = rng.standard_normal(16_000)
    noise = rng.standard_normal(16_000)
    noise -= one * (noise @ one) / (one @ one)
    noise *= np.linalg.norm(one) / np.linalg.norm(noise) / 10
    assert si_sdr_db(one, 3 * (one + noise)) == pytest.approx(20, abs=0.05)
    assert si_sdr_db(one, one) > 100 and math.isnan(si_sdr_db(np.zeros(100), one[:100]))
    assert math.isnan(si_sdr_db(one, np.zeros(16_000)))


def test_errors_are_of_words_whatever_their_case_and_punctuation():
    pytest.importorskip("jiwer", reason="jiwer is not installed (extra eval)")
    found = words.errors("The CAT sat, on it.", "the cat sat on  it")
    assert found["word_errors"] == found["character_errors"] == 0 and found["words"] == 5
    assert words.errors("a b c d", "a x c") == {
        "word_errors": 2,
        "words": 4,
        "character_errors": 3,
        "characters": 7,
    }
    assert words.errors("yes", "")["word_errors"] == 1
    with pytest.raises(SegueError, match="no word in the reference"):
        words.errors("...", "yes")


def test_weights_that_can_not_be_had_are_told(tmp_path, monkeypatch):
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra eval)")
    monkeypatch.setenv(words.ENVIRONMENT, str(tmp_path))
    bench = Bench(("words",), "speech", tiny.RATE)
    assert bench("words", WAVE) is None
    assert "Whisper's weights" in bench.missing["words"] and words.ENVIRONMENT in bench.missing["words"]


PAIRS = {"pesq", "stoi", "visqol", "si_sdr"}


@pytest.mark.parametrize("name", [name for name in scorers.SCORERS if name not in ("words", "notes")])
def test_real_scorers_bear_silence_and_shreds(name):
    """With the package where it is installed; CI has none of the extra, and says so."""
    if name in MODULES and importlib.util.find_spec(MODULES[name]) is None:
        pytest.skip(f"{MODULES[name]} is not installed (extra eval)")
    bench = Bench((name,), "speech", tiny.RATE)
    made = WAVE + 0.01 * torch.randn(len(WAVE), generator=tiny.rng())
    sound = bench(name, *(WAVE, made)[: 2 if name in PAIRS else 1])
    if name in bench.missing:
        pytest.skip(bench.missing[name])
    assert sound is not None
    for wave in (torch.zeros(16_000), NOTHING, torch.zeros(2)):
        bench(name, *(WAVE, wave)[-(2 if name in PAIRS else 1) :])
    assert bench.failed[name]
