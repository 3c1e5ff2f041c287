"""Verbs on codec codes in a file: `encode` and `decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue import audio
from segue.artifact import check_writable
from segue.bundle import BUNDLED, bundled_names, codec_part, load
from segue.cli.options import (
    BundleOption,
    CandidatesOption,
    RefineOption,
    ThreadsOption,
    check_out,
    notes_of,
    use_threads,
)
from segue.codec import file
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Sound file.")],
    out: Annotated[Path, typer.Option("--out", help="File of codes to write: X.segue.")],
    codebooks: Annotated[int | None, typer.Option(help="1 to as many as the codec has; all by default.")] = None,
    candidates: CandidatesOption = None,
    refine: RefineOption = None,
    bundle: BundleOption = "speech",
    threads: ThreadsOption = None,
) -> None:
    """Compress a recording to a file of codec codes."""
    _check_codes_out(out, source)
    use_threads(threads)
    loaded = load(bundle)
    recording = audio.read(source, loaded.sample_rate)
    notes_of(recording)
    with bars() as progress:
        told = count_bar(progress, "refining", "rounds")
        coded = file.encode(loaded.codec, recording.wave, codebooks, candidates, refine, told)
    file.write_codes(out, coded)
    err.print(_figures(out, out.stat().st_size, coded))


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File of codes: X.segue.")],
    out: Annotated[Path, typer.Option("--out", help="Sound file to write.")],
    bundle: BundleOption = "speech",
    threads: ThreadsOption = None,
) -> None:
    """Turn a file of codec codes back into sound."""
    check_out(out, source)
    use_threads(threads)
    coded = file.read_codes(source)
    loaded = load(bundle)
    if coded.fingerprint != loaded.codec.codes_fingerprint:
        raise SegueError(
            f"{source}: made by the codec {coded.fingerprint}, but the bundle {bundle} reads those of "
            f"{loaded.codec.codes_fingerprint}; give --bundle {_bundles_with(coded.fingerprint)}"
        )
    try:
        wave = file.decode(loaded.codec, coded)
    except SegueError as error:
        raise SegueError(f"{source}: {error}") from error
    audio.write(out, wave, coded.sample_rate)
    err.print(_figures(out, source.stat().st_size, coded))


def _check_codes_out(out: Path, source: Path) -> None:
    if out.suffix.lower() != file.SUFFIX:
        raise SegueError(f"{out}: a file of codes ends in {file.SUFFIX}; give --out NAME{file.SUFFIX}")
    if out.exists() and source.exists() and out.samefile(source):
        raise SegueError(f"{out}: that is the recording itself, which would be lost; give another --out")
    check_writable(out)


def _bundles_with(fingerprint: str) -> str:
    """The bundled bundles whose codec this is, or a word on where to look."""
    names = [name for name in bundled_names() if codec_part(BUNDLED / name).token_fingerprint == fingerprint]
    return " or ".join(names) or "FOLDER, the bundle it was encoded with"


def _figures(path: Path, size: int, coded: file.CodedAudio) -> str:
    of_file = f"{size} bytes, {8 * size / coded.seconds / 1000:.2f} kbit/s"
    of_codes = f"codes {coded.bit_rate / 1000:.1f} kbit/s ({coded.num_codebooks} codebooks)"
    return f"{path}: {coded.seconds:.2f} s; {of_file} as a file, {of_codes}"
