"""Making a test: what raters get tells nothing, the same command makes the same test, what can't be made is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from conftest import small

from segue.errors import SegueError
from segue.evaluate import generations
from segue.listen import make as making
from segue.listen.key import read_key
from segue.listen.make import make, makers
from segue.listen.page import read_texts


def shown(test: Path) -> dict:
    """What the page knows."""
    return json.loads(re.search(r'id="test">(.*?)</script>', (test / "page/index.html").read_text(), re.DOTALL)[1])


def wave(test: Path, trial, side: int = 0) -> np.ndarray:
    return soundfile.read(test / "page/sounds" / f"{trial.sounds[side].id}.wav")[0]


def test_the_page_holds_no_answer(real_test, preference_test):
    for test in (real_test, preference_test):
        key, page = read_key(test), shown(test)
        text = (test / "page/index.html").read_text()
        assert not [name for name in key.recordings if Path(name).stem in text]
        assert page.keys() == {"test", "kind", "prompt_seconds", "seconds", "ears", "forms"}
        allowed = {"id", "sounds", "after"}
        assert all(trial.keys() <= allowed for form in page["forms"] for trial in form)
        for form, trials in enumerate(page["forms"]):
            assert {trial["id"] for trial in trials} == {trial.id for trial in key.trials if trial.form == form}
        named = {page["ears"]} | {sound for form in page["forms"] for trial in form for sound in trial["sounds"]}
        lying = {path.relative_to(test / "page").as_posix() for path in (test / "page").rglob("*.wav")}
        assert named == lying and all(re.fullmatch(r"sounds/[0-9a-f]{16}\.wav", name) for name in named)
        assert {path.name for path in (test / "page").iterdir()} == {"index.html", "sounds"}
        assert not re.search(r"https?://", text), "nothing from elsewhere"


def test_all_sounds_are_alike_but_for_what_follows(real_test):
    key, rate, cut = read_key(real_test), tiny.RATE, round(0.2 * tiny.RATE)
    for number in range(4):
        found = {trial.sounds[0].what: wave(real_test, trial) for trial in key.trials if trial.recording == number}
        assert found.keys() == {"real", "first"} and {len(one) for one in found.values()} == {round(0.4 * rate)}
        fade = round(0.005 * rate)
        assert np.array_equal(found["real"][: cut - fade], found["first"][: cut - fade])
        assert not np.array_equal(found["real"][cut:], found["first"][cut:])
    for trial in key.trials:
        if trial.part == "repeat":
            assert np.array_equal(wave(real_test, trial), wave(real_test, key.by_id[trial.of]))


def test_the_same_command_makes_the_same_test(bundle, held_out_sound, real_test, tmp_path, monkeypatch):
    make(makers(bundle, None, "real"), [held_out_sound], tmp_path / "again", small(), cache=real_test / "cache")
    files = sorted(path.relative_to(real_test / "page") for path in (real_test / "page").rglob("*") if path.is_file())
    assert all(
        (tmp_path / "again/page" / name).read_bytes() == (real_test / "page" / name).read_bytes() for name in files
    )
    assert read_key(tmp_path / "again") == read_key(real_test)
    make(makers(bundle, None, "real"), [held_out_sound], tmp_path / "other", small(seed=4))
    assert read_key(tmp_path / "other").test != read_key(real_test).test
    names = {trial.id for trial in read_key(real_test).trials}
    assert not names & {trial.id for trial in read_key(tmp_path / "other").trials}


def test_a_stopped_command_goes_on(bundle, held_out_sound, tmp_path, monkeypatch):
    whole, calls = generations.reconstruction, []

    def failing(context, number):
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(context, number)

    compared = makers(bundle, None, "real")
    monkeypatch.setattr(generations, "reconstruction", failing)
    with pytest.raises(KeyboardInterrupt):
        make(compared, [held_out_sound], tmp_path / "test", small())
    assert not (tmp_path / "test/key.json").exists() and not (tmp_path / "test/page").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "test/cache").iterdir()}
    make(compared, [held_out_sound], tmp_path / "test", small())
    assert before and all(path.stat().st_mtime_ns == time for path, time in before.items()), "nothing is made twice"
    assert read_key(tmp_path / "test").length == 8


def test_nothing_is_written_over(bundle, held_out_sound, real_test):
    with pytest.raises(SegueError, match="holds a listening test, and maybe answers"):
        make(makers(bundle, None, "real"), [held_out_sound], real_test, small())


def test_too_few_recordings_are_told_and_silence_is_left_out(bundle, tmp_path):
    tiny.corpus(tmp_path / "few", 4, 2.4)
    soundfile.write(tmp_path / "few/silent.wav", np.concatenate([tiny.sound(0.2), np.zeros(45_000)]), tiny.RATE)
    with pytest.raises(SegueError, match=r"4 recordings of 2\.2 s or more that aren't silent.*take 7"):
        make(makers(bundle, None, "real"), [tmp_path / "few"], tmp_path / "test", small(prompt_seconds=0.2))
    one = small(prompt_seconds=1.0, seconds=1.0)
    found = [one_ for one_ in making.held_out([tmp_path / "few"], 9, 3.0, 0, 1.0)[0] if making._is_heard(one_, one)]
    assert "silent" not in " ".join(recording.item.id for recording in found) and len(found) == 4


def test_what_is_compared_must_be_comparable(bundle, bundle_folder):
    assert [one.system for one in makers(bundle, None, "preference")] == ["full", "acoustic-only"]
    with pytest.raises(SegueError, match="add --kind preference"):
        makers(bundle, "acoustic-only", "real")
    with pytest.raises(SegueError, match="that is the system itself"):
        makers(bundle, "full", "preference")
    with pytest.raises(SegueError, match="that is the bundle itself"):
        makers(bundle, str(bundle_folder), "preference")


def test_two_bundles_can_be_compared(bundle, held_out_sound, tmp_path):
    other = tiny.make_bundle(tmp_path / "other", seed=1)
    compared = makers(bundle, str(other), "preference")
    key, _ = make(compared, [held_out_sound], tmp_path / "test", small("preference", trials=2))
    assert key.systems == tuple(f"tiny {one.bundle.fingerprint[:8]}" for one in compared)
    trial = next(trial for trial in key.trials if trial.part == "test")
    assert not np.array_equal(wave(tmp_path / "test", trial, 0), wave(tmp_path / "test", trial, 1))


def test_the_page_speaks_other_languages(bundle, held_out_sound, tmp_path):
    english = read_texts(None)
    spoken = english | {"language": "de", "title": "Hörtest </script> & mehr"}
    (tmp_path / "de.json").write_text(json.dumps(spoken))
    make(makers(bundle, None, "real"), [held_out_sound], tmp_path / "test", small(trials=2), texts=tmp_path / "de.json")
    page = (tmp_path / "test/page/index.html").read_text()
    assert '<html lang="de">' in page and "<title>Hörtest &lt;/script> &amp; mehr</title>" in page
    assert page.count("</script>") == 3, "no text ends an element"
    for broken, why in (
        (english | {"more": "x"}, "unknown: more"),
        ({"language": "de"}, "missing"),
        (english | {"play": 1}, "play"),
    ):
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(SegueError, match=why):
            read_texts(tmp_path / "broken.json")


def test_every_text_is_used_and_every_use_is_there():
    program = (Path(making.__file__).parent / "web/page.js").read_text()
    texts = read_texts(None)
    literal = set(
        re.findall(r'say\((?:two \? |unsent \? |before \? |served \? |test\.kind === "real" \? )?"(\w+)"', program)
    )
    assert literal <= texts.keys() | {name.rsplit("_", 1)[0] + "_" for name in texts}
    kinds = {name for name in texts if re.search(r"_(real|preference)(_[12])?$", name)}
    assert {name.replace("real", "preference") for name in kinds} | {"language"} >= {n for n in kinds if "pref" in n}
    unused = [name for name in texts.keys() - kinds if f'"{name}"' not in program]
    assert sorted(unused) == ["language", "needs_script", "sound_1", "sound_2", "title"]


def test_the_verb(cli, bundle_folder, held_out_sound, tmp_path):
    options = ("--bundle", bundle_folder, "--data", held_out_sound, "--prompt-seconds", "0.2", "--seconds", "0.2")
    outcome = cli("listen", "make", "--out", tmp_path / "test", "--trials", 2, *options)
    assert outcome.code == 0 and "6 trials a rater, real against full" in outcome.err and outcome.out == ""
    assert cli("listen", "make", "--out", tmp_path / "odd", "--trials", 3, *options).code == 2
    assert cli("listen", "make", "--out", tmp_path / "odd", "--kind", "both", *options).code == 2
