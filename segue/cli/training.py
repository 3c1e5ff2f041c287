"""Verbs that learn: `train codec | semantic | lm | parallel` and `fit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.artifact import ARTIFACT, Part
from segue.cli.groups import spelt_out
from segue.cli.options import (
    DataOption,
    DeviceOption,
    DevicesOption,
    LicenceOption,
    NodesOption,
    PrecisionOption,
    RecipeOption,
    ResumeOption,
    SetOption,
    StrategyOption,
    ThreadsOption,
    ValidOption,
    WandbOption,
    WeightOption,
    choose_device,
    one_of,
    start_world,
    use_threads,
)
from segue.config import from_dict
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err, train_bar

if TYPE_CHECKING:
    from segue.lm.begin import Beginning
    from segue.parts import SoundData
    from segue.recipes import Recipe
    from segue.train.fabric import World
    from segue.train.loop import Event


@dataclass(frozen=True)
class Running:
    """The options of every training."""

    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")]
    recipe: RecipeOption = "tiny"
    set_: SetOption = None
    resume: ResumeOption = False
    licence: LicenceOption = ""
    device: DeviceOption = "auto"
    devices: DevicesOption = 1
    nodes: NodesOption = 1
    strategy: StrategyOption = "auto"
    precision: PrecisionOption = "float32"
    wandb: WandbOption = None
    threads: ThreadsOption = None

    def begin(self) -> Recipe:
        """The recipe, if the folder is free or to be gone on with.

        Raises:
            SegueError: if a run is there and `--resume` was not given, or there is no such recipe.
        """
        from segue.recipes import recipe as named

        found = any(step for place in ("step-*", "round-*/step-*") for step in self.out.glob(place))
        if found and not self.resume:
            raise SegueError(f"{self.out}: a run is there already; give --resume to go on with it, or another --out")
        return named(self.recipe)

    def changed(self, config: Any) -> Any:
        """A part of the recipe, with `--set`."""
        from segue.config import override

        return override(config, self.set_ or [])

    @contextmanager
    def shown(self, name: str, can_shard: bool = False) -> Iterator[tuple[World, Callable[[Event], None]]]:
        """The processes to train with and whom to tell; bars in the first one, and a last word where it is stopped."""
        world = start_world(self.device, self.devices, self.nodes, self.strategy, self.precision, can_shard)
        use_threads(self.threads)
        try:
            with bars(quiet=not world.is_first) as progress:
                yield world, train_bar(progress, name)
        except KeyboardInterrupt:
            if world.is_first:
                err.print(f"segue: stopped; --resume goes on from the last checkpoint in {self.out}")
            sys.exit(130)
        if world.is_first:
            err.print(f"{self.out / ARTIFACT}: done")


@dataclass(frozen=True)
class Sound:
    """The options that say where sound to train on comes from."""

    data: DataOption
    valid: ValidOption = None
    weight: WeightOption = None

    def under(self, licence: str) -> SoundData:
        """As the trainings take it."""
        from segue.parts import SoundData

        weights = tuple(self.weight) if self.weight else None
        return SoundData(tuple(self.data), tuple(self.valid) if self.valid else None, weights, licence)


@dataclass(frozen=True)
class Tokens:
    """The options that say where tokens to train on come from."""

    data: Annotated[Path, typer.Option("--data", help="Token store.")]
    valid: Annotated[Path | None, typer.Option("--valid", help="Token store held out from training.")] = None


@spelt_out
def train_codec(
    sound: Sound,
    run: Running,
    init: Annotated[
        str | None,
        typer.Option(help="Go on from a codec, its sizes and codebooks included: speech, or a folder of an artifact."),
    ] = None,
) -> None:
    """Train a SoundStream codec on folders of sound files."""
    from segue import parts
    from segue.codec.soundstream import CodecConfig

    recipe, begin = run.begin().codec, None
    if init is not None:
        begin = _own_codec(init)
        recipe = replace(recipe, model=from_dict(CodecConfig, begin.config, "codec", complete=True))
    chosen = run.changed(recipe)
    with run.shown("codec") as (world, told):
        parts.train_codec(chosen, sound.under(run.licence), run.out, told, world=world, wandb=run.wandb, begin=begin)


def _own_codec(name: str) -> Part:
    """A codec that can be trained on: of a bundled bundle, or in a folder.

    Raises:
        SegueError: if there is none, or it is a published one.
    """
    from segue.bundle import BUNDLED, bundled_names, codec_part
    from segue.codec.pretrained import KEY

    part = codec_part(BUNDLED / name if name in bundled_names() else name)
    if KEY in part.config:
        raise SegueError(f"--init {name}: a published codec is used as it is; give a codec of Segue's own")
    return part


@spelt_out
def train_semantic(
    sound: Sound,
    run: Running,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Cluster a block of a trained encoder instead: hf:facebook/hubert-base-ls960@9, speech, or a folder, "
            "runs/semantic@3."
        ),
    ] = None,
) -> None:
    """Train a semantic tokenizer on folders of sound files."""
    from segue import parts

    chosen = run.changed(run.begin().semantic)
    if encoder is not None:
        use_threads(run.threads)
        with bars() as progress:
            count, device = count_bar(progress, "encode", "batches"), choose_device(run.device)
            made = parts.cluster_encoder(_encoder(encoder), chosen, sound.under(run.licence), run.out, count, device)
        err.print(f"{made}: done")
        return
    with run.shown("semantic") as (world, told):
        parts.train_semantic(chosen, sound.under(run.licence), run.out, told, world=world, wandb=run.wandb)


def _encoder(reference: str) -> str:
    """The reference, a bundle's name or folder made that of its tokenizer: `speech@1`, `my_bundle`."""
    name, mark, block = reference.partition("@")
    folder = _bundled(name) / "semantic"
    return f"{folder}{mark}{block}" if folder.is_dir() else reference


