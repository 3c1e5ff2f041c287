"""The command line: every verb, and what the caller can mend costs one line and exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue import audio
from segue.artifact import load_part
from segue.bundle import load
from segue.generate.tries import TRIES_APART

PROMPT = ("--prompt-seconds", "1", "--seconds", "0.4")
KEYS = {
    "out",
    "prompt_seconds",
    "seconds_made",
    "wall_seconds",
    "real_time_factor",
    "first_audio_seconds",
    "repeated_4grams",
    "seeds",
    "bundle",
    "bundle_fingerprint",
}


def refused(outcome, folder, about: str = "") -> None:
    """One line of refusal, and no half-made file in `folder`."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("segue: "), outcome.err
    assert about in lines[0] and "Traceback" not in outcome.err
    assert [path for path in folder.rglob("*") if path.name.startswith("out") or path.name.endswith(".part")] == []


def bad_prompt(kind: str, folder):
    path, wave = folder / f"{kind}.wav", tiny.sound(1.5)
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("not a sound " * 400)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, wave[:0], 16_000)
    elif kind == "short":
        soundfile.write(path, wave[:1500], 16_000)
    elif kind == "too short for the prompt":
        soundfile.write(path, wave[:12_000], 16_000)
    elif kind == "too short stereo at another rate":
        soundfile.write(path, np.stack([wave[:12_000]] * 2, axis=1), 22_050)
    elif kind == "silence":
        soundfile.write(path, 0 * wave, 16_000)
    elif kind == "NaN":
        wave[100] = np.nan
        soundfile.write(path, wave, 16_000, subtype="FLOAT")
    return path


BAD_PROMPTS = {
    "missing": "no such file",
    "folder": "a folder, not a sound file",
    "text": "not a sound file",
    "empty": "the file is empty",
    "no samples": "no samples",
    "short": "at least 0.1 s",
    "too short for the prompt": "0.75 s long, but --prompt-seconds asks for 1",
    "too short stereo at another rate": "give --prompt-seconds 0.54 or less",
    "silence": "nothing but silence",
    "NaN": "NaN",
}


@pytest.mark.parametrize("kind", BAD_PROMPTS)
def test_a_bad_prompt_is_refused(cli, tmp_path, bundle_folder, kind):
    path = bad_prompt(kind, tmp_path)
    outcome = cli("continue", path, "--out", tmp_path / "out.wav", "--bundle", bundle_folder, *PROMPT)
    refused(outcome, tmp_path, BAD_PROMPTS[kind])
    assert str(path) in outcome.err


@pytest.mark.parametrize("kind", ["missing", "text", "silence"])
def test_a_bad_recording_is_not_reconstructed(cli, tmp_path, bundle_folder, kind):
    path = bad_prompt(kind, tmp_path)
    refused(
        cli("reconstruct", path, "--out", tmp_path / "out.wav", "--bundle", bundle_folder), tmp_path, BAD_PROMPTS[kind]
    )


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (("--prompt-seconds", "0"), "--prompt-seconds 0"),
        (("--prompt-seconds", "nan"), "--prompt-seconds nan"),
        (("--prompt-seconds", "inf"), "--prompt-seconds inf"),
        (("--seconds", "0"), "seconds 0"),
        (("--seconds", "-3"), "seconds -3"),
        (("--seconds", "nan"), "seconds nan"),
        (("--seconds", "1e9"), "seconds 1e+09"),
        (("--num", "0"), "num 0"),
        (("--num", "100000000"), "num 100000000"),
        (("--tries", "0"), "tries 0: 1 to 100"),
        (("--num", "500", "--tries", "4"), "num 500 of 4 tries each"),
        (("--engine", "fast"), "segue: engine fast"),
        (("--weights", "int4"), "segue: weights int4"),
        (("--seed", "-1"), "seed -1: 0 or more"),
        (("--temperature", "1", "-1", "1"), "temperature -1"),
        (("--top-k", "0"), "top_k 0"),
        (("--top-p", "0"), "top_p 0"),
        (("--guidance", "-1"), "guidance -1"),
        (("--threads", "0"), "--threads 0"),
        (("--bundle", "speach"), "bundle speach"),
    ],
)
def test_an_option_out_of_range_is_refused(cli, tmp_path, bundle_folder, speech, options, about):
    outcome = cli("continue", speech, "--out", tmp_path / "out.wav", "--bundle", bundle_folder, *PROMPT, *options)
    refused(outcome, tmp_path, about)


