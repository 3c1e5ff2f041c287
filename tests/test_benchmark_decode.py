"""The decoding benchmark runs at a tiny size, says what it did not measure, and its own arithmetic is right."""

from __future__ import annotations

import json
import sys
import types

import benchmark
import pytest
import tiny
import torch

from segue.errors import SegueError
from segue.lm.native import build
from segue.lm.transformer import Transformer, TransformerConfig

SIZE = "32,1,2,32,48"


@pytest.fixture(scope="module")
def decode():
    return benchmark.load("decode")


@pytest.fixture
def quick(decode, monkeypatch) -> None:
    """A small buffer to read."""
    read = decode.read_bandwidth
    monkeypatch.setattr(decode, "read_bandwidth", lambda repeats: read(repeats, megabytes=8))


def test_every_row_and_every_target(decode, quick, bundle_folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    if build.library()[0] is None:
        pytest.skip(build.library()[1])
    monkeypatch.setitem(sys.modules, "audiolm_pytorch", None)
    out, threads = tmp_path / "decode.json", torch.get_num_threads()
    decode.main(
        lengths=[3, 6],
        engines=["native int8", "native float32", "torch float32"],
        size=SIZE,
        repeats=2,
        threads=1,
        bundle=str(bundle_folder),
        prompt=tiny.corpus(tmp_path / "sounds", 1, 3.0) / "clip000.wav",
        lasting=[1.0],
        json_out=out,
    )
    figures = json.loads(out.read_text())
    rows = {row["name"]: row for row in figures["rows"]}
    assert list(rows) == [
        *(
            f"segue native {weights}{windows}, 2/{k} heads"
            for weights in ("int8", "float32")
            for k in (2, 1)
            for windows in ("", " windows")
        ),
        *(f"segue torch float32, 2/{k} heads" for k in (2, 1)),
        "Llama, 2/2 heads",
    ]
    row = rows["segue native int8, 2/1 heads"]
    assert row["tokens_a_second"].keys() == row["seconds_a_token_at"].keys() == {"3", "6"}
    assert len(row["tokens_a_second_each"]["3"]) == 2 and set(row["ratios"]) == {"Llama, 3", "Llama, 6"}
    assert row["flatness"] == row["seconds_a_token_at"]["6"] / row["seconds_a_token_at"]["3"]
    configs = [rows[f"segue native int8{w}, 2/1 heads"]["config"] for w in ("", " windows")]
    assert configs[0]["window_frames"] == 0 < configs[1]["window_frames"]
    assert len(figures["continue"]["wall_seconds"]) == 2 and 50 < figures["continue"]["peak_megabytes"]["1"] < 2000
    assert set(figures["not_measured"]) == {"audiolm-pytorch", "a GPU"} and figures["gpu"] == {}
    aims = {target["target"]: target for target in figures["targets"]}
    assert [aim["measured"] is None for aim in aims.values()] == [True] * 3 + [False] * 6
    assert torch.get_num_threads() == threads
    shown = capsys.readouterr().out
    assert "not measured" in shown and "--audiolm" in shown


def test_targets_are_met_or_not(decode):
    ratios = {"audiolm-pytorch, 400": 9.0, "Llama, 400": 4.0}
    rows = [
        {"name": "segue native int8, 6/6 heads", "ratios": ratios},
        {"name": "segue native int8, 6/1 heads", "ratios": {}, "share_of_floor": 0.7, "flatness": 1.4},
        {"name": "segue native int8 windows, 6/1 heads", "ratios": {}, "flatness": 1.1},
    ]
    found = decode.targets({"rows": rows, "continue": {}}, 6, [100, 4000])
    assert [row["met"] for row in found] == [True, None, False, True, None, None, True, None, False]


def test_context_is_laid_out_as_a_coarse_stage_has_it(decode):
    for count in (1, 100, 4000):
        positions = decode.times(count)
        assert positions.shape == (1, count)
    semantic, codes = positions[0, 1:446], positions[0, 447:]
    assert (semantic.diff() == 2).all() and (codes.diff() == 0.25).all()
    assert semantic[0] == codes[0] == 0 and semantic[-1] == codes[-1] == 888


def test_a_step_reads_its_matrices_once(decode):
    config = TransformerConfig(width=32, depth=2, heads=2, feedforward=48, kv_heads=1, embedding_width=16)
    block = 32 * (32 + 32) + 32 * 32 + 3 * 32 * 48
    numbers = 2 * block + 32 * 16 + 1024 * 16
    rows = 2 * (64 + 32 + 96 + 32) + 16 + 1024
    model = Transformer(4608, config)
    assert decode.step_bytes(model, "float32") == 4 * numbers
    assert decode.step_bytes(model, "int8") == numbers + 4 * rows


def test_subjects_take_turns_and_only_as_far_as_they_go(decode):
    seen = []
    subjects = [
        types.SimpleNamespace(label=name, most=most, generate=lambda n, name=name: seen.append(f"{name}{n}"))
        for name, most in (("a", None), ("b", 5))
    ]
    found = decode.speeds(subjects, [5, 9], 2)
    assert "".join(seen) == "a5b5" + "a5b5a9" * 2
    assert {key: len(values) for key, values in found.items()} == {("a", 5): 2, ("b", 5): 2, ("a", 9): 2}


def test_a_command_that_fails_is_told(decode, tmp_path):
    with pytest.raises(SegueError, match="nowhere"):
        decode.fresh_process(["continue", str(tmp_path / "nowhere.wav"), "--out", str(tmp_path / "x.wav")], 1)
