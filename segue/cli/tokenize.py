"""The verb `tokenize`: recordings to a token store, in one process, in several, or on a cluster."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated

import typer

from segue.cli.options import BundleOption, DeviceOption, ThreadsOption, choose_device, use_threads
from segue.data.aligned import Tokenizers
from segue.data.voice import Cutting
from segue.data.work import Engine
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err

ENGINES = ("local", "ray")


def tokenize(
    source: Annotated[
        list[Path], typer.Argument(help="Folder of sound files, tar shard or JSONL manifest; more may follow.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the token store; gone on with if it exists.")],
    bundle: BundleOption = "speech",
    codec: Annotated[
        str | None, typer.Option(help="Codec instead of the bundle's: a folder, or hf:NAME of a published one.")
    ] = None,
    semantic: Annotated[
        str | None,
        typer.Option(
            help="Semantic tokenizer instead of the bundle's: phonetic, or the folder of an artifact or a run."
        ),
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Stop at so many hours of sound, in the order given.")] = None,
    trim: Annotated[bool, typer.Option("--trim", help="Keep speech only; long pauses end a clip.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(help="Cut longer recordings into clips of at most so long.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, or actors on a cluster; one thread each if several.")] = 1,
    engine: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")] = "local",
    address: Annotated[str, typer.Option(help="Ray: auto, local or HOST:PORT.")] = "auto",
    gpus_per_worker: Annotated[float, typer.Option(help="Ray: GPUs an actor gets, such as 1 or 0.25.")] = 0.0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Turn recordings into a token store: folders, tar shards and JSONL manifests, in any mix."""
    from segue.data.corpus import fill

    use_threads(threads)
    if engine not in ENGINES:
        raise SegueError(f"--engine {engine}: one of {', '.join(ENGINES)}")
    if workers < 1:
        raise SegueError(f"--workers {workers}: at least 1")
    if engine == "ray" and device != "cpu":
        raise SegueError(f"--device {device}: for --engine local; on a cluster give --gpus-per-worker")
    cutting = Cutting(trim, math.inf if max_seconds is None else max_seconds)
    load = functools.partial(load_tokenizers, *_from_anywhere(bundle, codec, semantic))
    tokenizers = load(choose_device(device) if engine == "local" else "cpu")
    with bars() as progress:
        done = fill(
            source,
            out,
            tokenizers,
            _engine(engine, load, tokenizers, workers, address, gpus_per_worker),
            cutting=cutting,
            on_progress=count_bar(progress, "tokenise"),
            hours=math.inf if hours is None else hours,
        )
    err.print(f"{out}: {done.written} clips written ({done.seconds / 3600:.2f} h), {done.kept} were there before")
    if done.skipped:
        err.print(f"{done.skipped} files skipped; reasons in {out / 'skipped.jsonl'}")


def load_tokenizers(bundle: str, codec: str | None, semantic: str | None, device: str = "cpu") -> Tokenizers:
    """The tokenizers that the options name, on a device; here and in every worker.

    Raises:
        SegueError: if a part is missing or damaged.
    """
    from torch import nn

    from segue.bundle import codec_from_part, codec_part, load_parts, locate
    from segue.tokenizers import load_semantic, semantic_from_part

    shipped = {} if codec and semantic else load_parts(locate(bundle))
    codec_model = codec_from_part(codec_part(codec) if codec else shipped["codec"])
    semantic_model = load_semantic(semantic) if semantic else semantic_from_part(shipped["semantic"])
    for model in (semantic_model, codec_model):
        if isinstance(model, nn.Module):
            model.to(device)
    return Tokenizers(semantic_model, codec_model, device)


def _from_anywhere(bundle: str, codec: str | None, semantic: str | None) -> tuple[str, str | None, str | None]:
    """The options with whole paths, for a worker may have another working directory."""
    from segue.bundle import bundled_names
    from segue.tokenizers import PHONETIC

    return (
        bundle if bundle in bundled_names() else str(Path(bundle).absolute()),
        _whole(codec),
        semantic if semantic == PHONETIC else _whole(semantic),
    )


def _whole(part: str | None) -> str | None:
    from segue.published import is_reference

    return part if part is None or is_reference(part) else str(Path(part).absolute())


def _engine(
    name: str,
    load: functools.partial[Tokenizers],
    tokenizers: Tokenizers,
    workers: int,
    address: str,
    gpus_per_worker: float,
) -> Engine:
    from segue.data import engine_local, engine_ray

    if name == "ray":
        placed = functools.partial(load, "cuda" if gpus_per_worker > 0 else "cpu")
        return engine_ray.cluster(placed, workers, address, gpus_per_worker)
    if workers > 1:
        return engine_local.processes(functools.partial(load, tokenizers.device), workers)
    return engine_local.here(tokenizers)
