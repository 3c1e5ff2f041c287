"""A folder of sound files to a working bundle: codec, semantic tokenizer, token store, three stages, in this order.

The bundle's folder holds the parts; `work/` inside it holds the runs and the token store, from which the same
command goes on after a stop at any moment. Once the bundle stands, `work/` may be deleted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch import nn

from segue import audio, parts
from segue.artifact import artifact_folder, load_part, save_part
from segue.bundle import load_codec, save_bundle
from segue.codec.seam import frames_a_cut
from segue.data import corpus
from segue.data.held_out import everything, splits
from segue.errors import SegueError
from segue.lm.stage import StreamName
from segue.parts import SoundData
from segue.published import is_reference
from segue.recipes import Recipe
from segue.semantic.tokenizer import SemanticTokenizer
from segue.train.fabric import World, alone
from segue.train.loop import Event

FRAMES_A_TOKEN = 20
SMALLEST_VOCABULARY = 16
STAGES: tuple[StreamName, ...] = ("semantic", "coarse", "fine")


def fit(
    data: SoundData,
    recipe: Recipe,
    out: Path,
    watch: Callable[[str, Event], None] = lambda part, event: None,
    on_tokenise: Callable[[int, int], None] = lambda done, total: None,
    codec: str | Path | None = None,
    world: World | None = None,
) -> Path:
    """Make a bundle; a run that was stopped goes on from its last checkpoint.

    Args:
        data: sound to learn from.
        recipe: sizes and times of all parts.
        out: folder of the bundle.
        watch: told the part and each event of its training.
        on_tokenise: told files done and files in all.
        codec: a codec that is trained already, by its folder, or the reference of a published one
            (`hf:facebook/encodec_24khz@8`), which the bundle then names and does not hold; None trains one.
        world: the one process to train and tokenise in, and its device; None is the CPU.

    Raises:
        SegueError: if the data or the codec can't be used, `out` was begun with another recipe, training diverges, or
            there are several processes.
    """
    recipe = with_vocabulary_for(recipe, data)
    world = world or alone()
    if world.size > 1:
        raise SegueError(f"fit works in one process, not {world.size}; for more, train part by part with segue train")
    work = out / "work"
    folders: dict[str, str | Path] = {"codec": out / "codec", "semantic": out / "semantic"}
    if codec is not None and is_reference(codec):
        folders["codec"] = str(codec)
    else:
        made = codec or parts.train_codec(recipe.codec, data, work / "codec", lambda e: watch("codec", e), world=world)
        _copy(Path(made), out / "codec", "codec")
    codec_model = load_codec(folders["codec"])
    frames_a_cut(codec_model.frame_rate, SemanticTokenizer.frame_rate)
    if codec_model.num_codebooks <= recipe.num_coarse:
        found, least = codec_model.num_codebooks, recipe.num_coarse + 1
        raise SegueError(f"{folders['codec']}: {found} codebooks, but this recipe needs {least} or more")
    made = parts.train_semantic(recipe.semantic, data, work / "semantic", lambda e: watch("semantic", e), world=world)
    _copy(made, out / "semantic", "semantic")
    semantic = SemanticTokenizer.from_part(load_part(out / "semantic", "semantic"))
    for model in (semantic, codec_model):
        if isinstance(model, nn.Module):
            model.to(world.device)
    ours, apart = (everything, []) if data.valid else splits(data.folders)
    corpus.tokenise(data.folders, work / "tokens", semantic, codec_model, on_tokenise, ours, device=str(world.device))
    valid_store = None
    if held := data.valid or apart:
        valid_store = work / "tokens-valid"
        files = everything if data.valid else lambda path: not ours(path)
        corpus.tokenise(held, valid_store, semantic, codec_model, on_tokenise, files, device=str(world.device))

    for name in STAGES:
        role = f"{name}_stage"

        def told(event: Event, role: str = role) -> None:
            watch(role, event)

        stage_recipe = recipe.stage(name)
        tokens, run = work / "tokens", work / role
        made = parts.train_stage(
            name, stage_recipe, recipe.num_coarse, tokens, valid_store, run, data.licence, told, world=world
        )
        folders[role] = out / role
        _copy(made, out / role, "stage")
    save_bundle(out, out.resolve().name, folders)
    return out


def with_vocabulary_for(recipe: Recipe, data: SoundData) -> Recipe:
    """The recipe with no more semantic tokens than the sound can fill: some twenty frames each, a power of two."""
    lengths = [seconds for folder in data.folders for seconds in map(_seconds, audio.find(folder))]
    frames = int(sum(lengths) * SemanticTokenizer.frame_rate)
    tokenizer = recipe.semantic.model.tokenizer
    most = max(SMALLEST_VOCABULARY, 2 ** ((frames // FRAMES_A_TOKEN).bit_length() - 1))
    size = min(tokenizer.vocab_size, most)
    model = dataclasses.replace(recipe.semantic.model, tokenizer=dataclasses.replace(tokenizer, vocab_size=size))
    return dataclasses.replace(recipe, semantic=dataclasses.replace(recipe.semantic, model=model))


def _seconds(path: Path) -> float:
    try:
        return audio.duration_seconds(path)
    except SegueError:
        return 0.0  # training counts and lists it among the skipped


def with_steps(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with every training `factor` times as long.

    Raises:
        SegueError: if the factor is not above zero.
    """
    if not 0 < factor < float("inf"):
        raise SegueError(f"factor {factor}: use a number above 0")
    changed = {}
    for role in ("codec", "semantic", "semantic_stage", "coarse_stage", "fine_stage"):
        part = getattr(recipe, role)
        steps = max(1, round(part.train.steps * factor))
        changed[role] = dataclasses.replace(part, train=dataclasses.replace(part.train, steps=steps))
        if role == "codec":  # its codebooks start when it is half trained, at the latest
            warm = min(part.objective.warm_steps, steps // 2)
            changed[role] = dataclasses.replace(
                changed[role], objective=dataclasses.replace(part.objective, warm_steps=warm)
            )
    return dataclasses.replace(recipe, **changed)


def _copy(source: Path, target: Path, kind: str) -> None:
    """Put a part into the bundle's own folder, unless it is there."""
    part = load_part(artifact_folder(source), kind)
    if (target / "part.json").is_file() and load_part(target, kind).fingerprint == part.fingerprint:
        return
    save_part(part, target)