@pytest.mark.parametrize("verb", ["continue", "reconstruct"])
@pytest.mark.parametrize(
    ("out", "about"),
    [
        ("file/out.wav", "can't be written"),
        ("/proc/out.wav", "can't be written"),
        ("x.aac", "can't write .aac"),
        ("folder.wav", "folder.wav: a folder"),
    ],
)
def test_a_place_that_can_not_be_written_is_refused(cli, tmp_path, bundle_folder, speech, verb, out, about):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.wav").mkdir()
    more = PROMPT if verb == "continue" else ()
    refused(cli(verb, speech, "--out", tmp_path / out, "--bundle", bundle_folder, *more), tmp_path, about)


@pytest.mark.parametrize("verb", ["continue", "reconstruct"])
def test_a_full_disk_is_refused(cli, tmp_path, bundle_folder, speech, small_disk, verb):
    more = PROMPT if verb == "continue" else ()
    with small_disk():
        outcome = cli(verb, speech, "--out", tmp_path / "out.wav", "--bundle", bundle_folder, *more)
    refused(outcome, tmp_path, "check folder and space")


@pytest.mark.parametrize("verb", ["continue", "info"])
@pytest.mark.parametrize("how", ["mixed", "corrupt", "part gone", "no bundle"])
def test_a_bad_bundle_is_refused(cli, tmp_path, bundle_folder, speech, verb, how):
    folder = shutil.copytree(bundle_folder, tmp_path / "copied")
    if how == "mixed":
        description = json.loads((folder / "bundle.json").read_text())
        description["parts"]["codec"]["fingerprint"] = "0123456789abcdef"
        (folder / "bundle.json").write_text(json.dumps(description))
    elif how == "corrupt":
        weights = folder / "semantic" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
    elif how == "part gone":
        shutil.rmtree(folder / "fine_stage")
    else:
        (folder / "bundle.json").unlink()
    about = {"mixed": "0123456789abcdef", "corrupt": "damaged", "part gone": "fine_stage", "no bundle": "bundle.json"}
    if verb == "info":
        refused(cli("info", folder), tmp_path, about[how])
    else:
        refused(cli("continue", speech, "--out", tmp_path / "out.wav", "--bundle", folder), tmp_path, about[how])


def test_it_goes_on_and_the_same_seed_gives_the_same_bytes(cli, tmp_path, bundle_folder, speech):
    def made(name: str, *more) -> bytes:
        outcome = cli("continue", speech, "--out", tmp_path / name, "--bundle", bundle_folder, *PROMPT, *more)
        assert outcome.code == 0 and outcome.out == "" and name in outcome.err, outcome
        return (tmp_path / name).read_bytes()

    first = made("a.wav", "--seed", "3")
    assert made("b.wav", "--seed", "3") == first != made("c.wav", "--seed", "4")
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 16_000 + 6400)
    prompt = audio.read(speech, 16_000).wave
    assert np.allclose(audio.read(tmp_path / "a.wav", 16_000).wave[:15_680], prompt[:15_680], atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "c.wav"]


