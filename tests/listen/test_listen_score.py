"""From answers to figures: who counts, what is refused, what is told."""

from __future__ import annotations

import json
import random

import pytest
import raters

from segue.errors import SegueError
from segue.listen.answers import collect, read_file
from segue.listen.key import ANSWERS, read_key
from segue.listen.plan import Trial
from segue.listen.score import score


def test_who_knows_is_always_right_and_who_says_the_same_half_of_the_time(key):
    experts = [raters.session(key, raters.knows, number, number % 2) for number in range(4)]
    found = score(key, experts)
    assert found.kept == found.finished and found.kept.share.share == 1 and found.kept.raters == 4
    assert found.kept.alpha == 1 and found.consistent.share == 1 and (found.failed, found.unfinished) == (0, 0)
    for answer in (1, 2):
        stubborn = [raters.session(key, raters.always(answer), number, number % 2) for number in range(4)]
        found = score(key, stubborn)
        assert found.kept.raters == 0 and found.failed == 4
        assert found.finished.share.share == 0.5 and found.finished.share.p == 1
        assert found.finished.detection.sensitivity == pytest.approx(0)
        assert (found.finished.detection.criterion > 0) == (answer == 1)
        assert found.finished.first_answer.share == (answer == 1)
        lax = [raters.session(key, raters.attentive(raters.always(answer)), n, n % 2) for n in range(4)]
        assert score(key, lax).kept.share.share == 0.5


def test_whoever_fails_one_check_is_left_out(key):
    good = raters.session(key, raters.knows, 1)
    for check in [trial for trial in key.trials if trial.form == 0 and trial.part == "check"]:
        slip = raters.session(key, lambda trial, check=check: 3 - trial.right if trial == check else trial.right, 2)
        found = score(key, [good, slip])
        assert (found.kept.raters, found.finished.raters, found.failed) == (1, 2, 1)
        assert found.checks[check.sounds[0].what].count == 1 and found.checks[check.sounds[0].what].total == 2


def test_repeats_tell_of_consistency_alone(key):
    moody = raters.session(key, lambda trial: 3 - trial.right if trial.part == "repeat" else trial.right)
    found = score(key, [moody])
    assert found.consistent.share == 0 and found.kept.share.share == 1 and found.kept.share.total == 4


def test_the_unfinished_are_counted_and_left_out(key):
    whole, half = raters.session(key, raters.knows, 1), raters.session(key, raters.knows, 2)
    half.answers.popitem()
    found = score(key, [whole, half])
    assert (found.unfinished, found.finished.raters) == (1, 1)
    empty = score(key, [half])
    assert empty.kept.share.total == 0 and empty.kept.alpha is None and empty.kept.detection is None


def test_recordings_are_counted_one_by_one(key):
    found = score(key, [raters.session(key, raters.knows, number, number % 2) for number in range(5)])
    assert [row.name for row in found.recordings] == list(key.recordings[:4])
    assert {(row.real.total, row.made.total) for row in found.recordings} == {(3, 2), (2, 3)}


def test_headphones_are_told(key):
    order = ("left-right", "right-left") if key.left_first else ("right-left", "left-right")
    some = [raters.session(key, raters.knows, n, ears=ears) for n, ears in enumerate((*order, "neither"))]
    assert (score(key, some).ears.count, score(key, some).ears.total) == (1, 3)


def test_guessing_is_chance_and_differs_between_raters(key):
    """Which guesses are right is drawn by rater and recording: names and bundles made here have no part in it."""

    def guesses(number: int) -> raters.Rule:
        def guess(trial: Trial) -> int:
            assert trial.right is not None
            lucky = random.Random(f"{number} {trial.recording} {trial.part}").random() < 0.5
            return trial.right if lucky else 3 - trial.right

        return raters.attentive(guess)

    found = score(key, [raters.session(key, guesses(number), number, number % 2) for number in range(200)])
    kept = found.kept
    assert kept.share.low < 0.5 < kept.share.high and abs(kept.alpha) < 0.1 and kept.share.p > 0.01
    assert kept.over_raters.low < kept.share.share < kept.over_raters.high
    assert abs(kept.detection.sensitivity) < 0.25


def test_preference_counts_systems_not_sides(preference_test):
    key = read_key(preference_test)
    found = score(key, [raters.session(key, raters.knows, number, number % 2) for number in range(4)])
    assert found.kept.share.share == 1 and found.kept.first_answer.share == 0.5 and found.kept.detection is None
    assert found.recordings[0].real is None and found.recordings[0].made.share == 1
    same_side = score(key, [raters.session(key, raters.attentive(raters.always(1)), n, n % 2) for n in range(4)])
    assert same_side.kept.share.share == 0.5 and same_side.kept.first_answer.share == 1
    assert score(key, [raters.session(key, raters.always(1))]).kept.raters == 0


