"""Pairs: read as they were written, refused where they are damaged, and without a clue beside what they are about."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import soundfile
import tiny
import torch

from segue.errors import SegueError
from segue.evaluate.pairs import make, sets, splices
from segue.evaluate.pairs.find import find
from segue.evaluate.recordings import held_out

ROWS = [
    {"id": "1", "kind": "word", "right": "a.wav", "wrong": "b.wav", "voice": "x", "licence": "CC0"},
    {"id": "1", "kind": "word", "right": "b.wav", "wrong": "a.wav", "voice": "y"},
    {"id": "2", "kind": "sentence", "right": "a.wav", "wrong": "b.wav", "group": "g"},
]


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("ab"):
        soundfile.write(tmp_path / f"{name}.wav", tiny.sound(0.4, number), tiny.RATE)
    write(tmp_path, ROWS)
    return tmp_path


def write(folder, rows):
    (folder / sets.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_is_read_as_a_set_a_kind(folder):
    sentence, word = find([folder])
    assert (word.kind, len(word.pairs), sentence.kind, len(sentence.pairs)) == ("word", 2, "sentence", 1)
    assert word.pairs[0].right == folder / "a.wav" and word.pairs[0].voice == "x"
    assert word.pairs[0].group == "1" and sentence.pairs[0].group == "g"
    assert word.pairs[0].facts == {"licence": "CC0"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"right": "gone.wav"}, "line 1.*gone.wav is not there"),
        ({"right": "/etc/a.wav"}, "inside the folder"),
        ({"wrong": "../a.wav"}, "inside the folder"),
        ({"kind": ""}, "kind ''"),
        ({"id": 7}, "id 7: text"),
        ({"voice": "y"}, "there twice"),
        ({"right": "pairs.jsonl"}, "not a sound file"),
    ],
)
def test_what_is_damaged_is_refused(folder, change, said):
    write(folder, [ROWS[0] | change, *ROWS[1:]])
    with pytest.raises(SegueError, match=said):
        find([folder])


@pytest.mark.parametrize(("text", "said"), [("", "no pairs"), ("[1]\n", "object"), ("{\n", "line 1: no JSON")])
def test_what_is_no_list_of_pairs_is_refused(folder, text, said):
    (folder / sets.FILE).write_text(text)
    with pytest.raises(SegueError, match=said):
        find([folder])


def test_folders_of_no_known_layout_are_refused(folder, tmp_path_factory):
    with pytest.raises(SegueError, match="no such folder"):
        find([folder / "nowhere"])
    with pytest.raises(SegueError, match=r"neither a pairs\.jsonl nor"):
        find([tmp_path_factory.mktemp("empty")])
    with pytest.raises(SegueError, match="two folders hold"):
        find([folder, folder])


LEXICAL = ("id", "filename", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC = ("id", "filename", "voice", "type", "subtype", "transcription", "correct")


@pytest.fixture
def challenge(tmp_path):
    """Folders like the challenge's: two words in two voices, and two types of sentences that share an id."""
    root = tmp_path / "zerospeech"
    words = [
        (number, f"{number}{voice}{correct}", voice, 3, "brick" if correct else "blick", "B R IH K", 4, correct)
        for number in (1, 2)
        for voice in "AB"
        for correct in (1, 0)
    ]
    sentences = [
        (1, f"{kind}{correct}", "A", kind, "s", "dogs eat" if correct else "dogs eats", correct)
        for kind in ("agreement", "binding")
        for correct in (0, 1)
    ]
    gold(root / "lexical" / "dev", LEXICAL, words)
    gold(root / "syntactic" / "dev", SYNTACTIC, sentences)
    (root / "lexical" / "test").mkdir()
    return root


