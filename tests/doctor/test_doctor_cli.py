"""`segue doctor`: exit codes, one line of JSON, a table with what to do; on every kind of target."""

from __future__ import annotations

import json

import pytest
import soundfile
import tiny

from segue import recipes
from segue.bundle import save_bundle
from segue.cli import doctor as verb
from segue.doctor import examine as dispatch
from segue.doctor import heldout
from segue.doctor.findings import Finding


@pytest.fixture
def one_small_recipe(monkeypatch):
    small = tiny.recipe()
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": lambda: small})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return tiny.corpus(tmp_path_factory.mktemp("doctor") / "sound", 8, 4.0)


def examined(outcome) -> dict[str, dict]:
    """Findings of --json by subject."""
    assert outcome.out.count("\n") == 1, outcome
    told = json.loads(outcome.out)
    assert outcome.code == (told["verdict"] == "bad")
    return {finding["subject"]: finding for finding in told["findings"]}


def test_the_machine_alone(cli, one_small_recipe):
    found = examined(cli("doctor", "--quick", "--json", "--device", "cpu"))
    assert {"machine: memory", "machine: device", "machine: recipe tiny"} <= found.keys()
    assert found["machine: recipe tiny"]["figures"]["hours"] > 0
    assert not any(subject.startswith("data") for subject in found)


def test_a_folder_of_sound_and_the_machine(cli, one_small_recipe, sound):
    found = examined(cli("doctor", sound, "--quick", "--json", "--device", "cpu"))
    assert {"data: files", "data: duplicates", "machine: memory"} <= found.keys()
    assert found["data: files"]["verdict"] == "ok"


def test_a_corrupt_folder_exits_with_1_and_lists_the_files(cli, one_small_recipe, tmp_path):
    soundfile.write(tmp_path / "good.wav", tiny.sound(2.0), tiny.RATE)
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    outcome = cli("doctor", tmp_path, "--quick", "--device", "cpu")
    assert outcome.code == 1 and "broken.wav" in outcome.out and "do: mend" in outcome.out


def test_a_bundle_on_held_out_sound(cli, bundle_folder, sound):
    found = examined(cli("doctor", bundle_folder, "--data", sound, "--quick", "--json"))
    assert found["held-out sound"]["figures"]["recordings"] == 8
    assert {f"{name} stage: prompt" for name in ("semantic", "coarse", "fine")} <= found.keys()
    assert {"codec: codebooks", "semantic: tokens", "coarse stage: semantic tokens"} <= found.keys()
    assert not any("one batch" in subject for subject in found)


def test_a_bundle_on_a_token_store(cli, bundle_folder, sound, tmp_path):
    assert cli("tokenize", sound, "--out", tmp_path / "tokens", "--bundle", bundle_folder).code == 0
    found = examined(cli("doctor", bundle_folder, "--data", tmp_path / "tokens", "--quick", "--json"))
    assert found["held-out sound"]["figures"]["clips"] == 8 and "codec: codebooks" in found


def test_a_token_store_by_itself(cli, one_small_recipe, bundle_folder, sound, tmp_path):
    assert cli("tokenize", sound, "--out", tmp_path / "tokens", "--bundle", bundle_folder).code == 0
    found = examined(cli("doctor", tmp_path / "tokens", "--quick", "--json", "--device", "cpu"))
    assert {"data: clips", "data: tokens", "data: codebooks", "machine: memory"} <= found.keys()


def test_without_data_the_example_prompts_stand_in_and_that_is_said(cli, bundle_folder):
    outcome = cli("doctor", bundle_folder, "--quick")
    assert "example prompts" in outcome.out and "--data FOLDER" in outcome.out


def test_the_table_has_a_line_a_part_and_what_to_do(cli, monkeypatch):
    findings = [
        Finding("codec: learning curve", "ok", {"fall": 0.001}, "settled"),
        Finding("coarse stage: learning curve", "warn", {}, "still falling 3 % an epoch", "train longer"),
    ]
    monkeypatch.setattr(dispatch, "examine", lambda *rest: iter(findings))
    outcome = cli("doctor")
    lines = outcome.out.splitlines()
    assert outcome.code == 0 and lines[-2:] == ["codec: trained enough", "coarse stage: still falling 3 % an epoch"]
    assert "      do: train longer" in lines


def test_markup_in_a_name_is_only_text(cli, monkeypatch):
    finding = Finding("data: files", "bad", {}, "x[/red].wav: can't be read", "look", ("x[bold].wav",))
    monkeypatch.setattr(dispatch, "examine", lambda *rest: iter([finding]))
    outcome = cli("doctor")
    assert outcome.code == 1 and "x[bold].wav" in outcome.out and "x[/red].wav" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["nowhere"], "no folder of sound"),
        (["--recipe", "vast"], "recipe 'vast'"),
        (["--seconds", "0"], "seconds"),
        (["--data", "x"], "--data: for bundles and runs"),
        (["speech", "--data", "nowhere"], "nowhere"),
        (["--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_bad_usage_costs_one_line(cli, arguments, about):
    outcome = cli("doctor", *arguments)
    assert outcome.code == 2 and about in outcome.err and outcome.err.count("\n") == 1 and not outcome.out


def test_a_damaged_bundle_is_refused(cli, bundle_folder, tmp_path):
    save_bundle(
        tmp_path,
        "x",
        {role: bundle_folder / role for role in ("codec", "semantic", "semantic_stage")}
        | {role: bundle_folder / role for role in ("coarse_stage", "fine_stage")},
    )
    text = (tmp_path / "bundle.json").read_text()
    (tmp_path / "bundle.json").write_text(text.replace('"fingerprint": "', '"fingerprint": "0', 1))
    outcome = cli("doctor", tmp_path)
    assert outcome.code == 2 and "fingerprint" in outcome.err


def test_without_examples_it_asks_for_data(cli, bundle_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(heldout, "EXAMPLES", tmp_path / "none")
    outcome = cli("doctor", bundle_folder, "--quick")
    assert outcome.code == 2 and "--data" in outcome.err


def test_colours_are_of_every_verdict():
    assert verb.COLOURS.keys() == {"ok", "warn", "bad"}
