"""Findings on trained parts: a bundle's five, or the one of a finished run, on held-out sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from segue import recipes
from segue.artifact import ARTIFACT, load_part
from segue.bundle import Bundle, codec_from_part, load
from segue.codec.health import codebook_health
from segue.codec.seam import Codec
from segue.codec.soundstream import SoundStream
from segue.data.store import TokenStore, load_codebooks
from segue.doctor import overfit
from segue.doctor.curves import curve_finding, read_log
from segue.doctor.effort import Effort
from segue.doctor.findings import Finding, Findings
from segue.doctor.gaps import findings_on_gaps
from segue.doctor.heldout import HeldOut, check_requires, finding_on, is_store
from segue.doctor.runs import Run, findings_on_run, spikes
from segue.doctor.tokens import code_counts, codes_finding, semantic_finding
from segue.errors import SegueError
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.parts import make_stage
from segue.recipes import CodecRecipe, SemanticRecipe, StageRecipe
from segue.semantic.tokenizer import SemanticTokenizer
from segue.train.semantic import SemanticConfig

HEALTH_SECONDS = 240.0
"""Of sound for the codebooks: 12,000 frames, a dozen for each of 1,024 codes."""


def findings_on_bundle(name: str | Path, data: HeldOut, effort: Effort) -> Findings:
    """Look at every part of a bundle.

    Raises:
        SegueError: if the bundle or the sound can't be used.
    """
    with torch.inference_mode():
        bundle = load(name)
    yield finding_on(data)
    with torch.inference_mode():
        store = data.tokens(bundle.semantic, bundle.codec, effort)
    yield from _codec(bundle.codec, data, store, effort)
    yield from _curve("codec", bundle)
    if not effort.quick and isinstance(bundle.codec, SoundStream) and data.items:
        yield _codec_batch(bundle.codec.config, recipes.tiny().codec.train.learning_rate, data, effort)
    clips = range(len(store))
    yield semantic_finding("semantic", (store.semantic(clip) for clip in clips), bundle.semantic.vocab_size)
    yield from _curve("semantic", bundle)
    if not effort.quick and data.items and isinstance(bundle.semantic, SemanticTokenizer):
        config = SemanticConfig(tokenizer=bundle.semantic.config)
        yield _semantic_batch(config, recipes.tiny().semantic.train.learning_rate, data, effort)
    if bundle.parallel is not None:
        yield from findings_on_gaps(bundle.parallel, store, effort)
        yield from _curve("parallel decoder", bundle)
    codebooks = bundle.codec.codebooks()
    for model in (bundle.stages.semantic, bundle.stages.coarse, bundle.stages.fine):
        part = f"{model.stage.name} stage"
        yield from findings_on_gaps(model, store, effort)
        yield from _curve(part, bundle)
        if not effort.quick:
            rate = recipes.tiny().stage(model.stage.name).train.learning_rate
            training = overfit.stage_training(model.stage, model.config, codebooks, effort.seed)
            batch = overfit.token_batch(store, training, effort.seed)
            yield overfit.overfit(part, "stage", training, batch, rate, effort)


def findings_on_finished_run(run: Run, data: HeldOut, store_folder: Path | None, effort: Effort) -> Findings:
    """A run's own folder, then its part on held-out sound, and a fresh one on one batch.

    Args:
        run: finished or not; the part is looked at once it is.
        data: held-out sound for codec and semantic encoder, tokens for a stage.
        store_folder: where the tokens are, for a stage.
        effort: time for each check.
    """
    yield from findings_on_run(run)
    rate = run.recipe.train.learning_rate
    if run.kind in ("stage", "parallel"):
        yield from _stage_run(run, data, store_folder, rate, effort)
        return
    if data.store is not None:
        raise SegueError(
            f"--data: a token store, but a run of the {run.part} is asked about sound; give a folder of it"
        )
    yield finding_on(data)
    part = load_part(run.folder / ARTIFACT, run.kind) if run.is_finished else None
    if isinstance(run.recipe, CodecRecipe):
        if part is not None:
            with torch.inference_mode():
                yield from _codec(codec_from_part(part), data, None, effort)
        if not effort.quick:
            yield _codec_batch(run.recipe.model, rate, data, effort)
    elif isinstance(run.recipe, SemanticRecipe):
        if part is not None:
            tokenizer = SemanticTokenizer.from_part(part)
            with torch.inference_mode():
                waves = data.waves(tokenizer.sample_rate, effort)
                clips = [tokenizer.encode(wave[None])[0].numpy() for wave in effort.while_it_lasts("tokenise", waves)]
            yield semantic_finding(run.part, clips, tokenizer.vocab_size)
        if not effort.quick:
            yield _semantic_batch(run.recipe.model, rate, data, effort)


def _stage_run(run: Run, data: HeldOut, store_folder: Path | None, rate: float, effort: Effort) -> Findings:
    if data.store is None:
        meaning = "without tokens of its tokenizers only its log was looked at"
        yield Finding("held-out sound", "warn", {}, meaning, "give a held-out token store: --data STORE")
        return
    check_requires(data.store, run.requires)
    yield finding_on(data)
    if run.is_finished:
        made = load_part(run.folder / ARTIFACT, run.kind)
        model = ParallelModel.from_part(made) if run.kind == "parallel" else StageModel.from_part(made)
        yield from findings_on_gaps(model, data.store, effort)
    if not effort.quick and isinstance(run.recipe, StageRecipe):
        name = next(name for name in ("semantic", "coarse", "fine") if run.part.startswith(name))
        stage = make_stage(name, run.recipe, run.num_coarse, data.store)  # type: ignore[arg-type]
        codebooks = load_codebooks(store_folder) if store_folder and is_store(store_folder) else None
        training = overfit.stage_training(stage, run.recipe.model, codebooks, effort.seed)
        batch = overfit.token_batch(data.store, training, effort.seed)
        yield overfit.overfit(run.part, "stage", training, batch, rate, effort)


def _codec(codec: Codec, data: HeldOut, store: TokenStore | None, effort: Effort) -> Findings:
    """Codebooks, from sound where there is some, else from tokens."""
    if isinstance(codec, SoundStream) and data.items:
        waves, held = [], 0.0
        for wave in data.waves(codec.sample_rate, effort):
            if held < HEALTH_SECONDS:
                waves.append(wave)
                held += len(wave) / codec.sample_rate
        layers = codebook_health(codec, effort.while_it_lasts("codebooks", waves))
        with torch.inference_mode():
            found = [codec.encode(wave[None])[0].T.numpy() for wave in waves]
        counts = code_counts(found, codec.num_codebooks, codec.codebook_size)
        yield codes_finding("codec", counts, [layer.gain_db for layer in layers])
    elif store is not None:
        clips = (store.codes(clip) for clip in range(len(store)))
        yield codes_finding("codec", code_counts(clips, codec.num_codebooks, codec.codebook_size))


def _curve(part: str, bundle: Bundle) -> Iterator[Finding]:
    """The learning curve that lies beside a bundle's part; a run's folder under `work/` has one for each."""
    role = "parallel" if part == "parallel decoder" else part.replace(" ", "_")
    folder = bundle.folder / role
    card: dict[str, Any] = bundle.cards[role]
    places = [folder, bundle.folder / "work" / role, bundle.folder.parent / role]
    log = next((read_log(place / "log.jsonl") for place in places if (place / "log.jsonl").is_file()), None)
    if log is None:
        return
    steps = int(card.get("steps") or log.steps)
    hours, seen = card.get("hours"), card.get("hours_seen")
    epoch_steps = steps * hours / seen if hours and seen else None
    yield curve_finding(part, log, max(steps, log.steps), epoch_steps, steps)
    yield from (finding for finding in spikes(part, log) if finding.verdict != "ok")


def _codec_batch(config: Any, rate: float, data: HeldOut, effort: Effort) -> Finding:
    waves = data.waves(config.sample_rate, effort)
    batch = overfit.sound_batch(waves, overfit.CODEC_SECONDS, config.sample_rate, config.hop_length)
    return overfit.overfit("codec", "codec", overfit.codec_training(config, effort.seed), batch, rate, effort)


def _semantic_batch(config: SemanticConfig, rate: float, data: HeldOut, effort: Effort) -> Finding:
    waves = data.waves(SemanticTokenizer.sample_rate, effort)
    batch = overfit.sound_batch(
        waves, overfit.SEMANTIC_SECONDS, SemanticTokenizer.sample_rate, SemanticTokenizer.hop_length
    )
    return overfit.overfit("semantic", "semantic", overfit.semantic_training(config, effort.seed), batch, rate, effort)