def test_json_is_one_line_of_figures(cli, tmp_path, bundle_folder, speech):
    out = tmp_path / "new" / "x.flac"
    outcome = cli("continue", speech, "--out", out, "--bundle", bundle_folder, *PROMPT, "--seed", "7", "--json")
    assert outcome.code == 0 and outcome.err == "" and outcome.out.count("\n") == 1
    figures = json.loads(outcome.out)
    assert figures.keys() >= KEYS
    assert figures["out"] == [str(out)] and figures["seeds"] == [7]
    assert figures["seconds_made"] == [0.4] and figures["prompt_seconds"] == 1.0
    assert figures["wall_seconds"] > 0 and figures["real_time_factor"] > 0
    assert figures["bundle_fingerprint"] == load(bundle_folder).fingerprint


def test_of_several_tries_one_is_kept(cli, tmp_path, bundle_folder, speech):
    base = ("continue", speech, "--bundle", bundle_folder, *PROMPT)
    told = json.loads(cli(*base, "--out", tmp_path / "kept.wav", "--tries", "3", "--json").out)
    assert told["tries"] == 3 and told["seeds"] == [0] and told["out"] == [str(tmp_path / "kept.wav")]
    for number in range(3):
        cli(*base, "--out", tmp_path / f"{number}.wav", "--seed", number * TRIES_APART)
    kept = (tmp_path / "kept.wav").read_bytes()
    assert kept in [(tmp_path / f"{number}.wav").read_bytes() for number in range(3)]
    assert "the most fitting of 2 tries" in cli(*base, "--out", tmp_path / "kept.wav", "--tries", "2").err


def test_continue_makes_as_many_tries_as_the_bundle_does_unless_it_streams(cli, tmp_path, bundle_folder, speech):
    eager = tmp_path / "eager"
    shutil.copytree(bundle_folder, eager)
    description = json.loads((eager / "bundle.json").read_text())
    (eager / "bundle.json").write_text(json.dumps(description | {"tries": 3}))
    base = ("continue", speech, "--bundle", eager, *PROMPT, "--out", tmp_path / "x.wav", "--json")
    for more, tries in (((), 3), (("--stream",), 1), (("--tries", "2"), 2), (("--stream", "--tries", "1"), 1)):
        assert json.loads(cli(*base, *more).out)["tries"] == tries
    outcome = cli(*base, "--stream", "--tries", "2")
    assert outcome.code == 2 and "can't be chosen from; leave out --stream" in outcome.err


