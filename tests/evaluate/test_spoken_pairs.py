"""Pseudo-words are no words but look like them; spoken pairs are equally long and loud; and the command line."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import soundfile
import tiny
import torch

from segue.errors import SegueError
from segue.evaluate.pairs import splices, synthesis
from segue.evaluate.pairs.find import find
from segue.evaluate.pairs.words import VOWELS, Phonotactics, heard, phones_of, plain, pseudo_words

FIRST, SECOND, LAST = ("bˈɪ", "kˈæ", "stˈu", "bɹˈæ", "plˈɪ", "mˈu"), ("kə", "nə", "tə", "mi", "ni"), ("", "n", "l")
EVERY = [a + b + c for a in FIRST for b in SECOND for c in LAST]
WORDS = {word: word for number, word in enumerate(EVERY) if number % 4}


@pytest.fixture(scope="module")
def made():
    return pseudo_words(WORDS, (), 100, 0)


def test_phones_keep_their_stress_and_length():
    assert phones_of("stɹˌAtfˈɔːɹ") == ["s", "t", "ɹ", "ˌA", "t", "f", "ˈɔː", "ɹ"]
    assert plain(phones_of("ˈɔːɹ")) == ("ɔː", "ɹ")
    assert heard("bˈʌtəɹ") == heard("bˈəɾəɹ")


def test_pseudo_words_are_no_words(made):
    words = {heard(word) for word in WORDS.values()}
    assert len(made) > 20
    assert not {heard(one.wrong) for one in made} & words
    assert len({heard(one.wrong) for one in made}) == len(made), "no two are alike"


def test_pseudo_words_keep_the_frame_of_their_word(made):
    for one in made:
        right, wrong = phones_of(one.right), phones_of(one.wrong)
        assert len(right) == len(wrong) and 1 <= sum(a != b for a, b in zip(right, wrong, strict=True)) <= 2
        for first, second in zip(right, wrong, strict=True):
            assert first.startswith("ˈ") == second.startswith("ˈ")
            assert (first[-1] in VOWELS) == (second[-1] in VOWELS)


def test_what_stands_together_in_them_does_so_in_the_list(made):
    seen = set()
    for word in WORDS.values():
        row = ("#", *plain(phones_of(word)), "#")
        seen |= set(zip(row, row[1:], row[2:], strict=False))
    for one in made:
        row = ("#", *plain(phones_of(one.wrong)), "#")
        assert set(zip(row, row[1:], row[2:], strict=False)) <= seen


def test_pseudo_words_are_as_likely_as_words(made):
    differences = [one.wrong_nats - one.right_nats for one in made]
    assert abs(sum(differences) / len(differences)) < 0.2
    sounds = Phonotactics(WORDS.values())
    assert all(one.right_nats == pytest.approx(sounds.nats(phones_of(one.right))) for one in made)
    assert sounds.nats(phones_of("ʃˈuts")) > sounds.nats(phones_of("stˈuk"))


def test_known_words_and_the_seed_are_heeded(made):
    assert pseudo_words(WORDS, (), 100, 0) == made
    assert pseudo_words(WORDS, (), 5, 1) != pseudo_words(WORDS, (), 5, 2)
    known = {made[0].wrong, made[1].wrong}
    assert not known & {one.wrong for one in pseudo_words(WORDS, known, 100, 0)}
    assert pseudo_words(WORDS, EVERY, 100, 0) == [] == pseudo_words({"ab": "ab"}, (), 9, 0)


class Voice:
    """Speaks a tone a phone."""

    voice, told, licence = "tone", "test 1", "CC0"

    def phonemes(self, text):
        return text

    def known(self):
        return []

    def speak(self, phonemes, speed):
        size = round(len(phonemes) * 1600 / speed)
        return 0.1 * torch.sin(torch.arange(size) * (0.1 + 0.001 * sum(map(ord, phonemes)) % 7))


def test_spoken_members_are_equally_long_and_loud():
    right, wrong = synthesis.alike(Voice(), "abcdefghij", "abcdefghi")
    assert len(right) == len(wrong) == round(9.5 * 1600)
    assert splices.level(right) == pytest.approx(splices.level(wrong), rel=1e-3)
    assert synthesis.alike(Voice(), "ab", "abcdef") is None, "stretched too far"
    assert synthesis.alike(Voice(), "", "") is None


def test_every_voice_speaks_every_pair():
    other = Voice()
    other.voice = "other"
    pairs = list(synthesis.of_words(WORDS, [Voice(), other], 3, 0))
    assert [(one.id, one.voice) for one in pairs[:2]] == [("00000", "tone"), ("00000", "other")] and len(pairs) == 6
    assert pairs[0].facts["licence"] == "CC0" and pairs[0].facts["right_text"] in WORDS
    sentences = [("dogs eat", "dogs eats", "agreement"), ("a", "a longer one by far", ""), ("x y", "y x", "")]
    found = list(synthesis.of_sentences(sentences, [Voice()], 2))
    assert [(one.kind, one.facts["type"]) for one in found] == [("sentence", "agreement")]


def test_lists_are_read_and_refused(tmp_path):
    path = tmp_path / "list"
    path.write_text("brick\tbɹˈɪk\n\nwater\n", encoding="utf-8")
    assert synthesis.read_words(path) == {"brick": "bɹˈɪk", "water": ""}
    with pytest.raises(SegueError, match="line 3: right sentence"):
        synthesis.read_sentences(path)
    path.write_text("dogs eat\tdogs eats\tagreement\nhe runs\the run\n")
    assert synthesis.read_sentences(path) == [("dogs eat", "dogs eats", "agreement"), ("he runs", "he run", "")]
    with pytest.raises(SegueError, match="line 1: a word"):
        synthesis.read_words(path)
    path.write_text("same\tsame\n")
    with pytest.raises(SegueError, match="line 1: right sentence"):
        synthesis.read_sentences(path)
    path.write_text("\n")
    with pytest.raises(SegueError, match="nothing in it"):
        synthesis.read_words(path)
    with pytest.raises(SegueError, match="can't be read"):
        synthesis.read_words(tmp_path / "gone")


def test_a_missing_synthesiser_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(SegueError, match=r'pip install "segue\[synth\]"'):
        synthesis.Hibari()


def test_the_package_speaks_words_and_pseudo_words(cli, tmp_path):
    pytest.importorskip("hibari")
    (tmp_path / "words").write_text("".join(f"{w}\t{w}\n" for w in WORDS), encoding="utf-8")
    run = cli("evaluate", "pairs", "make", "--kind", "words", "--words", tmp_path / "words", "--limit", 2, "--out",
              tmp_path / "out")  # fmt: skip
    assert run.code == 0, run.err
    (found,) = find([tmp_path / "out"])
    assert found.kind == "word" and len(found.pairs) == 2 and "hibari-tts" in found.pairs[0].facts["source"]
    lengths = [soundfile.info(path).frames for pair in found.pairs for path in (pair.right, pair.wrong)]
    assert lengths[0] == lengths[1] > 1600
    with pytest.raises(SegueError, match="--voice nobody: one of heart"):
        synthesis.Hibari("nobody")


def test_other_languages_are_spoken_by_espeak(cli, tmp_path, monkeypatch):
    words, spelt = tmp_path / "mots.txt", [a + b + c for a in "bmsl" for b in "aeio" for c in ("ta", "to", "ni", "no")]
    words.write_text("\n".join(word for number, word in enumerate(spelt) if number % 5))
    arguments = ("evaluate", "pairs", "make", "--kind", "words", "--words", words, "--limit", 4)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        without = cli(*arguments, "--voice", "espeak:fr", "--out", tmp_path / "none")
    assert without.code == 2 and "apt-get install espeak-ng" in without.err and not (tmp_path / "none").exists()
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    unknown = cli(*arguments, "--voice", "espeak:nowhere", "--out", tmp_path / "none")
    assert unknown.code == 2 and "espeak-ng" in unknown.err
    assert cli(*arguments, "--voice", "espeak:fr", "--out", tmp_path / "pairs").code == 0
    (found,) = find([tmp_path / "pairs"])
    assert found.pairs and all(pair.voice == "espeak:fr" for pair in found.pairs)
    assert all(pair.facts["right_text"] in words.read_text().split() for pair in found.pairs)
    assert not {pair.facts["wrong_phonemes"] for pair in found.pairs} & set(words.read_text().split())


def test_members_that_sound_the_same_are_no_pair():
    class Deaf(Voice):
        def speak(self, phonemes, speed):
            return super().speak("aba", speed)

    assert synthesis.alike(Deaf(), "aba", "abo") is None


def test_pairs_of_sound_by_the_command_line(cli, tmp_path):
    rows = []
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(7.5, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": "a", "licence": "CC0"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = cli("evaluate", "pairs", "make", "--kind", "audio", "--data", tmp_path, "--limit", 1, "--out", tmp_path / "o")
    assert run.code == 0 and "1 continuation, 1 order, 1 reversed" in run.err, run.err
    assert len(find([tmp_path / "o"])) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "noise"), "one of words, sentences, audio"),
        (("--kind", "words"), "--kind words: give --words FILE"),
        (("--kind", "words", "--words", "w", "--sentences", "s"), "doesn't use --sentences"),
        (("--kind", "audio", "--data", "d", "--voice", "heart"), "doesn't use --voice"),
        (("--kind", "audio", "--data", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_bad_options_cost_one_line(cli, tmp_path, arguments, said):
    run = cli("evaluate", "pairs", "make", "--out", tmp_path / "out", *arguments)
    assert run.code == 2 and said in run.err and not (tmp_path / "out").exists()
