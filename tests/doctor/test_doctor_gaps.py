"""Whether a prompt matters: a model that heeds it is told from one that does not, and neither from too few crops."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from segue.data.store import StoreHeader, TokenStore
from segue.doctor.effort import Effort
from segue.doctor.gaps import (
    NONE,
    PROMPT_LITTLE,
    Gap,
    crops_of,
    findings_on_gaps,
    verdict_on,
)
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.lm.sequence import NOT_PREDICTED
from segue.lm.stage import acoustic_stage, coarse_stage, fine_stage, semantic_stage

HEADER = StoreHeader("s", "c", vocab_size=64, num_codebooks=3, codebook_size=64)


def store(clips: int, frames: int = 200) -> TokenStore:
    """Clip k is token k and code k from beginning to end."""
    semantic = [np.full(frames // 2, clip, np.int16) for clip in range(clips)]
    codes = [np.full((frames, 3), clip, np.int16) for clip in range(clips)]
    facts = [{"id": str(clip), "seconds": frames / 50} for clip in range(clips)]
    return TokenStore(HEADER, facts, semantic, codes)


class Heeding(StageModel):
    """Expects, by so many nats, what stands at one place of the sequence to go on; heeds nothing else."""

    place, nats = 0, 1.0

    def slot_losses(self, batch, rng=None):
        first = self.layout.offsets(self.stage.target)[0]
        given = batch.tokens[0, self.place]
        known = (given - 2) if self.place == 1 else (given - first)
        asked = batch.classes[0][batch.classes[0] != NOT_PREDICTED]
        losses = torch.where(asked == known, 1.0, 1.0 + self.nats)
        count = torch.tensor(float(len(asked)))
        return losses.sum()[None], count[None]


def heeding(stage, place: int, nats: float = 1.0) -> Heeding:
    model = Heeding(stage, tiny.TRANSFORMER, tiny.rng())
    model.place, model.nats = place, nats
    return model


def examined(model, of) -> dict[str, object]:
    return {finding.subject: finding for finding in findings_on_gaps(model, of, Effort(1e9))}


def test_a_prompt_that_is_heeded_matters_and_one_that_is_not_is_bad():
    stage = semantic_stage(64, crop_seconds=1.2)
    heeds = examined(heeding(stage, 1), store(12))["semantic stage: prompt"]
    assert heeds.verdict == "ok" and heeds.figures["nats"] == pytest.approx(1.0) and heeds.figures["crops"] == 12
    deaf = examined(heeding(stage, 0), store(12))["semantic stage: prompt"]
    assert deaf.verdict == "bad" and deaf.figures["nats"] == 0.0 and deaf.remedy
    little = examined(heeding(stage, 1, 0.01), store(12))["semantic stage: prompt"]
    assert little.verdict == "warn" and "matters little" in little.meaning


def test_prefix_and_prompt_are_asked_about_apart():
    stage = coarse_stage(64, 2, 64, crop_seconds=1.2)
    by_prefix = examined(heeding(stage, 1), store(12))
    assert by_prefix["coarse stage: semantic tokens"].verdict == "ok"
    assert by_prefix["coarse stage: prompt"].verdict == "bad"
    first_of_target = 1 + 30 + 1
    by_prompt = examined(heeding(stage, first_of_target), store(12))
    assert by_prompt["coarse stage: semantic tokens"].verdict == "bad"
    assert by_prompt["coarse stage: prompt"].verdict == "ok"


def test_semantic_tokens_beside_coarse_ones_may_be_left_out():
    stage = fine_stage(64, 3, 2, 64, crop_seconds=1.2)
    found = examined(heeding(stage, 0), store(12))
    assert (
        found["fine stage: semantic tokens"].verdict == "warn"
        and "prefix" in found["fine stage: semantic tokens"].remedy
    )
    assert found["fine stage: coarse tokens"].verdict == "bad"


def test_crops_of_one_recording_can_not_judge_a_prompt():
    found = examined(heeding(semantic_stage(64, crop_seconds=1.2), 1), store(1))
    assert found["semantic stage: prompt"].verdict == "warn" and "can't tell" in found["semantic stage: prompt"].meaning


def test_too_little_sound_says_so():
    found = examined(heeding(semantic_stage(64, crop_seconds=1.2), 1), store(1, 4))
    assert found["semantic stage: prompt"].verdict == "warn" and "too little" in found["semantic stage: prompt"].meaning


@pytest.mark.parametrize(
    ("nats", "error", "verdict"),
    [
        (0.3, 0.01, "ok"),
        (0.3, 0.2, None),
        (0.01, 0.001, "warn"),
        (0.0, 0.001, "bad"),
        (0.0, 0.2, None),
        (-0.5, 0.01, "bad"),
        (NONE / 2, 1e-6, "bad"),
    ],
)
def test_verdicts_heed_how_sure_a_gap_is(nats, error, verdict):
    assert verdict_on(Gap(nats, error, 5.0, 20), PROMPT_LITTLE) == verdict


def test_crops_are_one_a_clip_and_shorter_where_clips_are():
    model = heeding(coarse_stage(64, 2, 64, crop_seconds=3.0), 1)
    long = crops_of(store(40, 200), model, 0)
    assert len(long.streams) == 32 and long.streams[0][1].shape == (2, 150) and not long.of_one_clip
    short = crops_of(store(8, 100), model, 0)
    assert len(short.streams) == 8 and short.streams[0][1].shape == (2, 100)
    assert len({int(streams[1][0, 0]) for streams in short.streams}) == 8


def test_a_real_model_of_random_weights_is_asked_too():
    model = StageModel(coarse_stage(64, 2, 64, crop_seconds=1.2), tiny.TRANSFORMER, tiny.rng()).eval()
    found = examined(model, store(6))
    assert found["coarse stage: prompt"].figures["loss"] == pytest.approx(np.log(64), rel=0.3)


class Echo(ParallelModel):
    """Expects the semantic token's own number, or the prompt's last known code, as the code of every frame."""

    by_prompt = False

    def slot_losses(self, semantic, seen, answers, asked, levels, valid):
        known = seen[0, 0, seen[0, 0] != self.mask][-1] if self.by_prompt else semantic[0, 0]
        losses = torch.where(answers[asked] == known, 1.0, 2.0)
        return losses.sum()[None], torch.tensor([float(asked.sum())])


@pytest.mark.parametrize("by_prompt", [False, True])
def test_the_parallel_decoder_is_asked_too(by_prompt):
    model = Echo(acoustic_stage(64, 3, 64, crop_seconds=1.2), tiny.PARALLEL, tiny.rng())
    model.by_prompt = by_prompt
    found = examined(model, store(12))
    verdicts = {name.split(": ")[1]: finding.verdict for name, finding in found.items()}
    assert verdicts == {"prompt": "ok" if by_prompt else "bad", "semantic tokens": "bad" if by_prompt else "ok"}
    assert all(name.startswith("parallel decoder") for name in found)


def test_a_real_parallel_decoder_of_random_weights_is_asked():
    model = ParallelModel(acoustic_stage(64, 3, 64, crop_seconds=1.2), tiny.PARALLEL, tiny.rng()).eval()
    assert examined(model, store(6))["parallel decoder: prompt"].figures["loss"] == pytest.approx(np.log(64), rel=0.3)