def test_several_are_numbered_and_each_is_as_made_alone(cli, tmp_path, bundle_folder, speech):
    base = ("continue", speech, "--bundle", bundle_folder, *PROMPT)
    outcome = cli(*base, "--out", tmp_path / "x.wav", "--seed", "5", "--num", "2", "--json")
    figures = json.loads(outcome.out)
    assert figures["seeds"] == [5, 6] and len(figures["seconds_made"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-0.wav", "x-1.wav"]
    cli(*base, "--out", tmp_path / "alone.wav", "--seed", "6")
    assert (tmp_path / "x-1.wav").read_bytes() == (tmp_path / "alone.wav").read_bytes()
    assert (tmp_path / "x-0.wav").read_bytes() != (tmp_path / "x-1.wav").read_bytes()


def test_a_stereo_prompt_of_another_rate_is_taken_and_said(cli, tmp_path, bundle_folder):
    path = tmp_path / "stereo.ogg"
    soundfile.write(path, np.stack([tiny.sound(1.5, 0, 44_100)] * 2, axis=1), 44_100)
    outcome = cli("continue", path, "--out", tmp_path / "x.wav", "--bundle", bundle_folder, *PROMPT)
    assert outcome.code == 0, outcome
    assert "2 channels mixed down" in outcome.err and "resampled from 44100 Hz" in outcome.err


@pytest.mark.parametrize("codebooks", [1, 12, None])
def test_a_recording_goes_through_the_codec(cli, tmp_path, bundle_folder, speech, codebooks):
    more = () if codebooks is None else ("--codebooks", codebooks)
    outcome = cli("reconstruct", speech, "--out", tmp_path / "x.wav", "--bundle", bundle_folder, *more)
    assert outcome.code == 0, outcome
    assert soundfile.info(tmp_path / "x.wav").frames == 24_000
    assert f"({codebooks or 12} codebooks)" in outcome.err


@pytest.mark.parametrize("codebooks", [0, 13, -1])
def test_codebooks_that_do_not_exist_are_refused(cli, tmp_path, bundle_folder, speech, codebooks):
    outcome = cli(
        "reconstruct", speech, "--out", tmp_path / "out.wav", "--bundle", bundle_folder, "--codebooks", codebooks
    )
    refused(outcome, tmp_path, f"num_codebooks {codebooks}")


def test_brackets_in_a_name_are_part_of_it(cli, tmp_path, bundle_folder, speech):
    for name in ("takes [bold] 1/x.wav", "a[/b].wav"):
        outcome = cli("reconstruct", speech, "--out", tmp_path / name, "--bundle", bundle_folder)
        assert outcome.code == 0 and outcome.err.startswith(f"{tmp_path / name}: 1.50 s"), outcome
        outcome = cli(
            "continue", speech, "--out", tmp_path / name, "--bundle", bundle_folder, *PROMPT, "--seconds", "0.2"
        )
        assert outcome.code == 0 and f"{tmp_path / name}: " in outcome.err, outcome


def test_a_silent_beginning_is_told_of_with_its_file(cli, tmp_path, bundle_folder):
    path = tmp_path / "late.wav"
    soundfile.write(path, np.concatenate([np.zeros(16_000), tiny.sound(1.0)]), 16_000)
    outcome = cli("continue", path, "--out", tmp_path / "out.wav", "--bundle", bundle_folder, *PROMPT)
    refused(outcome, tmp_path, f"{path}: the prompt, its first 1 s: nothing but silence")


def test_info_names_every_part(cli, bundle_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    outcome = cli("info", bundle_folder)
    assert outcome.code == 0 and outcome.err == ""
    for role, fingerprint in load(bundle_folder).fingerprints.items():
        assert role in outcome.out and fingerprint in outcome.out
    assert "unless asked otherwise: temperature " in outcome.out and "guidance 1, ar, one try" in outcome.out
    assert "temperature 1, 1, 0, guidance 1, ar, 8 tries of up to 30 s" in cli("info", "piano").out


def test_tokenize_fills_a_store_and_train_reads_it(cli, tmp_path, bundle_folder):
    from segue.data.store import TokenStore

    folder, store = tiny.corpus(tmp_path / "sounds", 3, 1.5), tmp_path / "store"
    (folder / "diary.wav").write_text("no sound")
    outcome = cli("tokenize", folder, "--out", store, "--bundle", bundle_folder)
    assert outcome.code == 0 and "3 clips written" in outcome.err and "1 files skipped" in outcome.err, outcome
    assert len(TokenStore.open(store)) == 3
    again = cli("tokenize", folder, "--out", store, "--bundle", bundle_folder)
    assert "0 clips written" in again.err and "3 were there before" in again.err
    small = ["model.width=16", "model.depth=1", "model.heads=2", "model.feedforward=16", "train.steps=2"]
    small += ["train.batch_size=2", "train.crop_seconds=1.0"]
    options = [option for value in small for option in ("--set", value)]
    command = ("train", "lm", "--stage", "coarse", "--data", store, "--out", tmp_path / "run", *options)
    trained = cli(*command)
    assert trained.code == 0 and (tmp_path / "run" / "artifact" / "part.json").is_file(), trained
    refused(cli(*command), tmp_path, "give --resume")
    assert cli(*command, "--resume").code == 0
    refused(cli(*command, "--resume", "--set", "train.learning_rate=0.5"), tmp_path, "learning_rate")
    tiny_sizes = ["model.width=16", "model.depth=1", "model.heads=2", "model.embedding_width=8", *small[-3:]]
    sizes = [option for value in tiny_sizes for option in ("--set", value)]
    at_once = ("train", "parallel", "--data", store, "--valid", store, "--out", tmp_path / "at-once", *sizes)
    trained = cli(*at_once)
    assert trained.code == 0 and '"loss_11"' in (tmp_path / "at-once" / "log.jsonl").read_text(), trained
    refused(cli(*at_once), tmp_path, "give --resume")
    assert cli(*at_once, "--resume", "--set", "train.steps=3").code == 0
    requires = load_part(tmp_path / "at-once" / "artifact", "parallel").requires
    assert requires == {key: load(bundle_folder).fingerprints[key] for key in ("codec", "semantic")}


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("train", "codec", "--set", "train.lr=3"), "no such key 'lr'"),
        (("train", "codec", "--set", "train.steps=many"), "train.steps"),
        (("train", "codec", "--set", "train.steps"), "key=value"),
        (("train", "codec", "--recipe", "huge"), "recipe 'huge'"),
        (("train", "semantic", "--set", "model.objective.kind=magic"), "'magic'"),
        (("train", "codec", "--weight", "-1"), "weights"),
        (("train", "codec", "--recipe", "tiny"), "train.steps 1: the codebooks start after 300"),
        (("train", "codec", "--set", "train.batch_size=0"), "batch_size 0"),
        (("train", "codec", "--set", "train.crop_seconds=0"), "crop_seconds 0"),
        (("train", "codec", "--set", "train.steps=0"), "steps 0"),
        (("train", "codec", "--set", "train.learning_rate=-1"), "learning_rate -1"),
        (("train", "codec", "--set", "train.checkpoint_every=0"), "checkpoint_every 0"),
        (("train", "codec", "--set", "model.num_codebooks=0"), "num_codebooks 0"),
        (("train", "codec", "--set", "model.spectral.hop=150"), "hop 150"),
        (("train", "codec", "--init", "nowhere"), "nowhere"),
        (("train", "codec", "--init", "speech", "--set", "model.spectral.width=8"), "do not fit"),
        (("train", "lm", "--stage", "rough"), "--stage rough"),
        (("train", "lm", "--stage", "fine"), "no token store here"),
        (("train", "lm", "--stage", "fine", "--keep-tokens"), "--init"),
        (("train", "parallel"), "no token store here"),
        (("train", "parallel", "--set", "model.conv_width=4"), "conv_width 4"),
    ],
)
def test_training_with_what_does_not_exist_is_refused(cli, tmp_path, arguments, about):
    folder = tiny.corpus(tmp_path / "sounds", 1, 1.5)
    soon_over = () if {"lm", "parallel"} & set(arguments) else ("--set", "train.steps=1", "--set", "train.batch_size=1")
    arguments = (*arguments[:2], *soon_over, *arguments[2:])
    refused(cli(*arguments, "--data", folder, "--out", tmp_path / "run"), tmp_path, about)