def gold(folder, columns, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "gold.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    for row in rows:
        soundfile.write(folder / f"{row[1]}.wav", tiny.sound(0.3, len(row[1])), tiny.RATE)


def test_the_challenges_folders_are_read_as_they_are(challenge):
    lexical, syntactic = find([challenge])
    assert (lexical.name, lexical.kind, len(lexical.pairs)) == ("lexical/dev: word", "word", 4)
    assert {pair.voice for pair in lexical.pairs} == {"A", "B"} and len({pair.id for pair in lexical.pairs}) == 2
    assert all(pair.right.stem.endswith("1") and pair.wrong.stem.endswith("0") for pair in lexical.pairs)
    assert lexical.pairs[0].facts["right_text"] == "brick" and lexical.pairs[0].facts["frequency"] == "3"
    assert (syntactic.kind, len(syntactic.pairs)) == ("sentence", 2), "one id of two types is two pairs"
    assert {pair.facts["type"] for pair in syntactic.pairs} == {"agreement", "binding"}
    assert find([challenge / "lexical"])[0].pairs == lexical.pairs
    assert find([challenge / "lexical" / "dev"])[0].pairs == lexical.pairs


def test_a_challenge_that_does_not_fit_is_refused(challenge):
    (challenge / "lexical" / "dev" / "1A1.wav").unlink()
    with pytest.raises(SegueError, match=r"id 1, voice A: .*1A1\.wav is not there"):
        find([challenge])
    gold(challenge / "lexical" / "dev", LEXICAL, [(1, "1A1", "A", 3, "brick", "B", 4, 1)])
    with pytest.raises(SegueError, match="1 correct and 0 other"):
        find([challenge])
    gold(challenge / "lexical" / "dev", LEXICAL, [(1, "1A1", "A", 3, "brick", "B", 4, "yes")])
    with pytest.raises(SegueError, match="line 2: correct must be 1 or 0"):
        find([challenge])
    gold(challenge / "lexical" / "dev", LEXICAL[:5], [(1, "1A1", "A", 3, "brick")])
    with pytest.raises(SegueError, match="correct, word or transcription are needed"):
        find([challenge])
    for part in ("lexical", "syntactic"):
        (challenge / part / "dev" / "gold.csv").unlink()
    with pytest.raises(SegueError, match=r"no gold\.csv beside"):
        find([challenge])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two of one speaker, one of another, one too short."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number, (seconds, speaker) in enumerate([(8.0, "a"), (9.0, "a"), (8.0, "b"), (3.0, "b")]):
        soundfile.write(folder / f"{number}.wav", 0.5**number * tiny.sound(seconds, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": speaker, "licence": "CC0"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return held_out([folder], 10, 20.0, 0)[0]


@pytest.fixture(scope="module")
def spliced(recordings):
    return list(splices.from_recordings(recordings, tiny.RATE, 4, 0))


def test_spliced_members_are_equally_long_and_loud_and_begin_alike(spliced):
    assert {pair.kind for pair in spliced} == set(splices.KINDS)
    alike = round((splices.BEGINNING_SECONDS - splices.FADE_SECONDS) * tiny.RATE)
    for pair in spliced:
        assert len(pair.right) == len(pair.wrong) > 6 * tiny.RATE
        assert splices.level(pair.right) == pytest.approx(splices.level(pair.wrong), rel=0.02)
        assert torch.equal(pair.right[:alike], pair.wrong[:alike]) and not torch.equal(pair.right, pair.wrong)
        assert max(pair.right.abs().max(), pair.wrong.abs().max()) <= 1


def test_reordered_members_hold_the_same_samples(spliced):
    for pair in spliced:
        if pair.kind in ("order", "reversed"):
            assert torch.equal(pair.right.sort().values, pair.wrong.sort().values)


def test_wrong_continuations_are_of_the_same_speaker(spliced, recordings):
    found = [pair for pair in spliced if pair.kind == "continuation"]
    speakers = {one.item.id: one.item.facts["speaker"] for one in recordings}
    assert found and all(pair.facts["same_speaker"] for pair in found)
    for pair in found:
        own, other = pair.facts["recording"], pair.facts["wrong_recording"]
        assert own != other and speakers[own] == speakers[other] == "a", "b has no second recording long enough"


def test_voices_that_nobody_told_stand_in_only_where_no_other_is_known(recordings):
    def without(one):
        return replace(one, item=replace(one.item, facts={}))

    mixed = [*recordings[:2], *map(without, recordings[2:]), replace(without(recordings[2]), group=9)]
    found = [pair for pair in splices.from_recordings(mixed, tiny.RATE, 9, 0) if pair.kind == "continuation"]
    assert found and all(pair.facts["same_speaker"] for pair in found)
    nobody = [without(one) for one in recordings]
    found = [pair for pair in splices.from_recordings(nobody, tiny.RATE, 9, 0) if pair.kind == "continuation"]
    assert found and not any(pair.facts["same_speaker"] for pair in found)


def test_pairs_are_a_function_of_the_seed(spliced, recordings):
    again = list(splices.from_recordings(recordings, tiny.RATE, 4, 0))
    assert all(torch.equal(one.wrong, two.wrong) for one, two in zip(spliced, again, strict=True))
    others = list(splices.from_recordings(recordings, tiny.RATE, 4, 1))
    assert not all(torch.equal(one.wrong, two.wrong) for one, two in zip(spliced, others, strict=False))
    with pytest.raises(SegueError, match="none of 0 recordings"):
        list(splices.from_recordings([], tiny.RATE, 4, 0))


def test_a_cut_is_made_where_it_is_quiet():
    wave = torch.ones(1000)
    wave[600:640] = 0
    assert 610 <= splices.quietest(wave, 500, 200, 20) <= 630
    assert abs(splices.quietest(wave, 300, 100, 20) - 300) <= 100


def test_saved_pairs_are_read_as_they_were_made(recordings, tmp_path):
    numbers = make.save(make.of_recordings(recordings, 2, 0), tmp_path / "pairs")
    found = {one.kind: one for one in find([tmp_path / "pairs"])}
    assert {kind: len(one.pairs) for kind, one in found.items()} == dict(numbers)
    pair = found["order"].pairs[0]
    assert pair.facts["licence"] == "CC0" and pair.facts["recording"].endswith(".wav")
    right, rate = soundfile.read(pair.right)
    assert rate == make.RATE and len(right) == len(soundfile.read(pair.wrong)[0])
    make.save(make.of_recordings(recordings, 1, 0), tmp_path / "pairs")
    assert len(find([tmp_path / "pairs"])[0].pairs) == 1, "in the place of what was there"


def test_what_else_is_in_a_folder_is_not_lost(recordings, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SegueError, match="would be lost"):
        make.save(make.of_recordings(recordings, 1, 0), tmp_path)
    with pytest.raises(SegueError, match="not one pair"):
        make.save([], tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
