"""The command line where sound is made: streams, sound out of nothing, another voice, and the paper's baselines."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import soundfile
from test_cli import PROMPT, refused


def test_a_stream_writes_the_bytes_of_the_whole(cli, tmp_path, bundle_folder, speech):
    for name, more in (("whole", ()), ("stream", ("--stream",))):
        made = cli("continue", speech, "--bundle", bundle_folder, "--out", tmp_path / f"{name}.wav", *PROMPT, *more)
        assert made.code == 0, made
    assert (tmp_path / "stream.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_growing_file_can_be_played_before_it_is_done(tmp_path, bundle_folder, speech, child_environment):
    """A real process: at some time the file holds more than the prompt and less than all, and reads as sound."""
    out = tmp_path / "out.wav"
    command = [sys.executable, "-m", "segue.cli", "continue", str(speech), "--bundle", str(bundle_folder)]
    command += ["--prompt-seconds", "1", "--seconds", "60", "--stream", "--out", str(out)]
    process = subprocess.Popen(command, env=child_environment, stderr=subprocess.PIPE)
    heard = 0
    while process.poll() is None and not 16_000 < heard < 976_000:
        time.sleep(0.02)
        if out.exists() and out.stat().st_size > 44:
            heard = soundfile.info(out).frames
    process.kill()
    process.communicate()
    assert 16_000 < heard < 976_000
    wave, rate = soundfile.read(out)
    assert rate == 16_000 and len(wave) >= heard


def test_standard_output_takes_a_stream(tmp_path, bundle_folder, speech, child_environment):
    command = [sys.executable, "-m", "segue.cli", "continue", str(speech), "--bundle", str(bundle_folder), *PROMPT]
    piped = subprocess.run([*command, "--stream", "--out", "-"], env=child_environment, capture_output=True, check=True)
    subprocess.run([*command, "--out", str(tmp_path / "a.wav")], env=child_environment, capture_output=True, check=True)
    assert piped.stdout[:4] == b"RIFF" and piped.stdout[44:] == (tmp_path / "a.wav").read_bytes()[44:]


def test_sound_out_of_nothing(cli, tmp_path, bundle_folder):
    made = cli("generate", "--bundle", bundle_folder, "--out", tmp_path / "a.wav", "--seconds", "0.6", "--json")
    assert made.code == 0, made
    figures = json.loads(made.out)
    assert figures["prompt_seconds"] == 0 and figures["seconds_made"] == [0.6]
    assert soundfile.info(tmp_path / "a.wav").frames == 9600
    again = cli("generate", "--bundle", bundle_folder, "--out", tmp_path / "b.flac", "--seconds", "0.6")
    assert again.code == 0 and soundfile.info(tmp_path / "b.flac").frames == 9600


def test_a_recording_in_other_voices(cli, tmp_path, bundle_folder, speech):
    made = cli("generate", "--content", speech, "--bundle", bundle_folder, "--out", tmp_path / "a.wav", "--num", "2")
    assert made.code == 0, made
    waves = [soundfile.read(tmp_path / f"a-{index}.wav")[0] for index in range(2)]
    assert len(waves[0]) == len(waves[1]) == 16_000 * 148 // 100  # 37 whole semantic frames of 1.5 s
    assert (waves[0] != waves[1]).any()


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (("--out", "out.flac", "--stream"), "only WAV can be played while it grows"),
        (("--out", "-"), "with --stream and without --json"),
        (("--out", "-", "--stream", "--num", "2"), "standard output takes one sound"),
        (("--out", "out.wav", "--system", "half"), "--system half: one of full, acoustic-only, semantic-only"),
        (("--out", "out.wav", "--system", "acoustic-only"), "never trained without semantic tokens"),
    ],
)
def test_what_can_not_be_made_is_refused(cli, tmp_path, monkeypatch, bundle_folder, speech, options, about):
    monkeypatch.chdir(tmp_path)
    refused(cli("continue", speech, "--bundle", bundle_folder, *PROMPT, *options), tmp_path, about)


@pytest.mark.parametrize("stream", [("--stream",), ()])
@pytest.mark.parametrize(
    ("options", "about"),
    [
        (("--decoder", "parallel"), "this bundle has none"),
        (("--system", "acoustic-only"), "never trained without semantic tokens"),
        (("--iterations", "0"), "iterations 0"),
        (("--seed", "-1"), "seed -1: 0 or more"),
    ],
)
def test_a_refusal_leaves_what_was_there(cli, tmp_path, bundle_folder, options, about, stream):
    out = tmp_path / "old.wav"
    out.write_bytes(b"another take")
    told = cli("generate", "--bundle", bundle_folder, "--out", out, "--seconds", "1", *options, *stream)
    assert told.code == 2 and about in told.err and out.read_bytes() == b"another take"


def test_content_and_a_system_without_it_are_refused_together(cli, tmp_path, bundle_folder, speech):
    arguments = ("--content", speech, "--bundle", bundle_folder, "--out", tmp_path / "out.wav")
    refused(cli("generate", *arguments, "--system", "acoustic-only"), tmp_path, "leaves out the content")


def test_no_more_of_a_recordings_content_than_there_is(cli, tmp_path, bundle_folder, speech):
    arguments = ("--content", speech, "--bundle", bundle_folder, "--out", tmp_path / "out.wav", "--seconds", "2")
    refused(cli("generate", *arguments), tmp_path, "ask for less")


def test_a_numbered_output_never_replaces_the_recording(cli, tmp_path, bundle_folder, speech):
    source = tmp_path / "out-1.wav"
    source.write_bytes(speech.read_bytes())
    made = cli("continue", source, "--bundle", bundle_folder, "--out", tmp_path / "out.wav", *PROMPT, "--num", "2")
    assert made.code == 2 and "that is the recording itself" in made.err
    assert source.read_bytes() == speech.read_bytes()
