"""The runner of suites: each section kept at once, failures told, nothing made twice or mixed, also after a kill."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import soundfile
import stub_suites
import tiny

from segue.data.lock import locked
from segue.errors import SegueError
from segue.evaluate import report, run, section
from segue.evaluate.recordings import fingerprint, held_out
from segue.evaluate.scorers import SCORERS, scorer


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four recordings of two speakers."""
    folder = tmp_path_factory.mktemp("data") / "valid"
    folder.mkdir()
    rows = []
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", tiny.sound(3.2, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": f"speaker {number % 2}"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def stubbed(monkeypatch):
    monkeypatch.setattr(run, "suite", stub_suites.named)


def states(told: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(name, state) for name, state, _ in told if state != "begun"]


def test_every_suite_leaves_its_section_and_a_failed_one_its_reason(bundle, data, tmp_path, stubbed):
    told, steps = [], []
    found = run.run(
        bundle,
        stub_suites.asked(data),
        ["detector", "codec", "lm"],
        tmp_path / "report",
        tell=lambda *step: steps.append(step),
        told=lambda *state: told.append(state),
    )
    assert states(told) == [("codec", "done"), ("lm", "done"), ("detector", "failed")]
    assert found.suites["detector"].failed == "no speaker is known; name them"
    assert report.read(tmp_path / "report") == found
    sections = report.sections(found, tmp_path / "report")
    assert list(sections) == ["codec", "lm"] and sections["codec"].suite == "codec"
    assert len(sections["codec"].tables[0].rows) == 8 and sections["codec"].seconds > 0
    assert ("codec", "full continuations", 4, 4) in steps
    settings = found.settings
    assert (settings.recordings, settings.speakers, settings.kind) == (4, 2, "speech")
    assert settings.bundle_fingerprint == bundle.fingerprint and settings.weights == "float32"
    assert found.suites["codec"].versions.keys() >= {"python", "torch"}
    assert not (tmp_path / "report" / "detector.json").exists()


def test_what_was_measured_is_measured_again_only_for_a_reason(bundle, data, tmp_path, stubbed, monkeypatch):
    out, told = tmp_path / "report", []

    def again(names=("codec", "detector"), **options) -> list[tuple[str, str]]:
        told.clear()
        run.run(bundle, stub_suites.asked(data), names, out, options, told=lambda *state: told.append(state))
        return states(told)

    assert again() == [("codec", "done"), ("detector", "failed")]
    first = (out / "codec.json").read_text()
    assert again() == [("codec", "kept"), ("detector", "failed")] and (out / "codec.json").read_text() == first
    assert again(codec={"codebooks": 3}) == [("codec", "done"), ("detector", "failed")]
    (out / "codec.json").unlink()
    assert again(codec={"codebooks": 3})[0] == ("codec", "done")
    here = run.versions("speech")
    monkeypatch.setattr(run, "versions", lambda kind: here | {"jiwer": "99"})
    assert again(codec={"codebooks": 3})[0] == ("codec", "done")
    assert again(["lm"]) == [("lm", "done")] and list(report.read(out).suites) == ["codec", "lm", "detector"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"seed": 1}, "seed 0 there, 1 now"),
        ({"limit": 2}, "limit 40 there, 2 now"),
        ({"seconds": 0.2}, "seconds made 0.4 there, 0.2 now"),
    ],
)
def test_no_folder_holds_figures_of_two_settings(bundle, data, tmp_path, stubbed, change, words):
    out = tmp_path / "report"
    run.run(bundle, stub_suites.asked(data), ["codec"], out)
    before = (out / "report.json").read_bytes()
    with pytest.raises(SegueError, match=rf"{words}.*give another --out"):
        run.run(bundle, stub_suites.asked(data, **change), ["codec"], out)
    assert (out / "report.json").read_bytes() == before