def damage(key, one, what):
    whole = raters.downloaded(key, one)
    first = whole["answers"][0]
    changes = {
        "another test": {"test": "0" * 16},
        "no answers that this version": {"version": 2},
        "twice": {"answers": [first, first]},
        "none of this session's": {"answers": [first | {"trial": "f" * 16}]},
        "none of this session's ": {"session": one.id[:-1] + "1"},
        "answer 3": {"answers": [first | {"answer": 3}]},
        "another type": {"answers": [first | {"answer": True}]},
        "32 hexadecimal": {"session": "../../etc/passwd"},
        "YYYY-MM-DD": {"day": "yesterday"},
        "ears": {"ears": "big"},
        "no others": {"name": "Ada"},
    }
    return whole | changes[what]


@pytest.mark.parametrize(
    "what",
    [
        "another test",
        "no answers that this version",
        "twice",
        "none of this session's",
        "none of this session's ",
        "answer 3",
        "another type",
        "32 hexadecimal",
        "YYYY-MM-DD",
        "ears",
        "no others",
    ],
)
def test_foreign_and_doubled_answers_are_refused(key, tmp_path, what):
    path = raters.write(tmp_path / "a.json", damage(key, raters.session(key, raters.knows), what))
    with pytest.raises(SegueError, match=what.strip()) as refused:
        read_file(path, key)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(str(path))


def test_what_is_cut_off_is_refused(key, tmp_path):
    path = raters.write(tmp_path / "a.json", raters.downloaded(key, raters.session(key, raters.knows)))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(SegueError, match="cut off"):
        read_file(path, key)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(SegueError, match="cut off"):
        read_file(path, key)
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(SegueError, match="far shorter"):
        read_file(path, key)
    with pytest.raises(SegueError, match="can't be read"):
        read_file(tmp_path / "none.json", key)


def test_a_session_counts_once_however_often_it_comes(key, tmp_path):
    one, two = raters.session(key, raters.knows, 1), raters.session(key, raters.knows, 2)
    first = raters.write(tmp_path / "one.json", raters.downloaded(key, one))
    again = raters.write(tmp_path / "again.json", raters.downloaded(key, one))
    other = raters.write(tmp_path / "two.json", raters.downloaded(key, two))
    found, notes = collect(tmp_path, key, [first, again, other])
    assert {session.id for session in found} == {one.id, two.id} and score(key, found).kept.raters == 2
    assert len(notes) == 1 and "counted once" in notes[0] and "differ" not in notes[0]
    flipped = raters.session(key, raters.always(1), 1)
    raters.write(again, raters.downloaded(key, flipped))
    found, notes = collect(tmp_path, key, [first, again])
    assert score(key, found).kept.share.share == 1 and "the first ones count" in notes[0]


def test_a_broken_store_is_told_by_line(key, tmp_path):
    about = {"test": key.test, "session": raters.name(1), "ears": "neither", "day": "2026-01-31"}
    trial = next(trial for trial in key.trials if trial.form == 0)
    line = json.dumps({**about, "trial": trial.id, "answer": 1, "plays": 1})
    (tmp_path / ANSWERS).write_text(f"{line}\n{line[:40]}")
    found, notes = collect(tmp_path, key, [])
    assert len(found) == 1 and "cut off" in notes[0]
    (tmp_path / ANSWERS).write_text(f"{line}\n{line[:40]}\n")
    with pytest.raises(SegueError, match="line 2: no JSON"):
        collect(tmp_path, key, [])
    (tmp_path / ANSWERS).write_text(f"{line}\n{line}\n")
    with pytest.raises(SegueError, match="twice"):
        collect(tmp_path, key, [])


def test_the_verb_prints_tables_or_one_line(cli, real_test, key, tmp_path):
    files = [
        raters.write(tmp_path / f"{number}.json", raters.downloaded(key, raters.session(key, rule, number, number % 2)))
        for number, rule in enumerate((raters.knows, raters.knows, raters.always(2)))
    ]
    outcome = cli("listen", "score", real_test, *files, "--json")
    told = json.loads(outcome.out)
    assert outcome.code == 0 and outcome.out.count("\n") == 1
    assert told["kept"]["share"]["share"] == 1 and told["finished"]["share"]["count"] == 10 and told["failed"] == 1
    table = cli("listen", "score", real_test, *files)
    assert "100.0% (8 of 8)" in table.out and "83.3% (10 of 12)" in table.out and "left out: 1 who failed" in table.out
    nobody = cli("listen", "score", real_test)
    assert nobody.code == 2 and "no answers yet" in nobody.err and nobody.err.count("\n") == 1
    assert cli("listen", "score", tmp_path).code == 2
