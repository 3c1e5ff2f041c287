"""Verbs that learn: `train codec | semantic | lm | parallel` and `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    start_world,
    use_threads,
)
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err, train_bar

if TYPE_CHECKING:
    from segue.train.fabric import World


def train_codec(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: ValidOption = None,
    weight: WeightOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    strategy: StrategyOption = "auto",
    precision: PrecisionOption = "float32",
    wandb: WandbOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train a SoundStream codec on folders of sound files."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume)
    chosen = override(named(recipe).codec, set_ or [])
    world = start_world(device, devices, nodes, strategy, precision, can_shard=False)
    use_threads(threads)
    with _shown(out, world) as progress:
        told, sound = train_bar(progress, "codec"), _data(data, valid, weight, licence)
        made = parts.train_codec(chosen, sound, out, told, world=world, wandb=wandb)
    _done(made, world)


def train_semantic(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    encoder: Annotated[
        str | None,
        typer.Option(help="Cluster a block of a published encoder instead: hf:facebook/hubert-base-ls960@9."),
    ] = None,
    valid: ValidOption = None,
    weight: WeightOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    strategy: StrategyOption = "auto",
    precision: PrecisionOption = "float32",
    wandb: WandbOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train a semantic tokenizer on folders of sound files."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume)
    chosen = override(named(recipe).semantic, set_ or [])
    if encoder is not None:
        use_threads(threads)
        with bars() as progress:
            count = count_bar(progress, "encode", "batches")
            given = _data(data, valid, weight, licence)
            clustered = parts.cluster_published(encoder, chosen, given, out, count, choose_device(device))
        err.print(f"{clustered}: done")
        return
    world = start_world(device, devices, nodes, strategy, precision, can_shard=False)
    use_threads(threads)
    with _shown(out, world) as progress:
        told, sound = train_bar(progress, "semantic"), _data(data, valid, weight, licence)
        made = parts.train_semantic(chosen, sound, out, told, world=world, wandb=wandb)
    _done(made, world)


def train_lm(
    stage: Annotated[str, typer.Option(help="semantic, coarse or fine.")],
    data: Annotated[Path, typer.Option("--data", help="Token store.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: Annotated[Path | None, typer.Option(help="Token store held out from training.")] = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    strategy: StrategyOption = "auto",
    precision: PrecisionOption = "float32",
    wandb: WandbOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train one of the three stages on a token store."""
    from segue import parts
    from segue.config import override
    from segue.fit import STAGES
    from segue.recipes import recipe as named

    name = next((name for name in STAGES if name == stage), None)
    if name is None:
        raise SegueError(f"--stage {stage}: one of {', '.join(STAGES)}")
    _begin(out, resume)
    chosen = override(named(recipe).stage(name), set_ or [])
    world = start_world(device, devices, nodes, strategy, precision, can_shard=True)
    use_threads(threads)
    with _shown(out, world) as progress:
        told = train_bar(progress, f"{name} stage")
        made = parts.train_stage(
            name, chosen, named(recipe).num_coarse, data, valid, out, licence, told, world=world, wandb=wandb
        )
    _done(made, world)


def train_parallel(
    data: Annotated[Path, typer.Option("--data", help="Token store.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: Annotated[Path | None, typer.Option(help="Token store held out from training.")] = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    strategy: StrategyOption = "auto",
    precision: PrecisionOption = "float32",
    wandb: WandbOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train the parallel acoustic decoder (SoundStorm) on a token store."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume)
    chosen = override(named(recipe).parallel, set_ or [])
    world = start_world(device, devices, nodes, strategy, precision, can_shard=True)
    use_threads(threads)
    with _shown(out, world) as progress:
        told = train_bar(progress, "parallel decoder")
        made = parts.train_parallel(chosen, data, valid, out, licence, told, world, wandb)
    _done(made, world)


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
    from segue.train.loop import Event

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


def _begin(out: Path, resume: bool) -> None:
    if any(step for place in ("step-*", "round-*/step-*") for step in out.glob(place)) and not resume:
        raise SegueError(f"{out}: a run is there already; give --resume to go on with it, or another --out")


@contextmanager
def _shown(out: Path, world: World) -> Iterator[Any]:
    """Bars in the first process, and a last word where training is stopped."""
    try:
        with bars(quiet=not world.is_first) as progress:
            yield progress
    except KeyboardInterrupt:
        if world.is_first:
            err.print(f"segue: stopped; --resume goes on from the last checkpoint in {out}", markup=False)
        raise


def _done(made: Path, world: World) -> None:
    if world.is_first:
        err.print(f"{made}: done")


def _data(data: list[Path], valid: list[Path] | None, weight: list[float] | None, licence: str):  # type: ignore[no-untyped-def]
    from segue.parts import SoundData

    return SoundData(tuple(data), tuple(valid) if valid else None, tuple(weight) if weight else None, licence)
