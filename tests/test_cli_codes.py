"""`segue encode` and `segue decode`: the sound is that of `segue reconstruct`, and bad input costs one line."""

from __future__ import annotations

import shutil

import pytest
import soundfile
import tiny

from segue import audio
from segue.bundle import BUNDLED, codec_part
from segue.codec.file import CodedAudio, read_codes, to_bytes, write_codes
from segue.codec.refinement import ROUNDS


def refused(outcome, folder, about: str) -> None:
    """One line of refusal, and no half-made file in `folder`."""
    assert outcome.code == 2 and outcome.out == "", outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("segue: ") and about in lines[0], outcome.err
    assert [path for path in folder.rglob("*") if path.name.startswith((".", "out"))] == []


@pytest.fixture
def coded(bundle) -> CodedAudio:
    """Half a second of codes of the tiny bundle's codec."""
    codes = bundle.codec.encode(tiny.waves(1, 0.5), num_codebooks=3)[0]
    return CodedAudio(codes, 16_000, 320, 8000, tiny.CODES, bundle.codec.fingerprint)


@pytest.mark.parametrize("codebooks", [1, 3, None])
def test_encode_then_decode_is_reconstruct(cli, tmp_path, bundle_folder, codebooks):
    sound = tmp_path / "in.flac"
    soundfile.write(sound, tiny.sound(1.01, 0, 22_050)[:-7], 22_050)
    more = ("--bundle", bundle_folder, *(() if codebooks is None else ("--codebooks", codebooks)))
    assert cli("reconstruct", sound, "--out", tmp_path / "once.wav", *more).code == 0
    encoded = cli("encode", sound, "--out", tmp_path / "new" / "x.segue", *more)
    assert encoded.code == 0 and encoded.out == "" and "resampled from 22050 Hz" in encoded.err, encoded
    sound.unlink()
    decoded = cli("decode", tmp_path / "new" / "x.segue", "--out", tmp_path / "twice.wav", "--bundle", bundle_folder)
    assert decoded.code == 0 and decoded.out == "", decoded
    assert (tmp_path / "twice.wav").read_bytes() == (tmp_path / "once.wav").read_bytes()
    read = read_codes(tmp_path / "new" / "x.segue")
    assert read.num_codebooks == (codebooks or 12)
    assert read.samples == soundfile.info(tmp_path / "twice.wav").frames
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["once.wav", "twice.wav", "x.segue"]


@pytest.mark.parametrize(("codebooks", "usual"), [(3, 4), (6, 4), (7, 1), (12, 1)])
def test_few_codes_are_searched_for_unless_it_is_said(cli, tmp_path, bundle_folder, speech, codebooks, usual):
    made = {}
    for candidates in (None, 1, 4):
        out = tmp_path / f"{candidates}.segue"
        more = () if candidates is None else ("--candidates", candidates)
        done = cli("encode", speech, "--out", out, "--bundle", bundle_folder, "--codebooks", codebooks, *more)
        assert done.code == 0, done
        made[candidates] = out.read_bytes()
    assert made[1] != made[4] and made[None] == made[usual]


def test_codes_are_refined_unless_it_is_said(cli, tmp_path, bundle_folder, speech):
    made, waves = {}, {}
    for rounds in (None, 0, ROUNDS):
        out, wave = tmp_path / f"{rounds}.segue", tmp_path / f"{rounds}.wav"
        more = ("--bundle", bundle_folder, *(() if rounds is None else ("--refine", rounds)))
        assert cli("encode", speech, "--out", out, *more).code == 0
        assert cli("reconstruct", speech, "--out", wave, *more).code == 0
        made[rounds], waves[rounds] = out.read_bytes(), wave.read_bytes()
    assert made[None] == made[ROUNDS] != made[0] and waves[None] == waves[ROUNDS] != waves[0]


def test_both_tell_size_and_rates(cli, tmp_path, bundle_folder, speech):
    out = tmp_path / "x.segue"
    encoded = cli("encode", speech, "--out", out, "--bundle", bundle_folder, "--codebooks", 6)
    decoded = cli("decode", out, "--out", tmp_path / "x.ogg", "--bundle", bundle_folder)
    size = out.stat().st_size
    figures = f"1.50 s; {size} bytes, {8 * size / 1500:.2f} kbit/s as a file, codes 1.2 kbit/s (6 codebooks)"
    assert encoded.err == f"{out}: {figures}\n"
    assert decoded.err == f"{tmp_path / 'x.ogg'}: {figures}\n"


@pytest.mark.parametrize(
    ("out", "more", "about"),
    [
        ("out.wav", (), "ends in .segue"),
        ("out", (), "ends in .segue"),
        ("out.segue", ("--codebooks", 0), "num_codebooks 0"),
        ("out.segue", ("--codebooks", 13), "num_codebooks 13"),
        ("out.segue", ("--candidates", 0), "candidates 0"),
        ("out.segue", ("--refine", -1), "refinement of -1 rounds: 0 to 1000"),
        ("out.segue", ("--threads", 0), "--threads 0"),
        ("out.segue", ("--bundle", "speach"), "bundle speach"),
    ],
)
def test_options_of_encode_out_of_range_are_refused(cli, tmp_path, bundle_folder, speech, out, more, about):
    refused(cli("encode", speech, "--out", tmp_path / out, "--bundle", bundle_folder, *more), tmp_path, about)