def test_a_codec_is_trained_on(cli, tmp_path, bundle_folder):
    folder = tiny.corpus(tmp_path / "sounds", 1, 1.5)
    changes = ("train.steps=1", "train.batch_size=1", "train.crop_seconds=0.2", "train.learning_rate=1e-9")
    asked = [word for change in changes for word in ("--set", change)]
    run = tmp_path / "run"
    trained = cli("train", "codec", "--init", bundle_folder, "--data", folder, "--out", run, *asked)
    assert trained.code == 0, trained
    before, after = load_part(bundle_folder / "codec"), load_part(run / "artifact")
    assert after.config == before.config and after.card["begun_from"] == before.fingerprint
    torch.testing.assert_close(after.tensors["decoder.head.weight"], before.tensors["decoder.head.weight"])
    refused(cli("train", "codec", "--resume", "--data", folder, "--out", run, *asked), tmp_path, "--out")


@pytest.mark.parametrize("verb", [("fit",), ("tokenize",)])
def test_folders_without_sound_are_refused(cli, tmp_path, bundle_folder, verb):
    (tmp_path / "sounds").mkdir()
    more = ("--bundle", bundle_folder) if verb == ("tokenize",) else ()
    for place in ("sounds", "nowhere"):
        outcome = cli(*verb, tmp_path / place, "--out", tmp_path / "made", *more)
        refused(outcome, tmp_path, place)
        assert not (tmp_path / "made").exists()