def test_bad_input_costs_one_line_and_nothing_is_begun(bundle, data, tmp_path, stubbed):
    asked = stub_suites.asked(data)
    with pytest.raises(SegueError, match="suite words: one of codec"):
        run.run(bundle, asked, ["words"], tmp_path / "a")
    with pytest.raises(SegueError, match="no such folder"):
        run.run(bundle, stub_suites.asked(tmp_path / "nowhere"), ["codec"], tmp_path / "b")
    with pytest.raises(SegueError, match="none of 4 recordings is 12 s long"):
        run.run(bundle, stub_suites.asked(data, prompt_seconds=10.0), ["codec"], tmp_path / "c")
    for inside in (data, data / "report"):
        with pytest.raises(SegueError, match="lies in the data"):
            run.run(bundle, asked, ["codec"], inside)
    assert not (data / "report").exists() and not (data / ".lock").exists()
    (tmp_path / "busy").mkdir()
    with locked(tmp_path / "busy"), pytest.raises(SegueError, match="another run is writing there"):
        run.run(bundle, asked, ["codec"], tmp_path / "busy")
    assert not any((tmp_path / name / "report.json").exists() for name in "abc")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SegueError, match="can't be written"):
        run.run(bundle, asked, ["codec"], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    for text, words in (
        ('{"format_version": 9}', "format 9"),
        ("[]", "JSON object"),
        ("{}", "format None"),
        ('{"format_version": 1, "settings": {}}', "evaluate anew"),
    ):
        folder = tmp_path / "foreign"
        folder.mkdir(exist_ok=True)
        (folder / "report.json").write_text(text)
        with pytest.raises(SegueError, match=words):
            run.run(bundle, asked, ["codec"], folder)
        assert (folder / "report.json").read_text() == text


def test_recordings_are_known_by_what_they_hold(data, tmp_path):
    found, _ = held_out([data], 10, 3.0, 0, 1.0)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in data.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    again, _ = held_out([moved], 10, 3.0, 0, 1.0)
    shorter, _ = held_out([data], 10, 2.0, 0, 1.0)
    assert fingerprint(found) == fingerprint(again)
    assert len({fingerprint(found), fingerprint(shorter), fingerprint(found[:3])}) == 3
    soundfile.write(moved / "0.wav", tiny.sound(3.2, 9), tiny.RATE)
    assert fingerprint(held_out([moved], 10, 3.0, 0, 1.0)[0]) != fingerprint(found)


def test_a_killed_evaluation_ends_as_an_unbroken_one(bundle, bundle_folder, data, tmp_path, stubbed, child_environment):
    out, log = tmp_path / "killed", tmp_path / "log"
    command = [sys.executable, Path(stub_suites.__file__), bundle_folder, data, out, log]
    child = subprocess.Popen(command, env=child_environment)
    made = lambda: log.read_text().count("made") if log.exists() else 0  # noqa: E731
    while made() < 3 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = made()
    assert 3 <= before < 8 and not (out / "codec.json").exists()
    assert not [path for path in out.rglob("*.json") if not json.loads(path.read_text())]
    subprocess.run(command, env=child_environment, check=True)
    assert 8 <= made() <= 9, "what was made before the kill is not made again, but for what was being written"
    run.run(bundle, stub_suites.asked(data), ["codec", "lm", "detector"], tmp_path / "unbroken")
    for name in ("codec", "lm"):
        killed, unbroken = (section.read(tmp_path / which / f"{name}.json") for which in ("killed", "unbroken"))
        assert killed.tables == unbroken.tables
    settings = [report.read(tmp_path / which).settings for which in ("killed", "unbroken")]
    assert settings[0] == settings[1]


def test_every_package_of_the_extra_is_watched():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w-]", line)[0] for line in project["optional-dependencies"]["eval"]}
    watched = set(run.PACKAGES) | {
        package for kind in ("speech", "piano") for name in SCORERS for package in scorer(name, kind).packages
    }
    assert names <= watched


