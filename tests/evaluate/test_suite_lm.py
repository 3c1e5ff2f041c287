"""The suite lm: figures of a tiny bundle, and that it measures what it says."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue.evaluate import likelihood, section
from segue.evaluate.cache import Cache
from segue.evaluate.likelihood import Losses, Member
from segue.evaluate.pairs.sets import Pair, PairSet
from segue.evaluate.recordings import held_out
from segue.evaluate.suite import Context
from segue.evaluate.suites import lm, suite


@pytest.fixture
def context(bundle, tmp_path):
    rows = []
    for number in range(5):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(7.0, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": f"{number % 4}"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = held_out([tmp_path], 10, 7.0, 0)
    return Context(bundle, tuple(found), "speech", tmp_path / "out", Cache(tmp_path / "out" / "cache"))


def test_the_suite_measures_stages_and_made_pairs(context, monkeypatch):
    monkeypatch.setattr(lm, "PAIRS_OF_A_KIND", 3)
    found = suite("lm")(context)
    tables = {table.key: table for table in found.tables}
    assert list(tables["likelihood"].rows) == ["semantic", "coarse", "fine"]
    assert list(tables["codebooks"].rows) == [f"code {number}" for number in range(1, 13)]
    for row in tables["likelihood"].rows.values():
        assert row["uniform"].value == pytest.approx(math.log(tiny.CODES))
        assert row["nats"].low <= row["nats"].value <= row["nats"].high
        assert row["perplexity"].value == pytest.approx(math.exp(row["nats"].value))
    given = tables["given"].rows
    assert {"semantic stage: prompt", "coarse stage: semantic tokens", "fine stage: coarse tokens"} <= given.keys()
    pairs = tables["pairs"].rows
    assert set(pairs) == {f"recordings: {kind}" for kind in ("continuation", "order", "reversed")}
    assert all(row["shorter"].value == 0.5 for row in pairs.values()), "members are equally long"
    assert all((context.out / player.sound).is_file() for player in found.players) and found.players
    section.save(found, context.out / "lm.json")
    assert section.read(context.out / "lm.json").notes == found.notes

    monkeypatch.setattr(type(context.bundle.semantic), "encode", lambda *a, **k: pytest.fail("heard again"))
    again = suite("lm")(context)
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)


def test_pairs_are_made_of_as_many_recordings_as_there_are(context, tmp_path):
    few = replace(context, recordings=context.recordings[:1])
    assert [one.kind for one in lm._own(few, {})] == ["order", "reversed"]
    drawn = {one.kind: one for one in lm._own(replace(few, places=(tmp_path,)), {})}
    assert all(pair.facts["same_speaker"] for pair in drawn["continuation"].pairs)
    assert len({pair.facts["recording"] for pair in drawn["order"].pairs}) == 5


def test_mean_losses_are_the_models_own(context):
    model, store = context.bundle.stages.semantic, likelihood.tokens_of(context)
    losses = likelihood.losses_on(context, model, "semantic_stage", store)
    assert losses.counts[0, 0] == 150, "three windows of 2 s at 25 Hz"
    tokens = torch.from_numpy(store.semantic(0)[:50].astype(np.int64))
    first = likelihood.likelihood(model, tokens)
    logits = []
    for count in range(50):
        ids, positions = model.layout.read([], tokens[None, :count])
        with torch.no_grad():
            hidden = model.transformer(ids[None], positions[None])
            logits.append(model.transformer.logits(hidden[0, -1:], *model.layout.slot(0))[0])
    expected = torch.nn.functional.cross_entropy(torch.stack(logits), tokens, reduction="sum")
    assert first.nats == pytest.approx(float(expected), rel=1e-4) and not first.cut
    assert likelihood.likelihood(model, tokens.repeat(2)).cut and len(first.tokens) == 50


def test_windows_lie_in_the_recording_on_cuts_without_overlap():
    for ticks, length, cut in [(350, 50, 2), (51, 50, 2), (100, 50, 2), (1000, 100, 4), (7, 6, 2), (1, 0, 2)]:
        starts = likelihood._starts(ticks, length, cut)
        assert len(starts) == (min(likelihood.MOST_WINDOWS, ticks // length) if length else 0)
        assert all(start % cut == 0 and start + length <= ticks for start in starts)
        assert all(after - before >= length for before, after in itertools.pairwise(starts))


def test_a_mean_weighs_every_token_alike():
    losses = Losses(np.asarray([[2.0, 0.0], [4.0, 6.0]]), np.asarray([[1, 0], [1, 2]]))
    assert losses.mean(np.asarray([0, 1])) == 3.0
    assert losses.mean(np.asarray([0, 1]), 1) == 3.0 and losses.mean(np.asarray([0, 1]), 0) == 3.0
    assert math.isnan(losses.mean(np.asarray([0]), 1))


class Frequencies:
    def score(self, tokens, pair):
        return 0.0


def scored(context, monkeypatch, members):
    """The row of a set whose pairs are heard so: (id, voice, right nats, right tokens, wrong nats, wrong tokens)."""
    heard = [
        (
            Pair(name, "word", context.out, context.out, voice, name, {"type": "t" if name == "1" else "u"}),
            Member(first, [0] * many, False),
            Member(second, [0] * other, False),
        )
        for name, voice, first, many, second, other in members
    ]
    monkeypatch.setattr(lm, "members_of", lambda context, pairs: iter(heard))
    row, told, _ = lm._scored(context, PairSet("s", "word", tuple(pair for pair, _, _ in heard)), Frequencies())
    return row, told


def test_one_who_knows_is_always_right_and_one_who_does_not_is_at_chance(context, monkeypatch):
    knows, _ = scored(context, monkeypatch, [(str(n), "a", 1.0, 10, 2.0, 10) for n in range(6)])
    assert knows["accuracy"].value == knows["accuracy_summed"].value == 1.0
    assert knows["frequency"].value == knows["shorter"].value == 0.5, "ties count half"
    wrong, _ = scored(context, monkeypatch, [(str(n), "a", 2.0, 10, 1.0, 10) for n in range(6)])
    assert wrong["accuracy"].value == 0.0


def test_voices_are_averaged_first_and_length_can_be_taken_out(context, monkeypatch):
    members = [
        ("1", "a", 1.0, 10, 2.0, 10),
        ("1", "b", 2.0, 10, 1.0, 10),
        ("1", "c", 2.0, 10, 1.0, 10),
        ("1", "d", 2.0, 10, 1.0, 10),
        ("2", "a", 3.0, 30, 2.0, 10),
    ]
    row, told = scored(context, monkeypatch, members)
    assert row["pairs"].value == 2 and told["voices"] == 4
    assert row["accuracy"].value == pytest.approx((0.25 + 1.0) / 2)
    assert row["accuracy_summed"].value == pytest.approx((0.25 + 0.0) / 2)
    assert row["shorter"].value == pytest.approx((0.5 + 0.0) / 2)
    assert told["by_type"]["u"]["accuracy"] == 1.0 and told["by_type"]["t"]["accuracy"] == 0.25


def test_frequencies_leave_out_the_recordings_of_a_pair(context):
    store = likelihood.tokens_of(context)
    known = lm.Frequencies(store, tiny.VOCAB)
    name = store.facts[0]["id"]
    tokens = store.semantic(0).tolist()
    alone = Pair("1", "order", context.out, context.out, facts={"recording": name})
    assert known.score(tokens, alone) < known.score(tokens, Pair("1", "order", context.out, context.out))


def test_too_few_recordings_are_told(context):
    few = replace(context, recordings=context.recordings[:2])
    few = replace(few, recordings=tuple(replace(one, seconds=2.2) for one in few.recordings))
    found = lm.run(few)
    assert "pairs" in found.not_measured and "segue evaluate pairs make" in found.not_measured["pairs"]
    assert next(table for table in found.tables if table.key == "pairs").rows == {}