def _bundled(name: str) -> Path:
    """The folder of a bundle that comes with Segue, or the one named."""
    from segue.bundle import BUNDLED, bundled_names

    return BUNDLED / name if name in bundled_names() else Path(name)


InitStage = Annotated[
    str | None,
    typer.Option("--init", help="Begin with trained weights of these sizes: speech, piano, or a folder."),
]
KeepTokens = Annotated[
    bool,
    typer.Option(
        "--keep-tokens",
        help="With --init: keep what it knows of single tokens though a tokenizer is another one, which was trained on "
        "from its own.",
    ),
]


@spelt_out
def train_lm(
    stage: Annotated[str, typer.Option(help="semantic, coarse or fine.")],
    tokens: Tokens,
    run: Running,
    init: InitStage = None,
    keep_tokens: KeepTokens = False,
) -> None:
    """Train one of the three stages on a token store."""
    from segue import parts
    from segue.fit import STAGES

    name, recipe = one_of("--stage", stage, tuple(STAGES)), run.begin()
    chosen, begin = run.changed(recipe.stage(name)), _beginning(init, f"{name}_stage", keep_tokens)
    with run.shown(f"{name} stage", can_shard=True) as (world, told):
        places = (recipe.num_coarse, tokens.data, tokens.valid, run.out, run.licence)
        parts.train_stage(name, chosen, *places, told, world=world, wandb=run.wandb, begin=begin)


@spelt_out
def train_parallel(tokens: Tokens, run: Running, init: InitStage = None, keep_tokens: KeepTokens = False) -> None:
    """Train the parallel acoustic decoder (SoundStorm) on a token store."""
    from segue import parts

    chosen, begin = run.changed(run.begin().parallel), _beginning(init, "parallel", keep_tokens)
    with run.shown("parallel decoder", can_shard=True) as (world, told):
        parts.train_parallel(chosen, tokens.data, tokens.valid, run.out, run.licence, told, world, run.wandb, begin)


def _beginning(name: str | None, role: str, keep_tokens: bool) -> Beginning | None:
    """A trained part to begin with: of a bundled bundle, or in a folder of a bundle, an artifact or a run.

    Raises:
        SegueError: if there is none, or tokens are to be kept of nothing.
    """
    from segue.artifact import artifact_folder, load_part
    from segue.lm.begin import Beginning

    if name is None:
        if keep_tokens:
            raise SegueError("--keep-tokens: there are no weights to keep them of; name some with --init")
        return None
    folder = _bundled(name)
    part = load_part(folder / role if (folder / role).is_dir() else artifact_folder(folder))
    return Beginning(part, keep_tokens)


def fit(
    folder: Annotated[Path, typer.Argument(help="Folder of sound files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    recipe: RecipeOption = "tiny",
    steps_factor: Annotated[float, typer.Option(help="Train every part so many times as long.")] = 1.0,
    codec: Annotated[Path | None, typer.Option(help="A trained codec to use instead of training one.")] = None,
    set_: SetOption = None,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    threads: ThreadsOption = None,
) -> None:
    """A folder of sound files to a working bundle. The same command goes on after a stop."""
    from segue.config import override
    from segue.fit import fit as fit_bundle
    from segue.fit import with_steps
    from segue.parts import SoundData
    from segue.recipes import recipe as named

    chosen = with_steps(override(named(recipe), set_ or []), steps_factor)
    world = start_world(device, 1, 1, "auto", precision, can_shard=False)
    use_threads(threads)
    with bars() as progress:
        started: dict[str, Callable[[Event], None]] = {}

        def watch(part: str, event: Event) -> None:
            if part not in started:
                started[part] = train_bar(progress, part)
            started[part](event)

        data = SoundData((folder,), licence=licence)
        made = fit_bundle(data, chosen, out, watch, count_bar(progress, "tokenise"), codec, world)
    err.print(f"{made}: done; segue continue PROMPT.wav --bundle {made} --out OUT.wav")