def test_pairs_and_options_belong_to_their_suite(cli, bundle, bundle_folder, data, tmp_path, stubbed):
    pairs, out, heard = tmp_path / "pairs", tmp_path / "report", []
    pairs.mkdir()
    for name in ("right", "wrong"):
        soundfile.write(pairs / f"{name}.wav", tiny.sound(1.0), tiny.RATE)
    (pairs / "pairs.jsonl").write_text('{"id": "1", "kind": "word", "right": "right.wav", "wrong": "wrong.wav"}\n')
    asked = stub_suites.asked(data, pairs=(pairs,))
    for expected in ("done", "kept"):
        told = []
        found = run.run(bundle, asked, ["codec", "lm"], out, told=lambda *state, told=told: told.append(state))
        assert states(told) == [("codec", expected), ("lm", expected)]
    assert found.suites["codec"].options == {} and found.suites["lm"].options["pairs"][0].startswith("pairs")
    soundfile.write(pairs / "wrong.wav", tiny.sound(0.9), tiny.RATE)
    run.run(bundle, asked, ["codec", "lm"], out, told=lambda *state: heard.append(state))
    assert states(heard) == [("codec", "kept"), ("lm", "done")]
    common = ("--bundle", bundle_folder, "--data", data, "--out", out, "--prompt-seconds", 1, "--seconds", 0.4)
    none = cli("evaluate", "lm", *common, "--pairs", tmp_path / "nowhere")
    assert none.code == 2 and "nowhere: no such folder" in none.err
    few = cli("evaluate", "codec", *common, "--codebooks", 3, "--codebooks", 4)
    assert few.code == 0 and report.read(out).suites["codec"].options == {"codebooks": [3, 4]}


def test_the_kind_of_sound_is_what_the_bundle_tells(bundle):
    from dataclasses import replace

    assert run.kind_of(bundle)[0] == "speech"
    assert run.kind_of(replace(bundle, name="my piano")) == ("piano", "its name")
    fed = {"semantic": {"data": ["piano/train"]}}
    assert run.kind_of(replace(bundle, cards=fed)) == ("piano", "what it was trained on")
    mixed = fed | {"codec": {"data": ["speech/train", "piano/train"]}}
    assert run.kind_of(replace(bundle, cards=mixed))[0] == "speech"


def test_the_verbs_end_with_what_could_be_measured(cli, bundle_folder, data, tmp_path, stubbed):
    common = ("--bundle", bundle_folder, "--data", data, "--prompt-seconds", 1, "--seconds", 0.5)
    some = cli("evaluate", "all", *common, "--only", "codec", "--only", "detector", "--out", tmp_path / "a")
    assert some.code == 1 and "Loudness" in some.out and "RMS" in some.out
    assert "detector: not measured: no speaker is known; name them" in some.out
    assert "kind of sound: speech (by nothing that tells of piano)" in some.err
    assert "report.html: done" in some.err and "no speaker is known" in (tmp_path / "a" / "report.html").read_text()
    none = cli("evaluate", "detector", *common, "--out", tmp_path / "a")
    assert none.code == 2 and "no speaker" in none.out
    kept = cli("evaluate", "codec", *common, "--out", tmp_path / "a", "--kind", "speech")
    assert kept.code == 0 and "codec: kept from before" in kept.err and "Loudness" in kept.out
    other = cli("evaluate", "codec", *common, "--out", tmp_path / "a", "--seed", 4)
    assert other.code == 2 and "seed 0 there, 4 now" in other.err
    for wrong, words in (
        (("--only", "words"), "--only words: one of codec"),
        (("--only", "codec", "--skip", "codec"), "no suite is left"),
        (("--kind", "birds"), "--kind birds: one of speech, piano"),
    ):
        refused = cli("evaluate", "all", *common, *wrong, "--out", tmp_path / "b")
        assert refused.code == 2 and words in refused.err
    nothing = cli("evaluate", "codec", "--bundle", bundle_folder, "--data", tmp_path / "none", "--out", tmp_path / "b")
    assert nothing.code == 2 and str(tmp_path / "none") in nothing.err
    assert not (tmp_path / "b").exists()
