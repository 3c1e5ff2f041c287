"""Verbs that learn: `tokenize`, `train codec | semantic | lm` and `fit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import typer

from segue.cli.options import (
    BundleOption,
    DataOption,
    DeviceOption,
    LicenceOption,
    RecipeOption,
    ResumeOption,
    SetOption,
    ThreadsOption,
    ValidOption,
    WeightOption,
    choose_device,
    use_threads,
)
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err, train_bar


def tokenize(
    folder: Annotated[list[Path], typer.Argument(help="Folder of sound files; more may follow.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the token store; gone on with if it exists.")],
    bundle: BundleOption = "speech",
    codec: Annotated[Path | None, typer.Option(help="Codec artifact instead of the bundle's.")] = None,
    semantic: Annotated[Path | None, typer.Option(help="Semantic artifact instead of the bundle's.")] = None,
    hours: Annotated[float | None, typer.Option(help="Stop at so many hours of sound, by the files' names.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """Turn a folder of sound files into a token store."""
    from segue.bundle import load_parts, locate
    from segue.codec.soundstream import SoundStream
    from segue.data.corpus import tokenise
    from segue.parts import load_artifact
    from segue.semantic.tokenizer import SemanticTokenizer

    use_threads(threads)
    shipped = {} if codec and semantic else load_parts(locate(bundle))
    codec_part = load_artifact(codec, "codec") if codec else shipped["codec"]
    semantic_part = load_artifact(semantic, "semantic") if semantic else shipped["semantic"]
    with bars() as progress:
        told = count_bar(progress, "tokenise")
        tokenizers = SemanticTokenizer.from_part(semantic_part), SoundStream.from_part(codec_part)
        done = tokenise(folder, out, *tokenizers, told, hours=float("inf") if hours is None else hours)
    err.print(f"{out}: {done.written} clips written ({done.seconds / 3600:.2f} h), {done.kept} were there before")
    if done.skipped:
        err.print(f"{done.skipped} files skipped; reasons in {out / 'skipped.jsonl'}")


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
    threads: ThreadsOption = None,
) -> None:
    """Train a SoundStream codec on folders of sound files."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume, threads)
    chosen = override(named(recipe).codec, set_ or [])
    with bars() as progress:
        told = train_bar(progress, "codec")
        made = parts.train_codec(chosen, _data(data, valid, weight, licence), out, told, choose_device(device))
    err.print(f"{made}: done")


def train_semantic(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: ValidOption = None,
    weight: WeightOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train a semantic tokenizer on folders of sound files."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume, threads)
    chosen = override(named(recipe).semantic, set_ or [])
    with bars() as progress:
        told = train_bar(progress, "semantic")
        made = parts.train_semantic(chosen, _data(data, valid, weight, licence), out, told, choose_device(device))
    err.print(f"{made}: done")


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
    precision: Annotated[str, typer.Option(help="Of the matrix products: float32 or bfloat16.")] = "float32",
    threads: ThreadsOption = None,
) -> None:
    """Train one of the three stages on a token store."""
    from segue import parts
    from segue.config import override
    from segue.fit import STAGES
    from segue.recipes import recipe as named
    from segue.train.lm import Precision

    name = next((name for name in STAGES if name == stage), None)
    if name is None:
        raise SegueError(f"--stage {stage}: one of {', '.join(STAGES)}")
    numbers = next((known for known in get_args(Precision) if known == precision), None)
    if numbers is None:
        raise SegueError(f"--precision {precision}: one of {', '.join(get_args(Precision))}")
    _begin(out, resume, threads)
    chosen = override(named(recipe).stage(name), set_ or [])
    with bars() as progress:
        told = train_bar(progress, f"{name} stage")
        made = parts.train_stage(
            name, chosen, named(recipe).num_coarse, data, valid, out, licence, told, choose_device(device), numbers
        )
    err.print(f"{made}: done")


def fit(
    folder: Annotated[Path, typer.Argument(help="Folder of sound files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    recipe: RecipeOption = "tiny",
    steps_factor: Annotated[float, typer.Option(help="Train every part so many times as long.")] = 1.0,
    codec: Annotated[Path | None, typer.Option(help="A trained codec to use instead of training one.")] = None,
    set_: SetOption = None,
    licence: LicenceOption = "",
    threads: ThreadsOption = None,
) -> None:
    """A folder of sound files to a working bundle. The same command goes on after a stop."""
    from segue.config import override
    from segue.fit import fit as fit_bundle
    from segue.fit import with_steps
    from segue.parts import SoundData
    from segue.recipes import recipe as named
    from segue.train.loop import Event

    use_threads(threads)
    chosen = with_steps(override(named(recipe), set_ or []), steps_factor)
    with bars() as progress:
        started: dict[str, Callable[[Event], None]] = {}

        def watch(part: str, event: Event) -> None:
            if part not in started:
                started[part] = train_bar(progress, part)
            started[part](event)

        data = SoundData((folder,), licence=licence)
        made = fit_bundle(data, chosen, out, watch, count_bar(progress, "tokenise"), codec)
    err.print(f"{made}: done; segue continue PROMPT.wav --bundle {made} --out OUT.wav")


def _begin(out: Path, resume: bool, threads: int | None) -> None:
    use_threads(threads)
    if any(out.glob("step-*")) and not resume:
        raise SegueError(f"{out}: a run is there already; give --resume to go on with it, or another --out")


def _data(data: list[Path], valid: list[Path] | None, weight: list[float] | None, licence: str):  # type: ignore[no-untyped-def]
    from segue.parts import SoundData

    return SoundData(tuple(data), tuple(valid) if valid else None, tuple(weight) if weight else None, licence)
