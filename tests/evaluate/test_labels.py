"""Labels for measuring: phones of speech by pocketsphinx and hama, pitches and chords of MIDI files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from segue import audio
from segue.errors import SegueError
from segue.evaluate import notes, phones

LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")


def test_ipa_is_named_as_in_arpabet():
    assert phones.arpabet(["t͡ʃ", "ɝ", "oʊ", "̪", "d͡ʒ"]) == ["CH", "ER", "OW", "JH"]
    assert len(set(phones._ARPABET.values())) == 39


def test_what_is_missing_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "hama", None)
    with pytest.raises(SegueError, match=r'pocketsphinx and hama .* pip install "segue\[eval\]"'):
        phones.PhoneAligner()
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(SegueError, match=r'mido; pip install "segue\[eval\]"'):
        notes.spans(Path("song.mid"), "pitch")


@pytest.fixture(scope="module")
def aligner() -> phones.PhoneAligner:
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("hama")
    return phones.PhoneAligner()


@pytest.mark.skipif(not LIBRIVOX.is_dir(), reason="Debian's pocketsphinx-testdata is not installed")
def test_phones_found_without_a_transcript_are_mostly_those_of_it(aligner):
    name, said = "sense_and_sensibility_01_austen_64kb-0880", "he was not an ill disposed young man"
    wave = audio.read(LIBRIVOX / f"{name}.wav", 16_000).wave
    known, heard = aligner(wave, said), aligner(wave)
    assert [span.label for span in known][:3] == ["HH", "IY", "W"] and known[5].label == "N"
    edges = [(span.start_seconds, span.end_seconds) for span in known]
    assert all(start < end for start, end in edges) and edges == sorted(edges) and edges[-1][1] <= len(wave) / 16_000

    def frames(spans: list[phones.Span]) -> list[str]:
        row = [""] * (len(wave) // 160)
        for span in spans:
            for frame in range(round(span.start_seconds * 100), round(span.end_seconds * 100)):
                row[frame] = span.label
        return row

    pairs = [(a, b) for a, b in zip(frames(known), frames(heard), strict=True) if a]
    assert sum(a == b for a, b in pairs) / len(pairs) > 0.8


@pytest.mark.skipif(not LIBRIVOX.is_dir(), reason="Debian's pocketsphinx-testdata is not installed")
def test_words_that_no_dictionary_has_are_read_by_their_letters(aligner):
    wave = audio.read(LIBRIVOX / "sense_and_sensibility_01_austen_64kb-0880.wav", 16_000).wave
    assert aligner._decoder.lookup_word("dizpohzd") is None
    assert len(aligner(wave, "he was not an ill dizpohzd young man")) > 20


def test_silence_has_no_phones(aligner):
    with pytest.raises(SegueError, match="phones"):
        aligner(torch.zeros(16_000), "")


def write_midi(path: Path) -> Path:
    """A C major chord of a second, then its E alone struck again while the rest goes on, then D minor."""
    mido = pytest.importorskip("mido")
    track = mido.MidiTrack()
    for kind, note, ticks in [
        *(("note_on", note, 0) for note in (60, 64, 67)),
        ("note_off", 64, 960),
        ("note_on", 64, 0),
        ("note_off", 64, 480),
        ("note_off", 60, 0),
        ("note_on", 67, 0),  # struck again before it was let go
        ("note_off", 67, 0),
        ("note_off", 67, 0),
        ("note_on", 62, 0),
        ("note_on", 65, 5),
        ("note_on", 69, 5),
        ("note_off", 62, 470),
    ]:
        track.append(mido.Message(kind, note=note, velocity=64, time=ticks))
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    file.save(path)
    return path


def test_pitches_and_chords_of_a_midi_file(tmp_path):
    path = write_midi(tmp_path / "song.mid")
    pitches = notes.spans(path, "pitch")
    assert [(span.label, span.start_seconds, span.end_seconds) for span in pitches[:2]] == [
        ("67", 0.0, 1.0),
        ("64", 1.0, 1.5),
    ]
    assert pitches[-1].label == "69" and pitches[-1].start_seconds == pytest.approx(1.5)
    chords = notes.spans(path, "chord")
    assert [span.label for span in chords[:2]] == ["C E G", "C E G"] and "D F" in chords[-1].label
    assert "mido" in notes.versions()


def test_what_is_no_midi_file_is_refused(tmp_path):
    pytest.importorskip("mido")
    (tmp_path / "bad.mid").write_bytes(b"RIFF of something else")
    with pytest.raises(SegueError, match="not a MIDI file"):
        notes.spans(tmp_path / "bad.mid", "pitch")
