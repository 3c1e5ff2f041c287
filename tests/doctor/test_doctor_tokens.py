"""The doctor on tokens: a collapse is bad, an even use is well, and few frames are no collapse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segue.data.store import StoreHeader, StoreRow, TokenStoreWriter
from segue.doctor.tokens import codes_finding, evenness, findings_on_store, semantic_finding
from segue.recipes import tiny as recipe

SIZE = 1024


def counts(codes: int, frames: int = 8000, seed: int = 0) -> np.ndarray:
    """Of so many codes in use, evenly."""
    drawn = np.random.default_rng(seed).integers(codes, size=frames)
    return np.bincount(drawn, minlength=SIZE)


@pytest.mark.parametrize(("codes", "verdict"), [(1, "bad"), (30, "bad"), (120, "warn"), (400, "ok"), (1024, "ok")])
def test_a_collapsed_codebook_is_bad_and_named(codes, verdict):
    finding = codes_finding("codec", np.stack([counts(1024), counts(codes), counts(1024, seed=1)]))
    assert finding.verdict == verdict
    if verdict != "ok":
        assert "codebook 2" in finding.meaning and finding.remedy


def test_few_frames_can_not_use_every_code_and_are_no_collapse():
    assert evenness(counts(1024, 300)) == pytest.approx(1.0, abs=0.05)
    assert codes_finding("codec", counts(1024, 300)[None]).verdict == "ok"


def runs(length: int, vocabulary: int, frames: int = 6000) -> list[np.ndarray]:
    """A clip whose tokens each last so long, all different from the one before."""
    steps = np.random.default_rng(0).integers(1, vocabulary, size=frames // length + 1)
    return [np.repeat(np.cumsum(steps) % vocabulary, length)[:frames]]


@pytest.mark.parametrize(
    ("length", "vocabulary", "verdict", "about"),
    [
        (3, 500, "ok", "in use"),
        (1, 500, "warn", "follow noise"),
        (15, 500, "warn", "repeat"),
        (150, 500, "bad", "repeat"),
        (3, 60, "warn", "do the work of"),
        (3, 10, "bad", "do the work of"),
    ],
)
def test_semantic_tokens_follow_the_sound_or_not(length, vocabulary, verdict, about):
    clips = runs(length, vocabulary, 60_000 if length > 10 else 6000)
    finding = semantic_finding("semantic", clips, 512)
    assert (finding.verdict, about in finding.meaning) == (verdict, True), finding


def store(folder, clips: int, frames: int = 600, copies: int = 0):
    header = StoreHeader("s", "c", vocab_size=64, num_codebooks=6, codebook_size=64)
    writer, rng = TokenStoreWriter(folder, header), np.random.default_rng(0)
    for number in range(clips):
        semantic = np.repeat(rng.integers(64, size=frames // 4), 2)
        row = StoreRow(f"c{number}", "x", "a", frames / 50, "CC0", None, semantic, rng.integers(64, size=(6, frames)))
        writer.add(row)
        if number < copies:
            writer.add(dataclasses.replace(row, id=f"again{number}"))
    writer.flush()
    return folder


def examined(folder):
    return {finding.subject.removeprefix("data: "): finding for finding in findings_on_store(folder, recipe())}


def test_a_store_is_counted_and_its_copies_listed(tmp_path):
    found = examined(store(tmp_path / "store", 30))
    assert {name for name, one in found.items() if one.verdict != "ok"} == {"length"}
    assert found["length"].figures["clips"] == 30 and found["length"].figures["hours"] == pytest.approx(0.1)
    found = examined(store(tmp_path / "doubled", 30, copies=2))
    assert found["duplicates"].verdict == "warn" and "c0 = again0" in found["duplicates"].items


def test_short_clips_are_told_beside_the_crops(tmp_path):
    assert examined(store(tmp_path / "long", 4, 600))["clips"].verdict == "ok"
    short = examined(store(tmp_path / "short", 8, 100))["clips"]
    assert short.verdict == "warn" and "semantic stage (12 s)" in short.meaning


def test_a_damaged_store_is_bad(tmp_path):
    path = next(store(tmp_path, 3).glob("part-*"))
    path.write_bytes(path.read_bytes()[:200])
    (finding,) = findings_on_store(tmp_path, recipe())
    assert finding.verdict == "bad" and "damaged" in finding.meaning