def test_the_real_process_refuses_in_one_line_too(tmp_path, bundle_folder, speech, child_environment):
    command = [sys.executable, "-m", "segue.cli", "continue", speech, "--out", tmp_path / "out.wav"]
    command += ["--bundle", bundle_folder, "--prompt-seconds", "60"]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("segue: "), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_standard_output_is_one_line(bundle_folder, speech, child_environment):
    command = [sys.executable, "-m", "segue.cli", "tokens", speech, "--bundle", bundle_folder]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, env=child_environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 2, done
    assert done.stderr == "segue: standard output can't be written (No space left on device)\n"


def test_a_closed_standard_output_is_one_line(bundle_folder, speech, child_environment):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "segue.cli", "continue", str(speech)]
    command += ["--out", "-", "--stream", "--bundle", str(bundle_folder), *PROMPT]
    done = subprocess.run(command, env=child_environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 2, done
    assert done.stderr == "segue: -: standard output is closed; give the name of a file\n"


def test_who_stops_listening_is_told_of(bundle_folder, speech, child_environment):
    command = [sys.executable, "-m", "segue.cli", "continue", speech, "--out", "-", "--stream", "--seconds", "4"]
    command += ["--bundle", bundle_folder, *PROMPT]
    with subprocess.Popen(command, env=child_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.read(4)
        running.stdout.close()
        said = running.stderr.read().decode()
    assert running.returncode == 2 and said == "segue: -: nobody reads any more; the rest was not made\n", said


def test_help_names_every_verb(cli):
    outcome = cli("--help")
    assert outcome.code == 0
    for verb in ("continue", "reconstruct", "encode", "decode", "tokenize", "train", "fit", "info"):
        assert verb in outcome.out


def test_the_prompt_itself_is_never_overwritten(cli, bundle_folder, speech, tmp_path) -> None:
    prompt = tmp_path / "prompt.wav"
    prompt.write_bytes(speech.read_bytes())
    outcome = cli("continue", prompt, "--out", prompt, "--bundle", bundle_folder, *PROMPT)
    assert outcome.code == 2 and "recording itself" in outcome.err
    assert prompt.read_bytes() == speech.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bogus",), "No such command 'bogus'; see segue --help"),
        (("continue",), "Missing argument 'prompt'; see segue continue --help"),
        (("train", "codec", "--stepz", 1), "No such option: --stepz"),
        (("continue", "x.wav", "--seconds", "long"), "Invalid value for '--seconds'"),
        (("listen", "mak"), "Did you mean 'make'"),
        (("doctor", "--seed", "-1"), "Invalid value for '--seed'"),
        (("listen", "score", "x", "--seed", "-1"), "Invalid value for '--seed'"),
    ],
)
def test_a_usage_error_is_one_line(cli, arguments, said):
    told = cli(*arguments)
    assert told.code == 2 and told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith("segue: ") and said in told.err


def test_without_a_verb_the_help_is_shown(cli):
    told = cli("train")
    assert told.code == 2 and "parallel" in told.out and told.err == ""


def test_an_interrupt_is_one_line(cli, monkeypatch, tmp_path):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segue.parts.train_codec", interrupted)
    told = cli("train", "codec", "--data", tiny.corpus(tmp_path / "sounds", 1, 1.5), "--out", tmp_path / "run")
    assert told.code == 130 and told.err.count("segue: stopped") == 1 and "--resume goes on" in told.err
    monkeypatch.setattr("segue.cli.sound.load", interrupted)
    told = cli("continue", tmp_path / "sounds" / "clip000.wav", "--out", tmp_path / "x.wav")
    assert told.code == 130 and told.err == "segue: stopped\n"
