"""From a recipe and data to a trained part on disk, one function a part. Each goes on where it was stopped.

A run lives in a folder: `config.json`, `log.jsonl` and `tensorboard/`, checkpoints `step-*/`, and at the end the part
itself in `artifact/`. With several processes each calls the same function; the first one writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segue.artifact import ARTIFACT, Part, load_part, save_part
from segue.clustering import to_cluster
from segue.config import to_disk
from segue.data.clips import Clips
from segue.data.held_out import everything, splits
from segue.data.store import TokenStore, load_codebooks
from segue.data.token_batches import TokenBatches
from segue.errors import SegueError
from segue.lm.begin import Beginning, begin_from
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.lm.stage import Stage, StreamName, acoustic_stage, coarse_stage, fine_stage, semantic_stage
from segue.recipes import CodecRecipe, ParallelRecipe, SemanticRecipe, StageRecipe
from segue.semantic.features import SAMPLE_RATE
from segue.semantic.fitting import Hidden, fit_tokens
from segue.semantic.tokenizer import SemanticTokenizer
from segue.train import loop
from segue.train.codec import CodecTraining
from segue.train.fabric import Precision, World, alone
from segue.train.lm import StageTraining
from segue.train.loop import Event, Spent, TrainConfig
from segue.train.parallel import ParallelTraining
from segue.train.semantic import SemanticTraining

Watch = Callable[[Event], None]


@dataclass(frozen=True)
class SoundData:
    """Where sound to train on comes from.

    Attributes:
        folders: searched for sound files.
        valid: folders held out; None holds out one file in twenty where there are twenty.
        weights: share of the crops from each folder; None follows the hours.
        licence: of the data, for the model card.
    """

    folders: tuple[Path, ...]
    valid: tuple[Path, ...] | None = None
    weights: tuple[float, ...] | None = None
    licence: str = ""


def train_codec(
    recipe: CodecRecipe,
    data: SoundData,
    out: Path,
    watch: Watch = lambda event: None,
    device: str = "cpu",
    world: World | None = None,
    wandb: str | None = None,
    begin: Part | None = None,
) -> Path:
    """Train a codec; returns the folder of the artifact.

    Args:
        recipe: sizes and times.
        data: what to train on.
        out: folder of the run.
        watch: told of every event, in the first process.
        device: where to train, if no `world` is given.
        world: processes to train with.
        wandb: project of Weights & Biases to log to as well.
        begin: a codec to go on from, of the recipe's sizes.

    Raises:
        SegueError: if data or folder can't be used, `begin` is of other sizes, or training diverges.
    """
    config, warm_steps = recipe.train, recipe.objective.warm_steps
    train, valid = _clips(data, config, recipe.model.sample_rate)
    limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
    world = world or alone(device)
    training = CodecTraining(recipe.model, recipe.objective, *limits, config.seed, config.accumulate, world, begin)
    is_new = begin is None and not (out / "config.json").exists()
    if is_new and config.steps <= warm_steps:
        raise SegueError(
            f"train.steps {config.steps}: the codebooks start after {warm_steps}; train longer, or set "
            "objective.warm_steps lower"
        )
    held, begun = valid.batch if valid else None, {"begun_from": begin.fingerprint} if begin else {}
    spent = loop.run(training, train.batch, held, config, out, _describe(recipe, data) | begun, watch, wandb)
    return _keep(training.export(_card(data, train, config, spent, world) | begun), out, world)


def train_semantic(
    recipe: SemanticRecipe,
    data: SoundData,
    out: Path,
    watch: Watch = lambda event: None,
    device: str = "cpu",
    world: World | None = None,
    wandb: str | None = None,
) -> Path:
    """Train a semantic encoder and cluster it; returns the folder of the artifact. Arguments as of `train_codec`.

    The recipe's rounds follow each other, each with the tokenizer of the one before as its teacher: all but the last
    in folders `round-0`, `round-1`, ... of the run. Once a round has begun, those before it are not trained on.

    Raises:
        SegueError: if data or folder can't be used, or training diverges.
    """
    train, valid = _clips(data, recipe.train, SAMPLE_RATE)
    held = valid.batch if valid else None
    world = world or alone(device)
    folders = [*(out / f"round-{number}" for number in range(recipe.rounds)), out]
    is_taught = [*((pupil / "config.json").is_file() for pupil in folders[1:]), False]
    teacher: SemanticTokenizer | None = None
    for number, folder in enumerate(folders):
        if is_taught[number]:  # the next round has begun to learn from it, so it stays what it is
            teacher = SemanticTokenizer.from_part(load_part(folder / ARTIFACT, "semantic"))
            continue
        model, config = recipe.round(number)
        describe = _describe(recipe, data) | ({} if teacher is None else {"teacher": teacher.fingerprint})
        limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
        training = SemanticTraining(model, config.seed, *limits, config.accumulate, world, teacher, recipe.optimiser)
        spent = loop.run(training, train.batch, held, config, folder, describe, watch, wandb)
        # Tokens may be made with it already, and k-means need not fall out the same again.
        if world.is_first and not _is_made(folder, spent.steps):
            clusters = training.finish(train.batch, recipe.cluster_batches, config.seed)
            card = _card(data, train, config, spent, world) | {"clusters": clusters}
            if teacher is not None:
                card["teacher"] = teacher.fingerprint
            save_part(training.export(card), folder / ARTIFACT)
        world.barrier()
        if number < recipe.rounds:
            teacher = SemanticTokenizer.from_part(load_part(folder / ARTIFACT, "semantic"))
    return out / ARTIFACT


def cluster_encoder(
    reference: str,
    recipe: SemanticRecipe,
    data: SoundData,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> Path:
    """Cluster one block of a trained encoder; returns the folder of the artifact.

    Args:
        reference: of the encoder, with the block: `hf:facebook/hubert-base-ls960@9`, or `runs/semantic@4`.
        recipe: number of clusters, batches of sound and their size; of an encoder of Segue's own also what of its
            activations is clustered (`angular`, `centre_frames`, `interleaved`, `axes`).
        data: what to cluster.
        out: folder of the run.
        on_progress: told batches encoded and batches in all.
        device: where to encode.

    Raises:
        SegueError: if the encoder, data or folder can't be used, a tokenizer is there already, or there is less sound
            than clusters.
    """
    if (out / ARTIFACT).exists():
        raise SegueError(f"{out}: there is a tokenizer already, and tokens may be made with it; give another --out")
    encoder = to_cluster(reference, recipe.model.tokenizer, device)
    clips, _ = _clips(data, recipe.train, encoder.sample_rate)
    seen: set[int] = set()

    def hidden(k: int) -> Hidden:
        found = encoder.hidden(*clips.batch(k))
        seen.add(k)
        on_progress(len(seen), recipe.cluster_batches)
        return found

    axes, clusters = fit_tokens(hidden, recipe.cluster_batches, encoder.config, recipe.train.seed)
    card = {
        "data": ["/".join(folder.resolve().parts[-2:]) for folder in data.folders],
        "frames": int(clusters.counts.sum()),
        "perplexity": round(clusters.perplexity, 1),
    }
    save_part(encoder.part(axes, clusters, card, data.licence), out / ARTIFACT)
    return out / ARTIFACT


def train_stage(
    name: StreamName,
    recipe: StageRecipe,
    num_coarse: int,
    store: Path,
    valid_store: Path | None,
    out: Path,
    licence: str = "",
    watch: Watch = lambda event: None,
    device: str = "cpu",
    precision: Precision = "float32",
    world: World | None = None,
    wandb: str | None = None,
    begin: Beginning | None = None,
    clips: Sequence[str] | None = None,
) -> Path:
    """Train one stage on a token store; returns the folder of the artifact.

    Args:
        name: of the stage.
        recipe: sizes and times.
        num_coarse: codebooks of the coarse stage.
        store: tokens to train on.
        valid_store: tokens held out; None trains without validation.
        out: folder of the run.
        licence: of the data, for the model card.
        watch: told of every event, in the first process.
        device: where to train, if no `world` is given.
        precision: of the matrix products, if no `world` is given.
        world: processes to train with.
        wandb: project of Weights & Biases to log to as well.
        begin: a stage of the same sizes whose weights come first.
        clips: ids of those of the store to train on; None for all.

    Raises:
        SegueError: if store, folder or `begin` can't be used, or training diverges.
    """
    config = recipe.train
    tokens, held_out = _stores(store, valid_store, clips)
    stage = make_stage(name, recipe, num_coarse, tokens)
    model = StageModel(stage, recipe.model, loop.generator(config.seed, 0, 2))
    codebooks = load_codebooks(store)
    if codebooks is not None:
        model.start_from(codebooks, loop.generator(config.seed, 0, 3))
    requires = _requires(tokens)
    begun = begin_from(model, begin, requires) if begin else {}
    world = world or alone(device, precision)
    limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
    training = StageTraining(model, requires, *limits, recipe.optimiser, config.accumulate, world)
    batches = TokenBatches(tokens, model.layout, config.seed, config.batch_size, recipe.without_semantic)
    valid = TokenBatches(held_out, model.layout, config.seed + 1, config.batch_size) if held_out else None
    describe = {"part": f"{name} stage", "recipe": to_disk(recipe), "requires": requires, "num_coarse": num_coarse}
    describe |= {} if clips is None else {"clips": list(clips)}
    held = valid.batch if valid else None
    spent = loop.run(training, batches.batch, held, config, out, describe | begun, watch, wandb)
    return _keep(training.export(_token_card(tokens, licence, config, spent, world) | begun), out, world)


def train_parallel(
    recipe: ParallelRecipe,
    store: Path,
    valid_store: Path | None,
    out: Path,
    licence: str = "",
    watch: Watch = lambda event: None,
    world: World | None = None,
    wandb: str | None = None,
    begin: Beginning | None = None,
) -> Path:
    """Train the parallel acoustic decoder on a token store; returns the folder of the artifact.

    Args:
        recipe: sizes and times.
        store: tokens to train on.
        valid_store: tokens held out; None trains without validation.
        out: folder of the run.
        licence: of the data, for the model card.
        watch: told of every event, in the first process.
        world: processes to train with; None is one on the CPU.
        wandb: project of Weights & Biases to log to as well.
        begin: a parallel decoder of the same sizes whose weights come first.

    Raises:
        SegueError: if store, folder or `begin` can't be used, or training diverges.
    """
    config = recipe.train
    tokens, held_out = _stores(store, valid_store)
    header = tokens.header
    stage = acoustic_stage(
        header.vocab_size,
        header.num_codebooks,
        header.codebook_size,
        header.semantic_frame_rate,
        header.codec_frame_rate,
        config.crop_seconds,
    )
    stage = replace(stage, semantic_optional=recipe.without_semantic > 0)
    model = ParallelModel(stage, recipe.model, loop.generator(config.seed, 0, 2))
    codebooks = load_codebooks(store)
    if codebooks is not None:
        model.start_from(codebooks, loop.generator(config.seed, 0, 3))
    requires = _requires(tokens)
    begun = begin_from(model, begin, requires) if begin else {}
    world = world or alone()
    limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
    training = ParallelTraining(model, requires, *limits, recipe.level_skew, config.accumulate, world)
    batches = TokenBatches(tokens, model.layout, config.seed, config.batch_size, recipe.without_semantic)
    valid = TokenBatches(held_out, model.layout, config.seed + 1, config.batch_size) if held_out else None
    describe = {"part": "parallel decoder", "recipe": to_disk(recipe), "requires": requires} | begun
    held = valid.batch if valid else None
    spent = loop.run(training, batches.batch, held, config, out, describe, watch, wandb)
    return _keep(training.export(_token_card(tokens, licence, config, spent, world) | begun), out, world)


def make_stage(name: StreamName, recipe: StageRecipe, num_coarse: int, store: TokenStore) -> Stage:
    """The stage a recipe means, for the tokens of a store."""
    header, crop = store.header, recipe.train.crop_seconds
    rates = {"semantic_frame_rate": header.semantic_frame_rate, "codec_frame_rate": header.codec_frame_rate}
    common: dict[str, Any] = {**rates, "crop_seconds": crop, "deduplicate": recipe.deduplicate_semantic}
    if name == "semantic":
        return semantic_stage(header.vocab_size, **common)
    books, size = header.num_codebooks, header.codebook_size
    if books <= num_coarse:
        raise SegueError(f"{books} codebooks in the store, but this recipe needs {num_coarse + 1} or more")
    if name == "coarse":
        stage = coarse_stage(header.vocab_size, num_coarse, size, **common)
    else:
        stage = fine_stage(header.vocab_size, books, num_coarse, size, **common, prefix=recipe.prefix)
    return replace(stage, semantic_optional=recipe.without_semantic > 0)


def _clips(data: SoundData, config: TrainConfig, sample_rate: int) -> tuple[Clips, Clips | None]:
    def clips(
        folders: Sequence[Path], seed: int, files: Callable[[Path], bool], weights: Sequence[float] | None
    ) -> Clips:
        return Clips(folders, sample_rate, config.crop_seconds, config.batch_size, seed, weights, files)

    if data.valid:
        held = clips(data.valid, config.seed + 1, everything, None if len(data.valid) == 1 else data.weights)
        return clips(data.folders, config.seed, everything, data.weights), held
    ours, apart = splits(data.folders)
    train = clips(data.folders, config.seed, ours, data.weights)
    if not apart:
        return train, None
    weights = [data.weights[data.folders.index(folder)] for folder in apart] if data.weights else None
    return train, clips(apart, config.seed + 1, lambda path: not ours(path), weights)


def _describe(recipe: CodecRecipe | SemanticRecipe, data: SoundData) -> dict[str, Any]:
    return {"recipe": to_disk(recipe), "data": [folder.name for folder in data.folders]}


def _stores(
    store: Path, valid_store: Path | None, clips: Sequence[str] | None = None
) -> tuple[TokenStore, TokenStore | None]:
    """Tokens to train on and tokens held out, of the same tokenizers."""
    tokens = TokenStore.open(store, clips)
    held_out = TokenStore.open(valid_store) if valid_store else None
    if held_out and held_out.header != tokens.header:
        raise SegueError(f"{valid_store}: made by other tokenizers than {store}; tokenise both with the same")
    return tokens, held_out


def _requires(tokens: TokenStore) -> dict[str, str]:
    return {"semantic": tokens.header.semantic_fingerprint, "codec": tokens.header.codec_fingerprint}


def _token_card(tokens: TokenStore, licence: str, config: TrainConfig, spent: Spent, world: World) -> dict[str, Any]:
    return {
        "clips": len(tokens),
        "hours": round(tokens.seconds / 3600, 3),
        "licence": licence,
    } | _spent(config, spent, world)


def _card(data: SoundData, clips: Clips, config: TrainConfig, spent: Spent, world: World) -> dict[str, Any]:
    return {
        "data": ["/".join(folder.resolve().parts[-2:]) for folder in data.folders],
        "hours": round(clips.hours, 3),
        "skipped_files": len(clips.skipped),
        "licence": data.licence,
    } | _spent(config, spent, world)


def _spent(config: TrainConfig, spent: Spent, world: World) -> dict[str, Any]:
    hours = round(spent.steps * config.batch_size * config.crop_seconds / 3600, 2)
    figures = {"steps": spent.steps, "hours_seen": hours, "training_seconds": round(spent.seconds)}
    return figures | {"device": world.device.type}


def _keep(part: Part, out: Path, world: World) -> Path:
    if world.is_first:
        save_part(part, out / ARTIFACT)
    return out / ARTIFACT


def _is_made(out: Path, steps: int) -> bool:
    """Whether a run's artifact is there, whole, and of so many steps."""
    try:
        return load_part(out / ARTIFACT).card.get("steps") == steps
    except SegueError:
        return False