@pytest.mark.parametrize("kind", ["missing", "text", "silence"])
def test_a_bad_recording_is_not_encoded(cli, tmp_path, bundle_folder, kind):
    path = tmp_path / "in.wav"
    if kind == "text":
        path.write_text("not a sound " * 400)
    elif kind == "silence":
        soundfile.write(path, 0 * tiny.sound(1), 16_000)
    about = {"missing": "no such file", "text": "not a sound file", "silence": "nothing but silence"}[kind]
    refused(cli("encode", path, "--out", tmp_path / "out.segue", "--bundle", bundle_folder), tmp_path, about)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "sound", "cut", "corrupt", "newer"])
def test_a_bad_file_of_codes_is_not_decoded(cli, tmp_path, bundle_folder, speech, coded, kind):
    path, whole = tmp_path / "in.segue", to_bytes(coded)
    contents = {
        "empty": (b"", "the file is empty"),
        "sound": (speech.read_bytes(), "not a .segue file"),
        "cut": (whole[:-5], "cut short"),
        "corrupt": (whole[:-20] + bytes(4) + whole[-16:], "corrupt"),
        "newer": (whole[:8] + b"\x02" + whole[9:], "format 2"),
    }
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(contents[kind][0])
    about = {"missing": "no such file", "folder": "a folder"}.get(kind) or contents[kind][1]
    outcome = cli("decode", path, "--out", tmp_path / "out.wav", "--bundle", bundle_folder)
    refused(outcome, tmp_path, about)
    assert str(path) in outcome.err


def test_codes_of_another_codec_are_refused_with_the_bundle_to_give(cli, tmp_path, bundle_folder, speech, coded):
    path, out = tmp_path / "in.segue", tmp_path / "out.wav"
    assert cli("encode", speech, "--out", path).code == 0
    bundled = read_codes(path).fingerprint
    assert bundled == codec_part(BUNDLED / "speech").token_fingerprint
    assert path.stat().st_size < 75 * 15 + 200
    outcome = cli("decode", path, "--out", out, "--bundle", bundle_folder)
    refused(outcome, tmp_path, f"made by the codec {bundled}, but the bundle")
    assert coded.fingerprint in outcome.err and "speech" in outcome.err.split("give --bundle ")[1]
    write_codes(path, coded)
    outcome = cli("decode", path, "--out", out)
    refused(outcome, tmp_path, f"made by the codec {coded.fingerprint}, but the bundle speech reads those of {bundled}")
    assert "give --bundle FOLDER, the bundle" in outcome.err


def test_codes_that_belie_their_codec_are_refused(cli, tmp_path, bundle_folder, coded):
    write_codes(tmp_path / "in.segue", CodedAudio(coded.codes, 8000, 320, 8000, tiny.CODES, coded.fingerprint))
    outcome = cli("decode", tmp_path / "in.segue", "--out", tmp_path / "out.wav", "--bundle", bundle_folder)
    refused(outcome, tmp_path, "sample_rate 8000")


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_an_output_that_can_not_be_written_is_refused(cli, tmp_path, bundle_folder, speech, coded, verb):
    write_codes(tmp_path / "in.segue", coded)
    (tmp_path / "file").write_text("in the way")
    source, name = (speech, "out.segue") if verb == "encode" else (tmp_path / "in.segue", "out.wav")
    outcome = cli(verb, source, "--out", tmp_path / "file" / name, "--bundle", bundle_folder)
    refused(outcome, tmp_path, "check folder and space")
    if verb == "decode":
        outcome = cli(verb, source, "--out", tmp_path / "out.segue", "--bundle", bundle_folder)
        refused(outcome, tmp_path, "can't write .segue")


def test_a_full_disk_leaves_what_was_there(cli, tmp_path, bundle_folder, small_disk):
    sound, out = tmp_path / "in.wav", tmp_path / "x.segue"
    soundfile.write(sound, tiny.sound(15), 16_000)
    out.write_bytes(b"before")
    with small_disk():
        outcome = cli("encode", sound, "--out", out, "--bundle", bundle_folder)
    refused(outcome, tmp_path, "check folder and space")
    assert out.read_bytes() == b"before"


def test_no_source_is_overwritten(cli, tmp_path, bundle_folder, speech, coded):
    sound, codes = tmp_path / "sound.segue", tmp_path / "codes.segue"
    shutil.copy(speech, sound)
    write_codes(codes, coded)
    (tmp_path / "link.wav").symlink_to(codes)
    for verb, source, out in (("encode", sound, sound), ("decode", codes, tmp_path / "link.wav")):
        outcome = cli(verb, source, "--out", out, "--bundle", bundle_folder)
        assert outcome.code == 2 and "would be lost" in outcome.err
    assert sound.read_bytes() == speech.read_bytes() and codes.read_bytes() == to_bytes(coded)
    assert audio.read(sound, 16_000).seconds == 1.5


def test_a_file_that_says_otherwise_than_its_codec_is_named(cli, tmp_path, bundle_folder, coded):
    path = tmp_path / "slow.segue"
    write_codes(path, CodedAudio(coded.codes, 8000, 320, 8000, tiny.CODES, coded.fingerprint))
    refused(cli("decode", path, "--out", tmp_path / "out.wav", "--bundle", bundle_folder), tmp_path, f"segue: {path}: ")
