"""What several verbs share: their common options and the checks behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import torch
import typer

from segue import audio
from segue.artifact import check_writable
from segue.errors import SegueError
from segue.terminal import err

if TYPE_CHECKING:
    from segue.train.fabric import World

BundleOption = Annotated[str, typer.Option("--bundle", help="speech, piano, or the folder of a bundle.")]
DataOption = Annotated[list[Path], typer.Option("--data", help="Folder of sound files; give it again for more.")]
ValidOption = Annotated[list[Path] | None, typer.Option("--valid", help="Folder held out from training.")]
WeightOption = Annotated[
    list[float] | None, typer.Option("--weight", help="Share of the crops of each --data (and --valid, if several).")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: train.learning_rate=3e-4.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="tiny, small or paper.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
LicenceOption = Annotated[str, typer.Option("--licence", help="Of the data; kept in the model card.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
]
DevicesOption = Annotated[
    int, typer.Option("--devices", help="Processes here, each with a device of its own; leave it out under torchrun.")
]
NodesOption = Annotated[int, typer.Option("--nodes", help="Machines; each runs the same command.")]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help="ddp: a whole model on each device; fsdp (lm alone): a share; or auto.")
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Of matrix products: float32 or bfloat16.")]
WandbOption = Annotated[str | None, typer.Option("--wandb", metavar="PROJECT", help="Log to Weights & Biases too.")]
CandidatesOption = Annotated[
    int | None,
    typer.Option(
        help="Sequences of codes weighed against each other in each frame: 4 up to half of the codebooks by default, "
        "else 1. More take longer."
    ),
]
RefineOption = Annotated[
    int | None,
    typer.Option(
        "--refine",
        metavar="ROUNDS",
        help="Rounds in which the codes are fitted to the sound through the decoder: 6 by default, some twenty times "
        "slower than 0, which takes them as the encoder has them. Published codecs take 0 alone.",
    ),
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="CPU threads; torch decides by default.")]


def check_out(out: Path, source: Path | None) -> None:
    """Refuse an output that can't be written, is of no known format, or would replace the recording itself."""
    audio.writable_format(out)
    if source is not None and out.exists() and source.exists() and out.samefile(source):
        raise SegueError(f"{out}: that is the recording itself, which would be lost; give another --out")
    check_writable(out)


def notes_of(recording: audio.Recording) -> None:
    """Tell what was done to a recording on reading it."""
    for note in recording.notes:
        err.print(f"note: {note}")


def use_threads(threads: int | None) -> None:
    """Set torch's CPU threads."""
    if threads is not None:
        if threads < 1:
            raise SegueError(f"--threads {threads}: at least 1")
        torch.set_num_threads(threads)


def choose_device(name: str) -> str:
    """The device a verb works on.

    Raises:
        SegueError: if torch has no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SegueError(f"--device {name}: torch can't use it here ({reason}); give cpu or auto") from error
    return name


def start_world(device: str, devices: int, nodes: int, strategy: str, precision: str, can_shard: bool) -> World:
    """The processes that a verb trains with; the others run the same command again.

    Args:
        device: see `choose_device`.
        devices: processes on this machine.
        nodes: machines.
        strategy: `auto`, `ddp` or `fsdp`.
        precision: `float32` or `bfloat16`.
        can_shard: whether the model may be spread over processes.

    Raises:
        SegueError: for an unknown choice, or one that can't be had here.
    """
    from segue.train.fabric import Hardware, Precision, Strategy, start

    how = one_of("--strategy", strategy, get_args(Strategy))
    if how == "fsdp" and not can_shard:
        raise SegueError("--strategy fsdp: only the stages' models are large enough to be spread out; use ddp here")
    numbers = one_of("--precision", precision, get_args(Precision))
    return start(Hardware(choose_device(device), devices, nodes, how, numbers))


def one_of(option: str, value: str, known: tuple[Any, ...]) -> Any:
    """A value that must be one of those known.

    Raises:
        SegueError: if it is none.
    """
    if value not in known:
        raise SegueError(f"{option} {value}: one of {', '.join(known)}")
    return value
