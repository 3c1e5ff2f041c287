"""The command line: verbs only. What a verb does lives elsewhere; here are its options and how it speaks.

Results go to standard output, everything else to standard error. Bad input costs one line and exit code 2.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segue import audio, units
from segue.artifact import check_writable
from segue.bundle import Bundle, load
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err, stage_bars, train_bar

app = typer.Typer(
    name="segue",
    help="AudioLM as software: give it a few seconds of raw audio and it goes on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train one part on your own data.", no_args_is_help=True)
app.add_typer(train_app, name="train")

BundleOption = Annotated[str, typer.Option("--bundle", help="speech, piano, or the folder of a bundle.")]
DataOption = Annotated[list[Path], typer.Option("--data", help="Folder of sound files; give it again for more.")]
ValidOption = Annotated[list[Path] | None, typer.Option("--valid", help="Folder held out from training.")]
WeightOption = Annotated[list[float] | None, typer.Option("--weight", help="Share of the crops of each --data.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: train.learning_rate=3e-4.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="tiny, small or paper.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
LicenceOption = Annotated[str, typer.Option("--licence", help="Of the data; kept in the model card.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="CPU threads; torch decides by default.")]


@app.command("continue")
def continue_(
    prompt: Annotated[Path, typer.Argument(help="Sound file that begins with the prompt.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: prompt, then continuation.")],
    bundle: BundleOption = "speech",
    prompt_seconds: Annotated[float, typer.Option(help="The prompt is so much of the file's beginning.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="To make.")] = 7.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    temperature: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Of the semantic, coarse and fine stage; the bundle's own by default."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest tokens of this probability.")] = None,
    num: Annotated[int, typer.Option(help="Continuations; beyond one, OUT is numbered.")] = 1,
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="End early where the model ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of figures on standard output.")] = False,
    threads: ThreadsOption = None,
) -> None:
    """Go on with a recording."""
    began = time.perf_counter()
    _check_out(out, prompt)
    if not 0 < prompt_seconds < float("inf"):
        raise SegueError(f"--prompt-seconds {prompt_seconds}: ask for more than 0")
    _use_threads(threads)
    loaded = load(bundle)
    wave = _prompt(prompt, prompt_seconds, loaded)
    with bars(quiet=as_json) as progress:
        result = loaded.continue_audio(
            wave.numpy(),
            loaded.sample_rate,
            seconds,
            seed=seed,
            num=num,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop_at_end=stop_at_end,
            on_progress=stage_bars(progress),
        )
    outs = [out] if num == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(num)]
    for path, row, samples in zip(outs, result.wave, result.samples, strict=True):
        audio.write(path, row[:samples], result.sample_rate)
    wall = time.perf_counter() - began
    made = [round(samples / result.sample_rate - result.prompt_seconds, 3) for samples in result.samples]
    figures = {
        "out": [str(path) for path in outs],
        "prompt_seconds": round(result.prompt_seconds, 3),
        "seconds_made": made,
        "wall_seconds": round(wall, 3),
        "real_time_factor": round(sum(made) / wall, 3),
        "seeds": list(result.seeds),
        "bundle": loaded.name,
        "bundle_fingerprint": loaded.fingerprint,
    }
    if as_json:
        print(json.dumps(figures))
        return
    for path, length in zip(outs, made, strict=True):
        err.print(f"{path}: {result.prompt_seconds:.2f} s of prompt, {length:.2f} s of continuation")
    err.print(f"{wall:.1f} s of work, {figures['real_time_factor']} times real time")


@app.command()
def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Sound file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    codebooks: Annotated[int | None, typer.Option(help="1 to 12; each costs 0.5 kbit/s. All by default.")] = None,
    bundle: BundleOption = "speech",
    threads: ThreadsOption = None,
) -> None:
    """Send a recording through the codec and back."""
    _check_out(out, source)
    _use_threads(threads)
    loaded = load(bundle)
    recording = audio.read(source, loaded.sample_rate)
    _notes(recording)
    audio.write(out, loaded.reconstruct(recording.wave, codebooks), loaded.sample_rate)
    count = loaded.codec.num_codebooks if codebooks is None else codebooks
    bits = count * loaded.codec.frame_rate * (loaded.codec.codebook_size - 1).bit_length()
    err.print(f"{out}: {recording.seconds:.2f} s at {bits / 1000:.1f} kbit/s ({count} codebooks)")


@app.command()
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

    _use_threads(threads)
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


@train_app.command("codec")
def train_codec(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: ValidOption = None,
    weight: WeightOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
    threads: ThreadsOption = None,
) -> None:
    """Train a SoundStream codec on folders of sound files."""
    from segue import parts
    from segue.config import override
    from segue.recipes import recipe as named

    _begin(out, resume, threads)
    chosen = override(named(recipe).codec, set_ or [])
    with bars() as progress:
        made = parts.train_codec(chosen, _data(data, valid, weight, licence), out, train_bar(progress, "codec"))
    err.print(f"{made}: done")


@train_app.command("semantic")
def train_semantic(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: ValidOption = None,
    weight: WeightOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
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
        made = parts.train_semantic(chosen, _data(data, valid, weight, licence), out, told)
    err.print(f"{made}: done")


@train_app.command("lm")
def train_lm(
    stage: Annotated[str, typer.Option(help="semantic, coarse or fine.")],
    data: Annotated[Path, typer.Option("--data", help="Token store.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: RecipeOption = "tiny",
    valid: Annotated[Path | None, typer.Option(help="Token store held out from training.")] = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    licence: LicenceOption = "",
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
    _begin(out, resume, threads)
    chosen = override(named(recipe).stage(name), set_ or [])
    with bars() as progress:
        told = train_bar(progress, f"{name} stage")
        made = parts.train_stage(name, chosen, named(recipe).num_coarse, data, valid, out, licence, told)
    err.print(f"{made}: done")


@app.command()
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

    _use_threads(threads)
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


@app.command()
def info(bundle: Annotated[str, typer.Argument(help="speech, piano, or the folder of a bundle.")]) -> None:
    """What a bundle is made of and what it was trained on."""
    from segue.bundle import load_parts, locate

    folder = locate(bundle)
    parts = load_parts(folder)
    table = Table(title=f"{folder.name}  ({folder})", title_justify="left")
    for column in ("part", "fingerprint", "parameters", "MB", "hours", "steps"):
        table.add_column(column, no_wrap=True)
    for role, part in parts.items():
        count = sum(tensor.numel() for tensor in part.tensors.values())
        size = sum(tensor.numel() * tensor.element_size() for tensor in part.tensors.values())
        cells = [str(part.card.get(key, "")) for key in ("hours", "steps")]
        table.add_row(role, part.fingerprint, f"{count / 1e6:.2f} M", f"{size / 1e6:.1f}", *cells)
    out = Console(highlight=False)
    out.print(table)
    for licence in dict.fromkeys(str(part.card.get("licence") or "not stated") for part in parts.values()):
        roles = ", ".join(role for role, part in parts.items() if (part.card.get("licence") or "not stated") == licence)
        out.print(f"licence of the data of {roles}: {licence}", markup=False)


def main() -> None:
    """Run the command line; what the caller can mend becomes one line and exit code 2."""
    warnings.showwarning = lambda message, *rest, **more: err.print(f"segue: warning: {message}", markup=False)
    try:
        app()
    except SegueError as error:
        err.print(f"segue: {' '.join(str(error).split())}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("segue: stopped; the last checkpoint is kept")
        sys.exit(130)


def _check_out(out: Path, source: Path) -> None:
    audio.writable_format(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise SegueError(f"{out}: that is the recording itself, which would be lost; give another --out")
    check_writable(out)


def _prompt(path: Path, seconds: float, bundle: Bundle) -> Tensor:
    recording = audio.read(path, bundle.sample_rate)
    wanted = units.seconds_to_samples(seconds, bundle.sample_rate)
    if recording.wave.shape[-1] < wanted:
        raise SegueError(
            f"{path}: {recording.seconds:.2f} s long, but --prompt-seconds asks for {seconds:g}; "
            f"give --prompt-seconds {int(recording.seconds * 100) / 100:g} or less"
        )
    _notes(recording)
    return recording.wave[:wanted]


def _notes(recording: audio.Recording) -> None:
    for note in recording.notes:
        err.print(f"note: {note}")


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        if threads < 1:
            raise SegueError(f"--threads {threads}: at least 1")
        torch.set_num_threads(threads)


def _begin(out: Path, resume: bool, threads: int | None) -> None:
    _use_threads(threads)
    if any(out.glob("step-*")) and not resume:
        raise SegueError(f"{out}: a run is there already; give --resume to go on with it, or another --out")


def _data(data: list[Path], valid: list[Path] | None, weight: list[float] | None, licence: str):  # type: ignore[no-untyped-def]
    from segue.parts import SoundData

    return SoundData(tuple(data), tuple(valid) if valid else None, tuple(weight) if weight else None, licence)


if __name__ == "__main__":
    main()
