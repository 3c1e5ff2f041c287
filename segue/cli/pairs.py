"""Verbs of pairs of sounds: `evaluate pairs make`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segue.artifact import check_writable
from segue.cli.options import one_of
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err

KINDS = ("words", "sentences", "audio")
RECORDING_SECONDS = 30.0
RECORDINGS_A_PAIR = 4
"""Looked at, so that speakers have several."""

pairs_app = typer.Typer(help="Pairs of sounds, one of which a model should find likelier.", no_args_is_help=True)


@pairs_app.command("make")
def pairs_make(
    kind: Annotated[str, typer.Option("--kind", help="words, sentences or audio.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make; give it to `evaluate lm --pairs`.")],
    words: Annotated[Path | None, typer.Option(help="Words, one a line (and phonemes after a tab).")] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="Right, tab, wrong (and a tab and type), a pair a line.")
    ] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder, tar shard or manifest of sound.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pairs; of audio, of each of its three kinds.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    voice: Annotated[
        list[str] | None,
        typer.Option(help="Of the synthesiser; again for more: of hibari-tts, or espeak:fr and such. Default: heart."),
    ] = None,
) -> None:
    """Make pairs: words and pseudo-words or sentences by a synthesiser, or right and wrong continuations of sound."""
    from segue.evaluate.pairs import make, splices, synthesis
    from segue.evaluate.recordings import held_out

    chosen = one_of("--kind", kind, KINDS)
    given: dict[str, Any] = {"words": words, "sentences": sentences, "audio": data}
    option = {"words": "--words FILE", "sentences": "--sentences FILE", "audio": "--data FOLDER"}
    if not given[chosen]:
        raise SegueError(f"--kind {chosen}: give {option[chosen]}")
    extra = [option[name].split()[0] for name in KINDS if name != chosen and given[name]]
    if extra or (chosen == "audio" and voice):
        raise SegueError(f"--kind {chosen} doesn't use {', '.join(extra) or '--voice'}; leave it out")
    make.check_out(out)
    check_writable(out)
    with bars() as progress:
        told = count_bar(progress, f"pairs of {chosen}", "done")
        if chosen == "audio":
            recordings, left_out = held_out(
                data or [], RECORDINGS_A_PAIR * limit, RECORDING_SECONDS, seed, splices.NEEDED_SECONDS
            )
            for line in left_out:
                err.print(f"note: {line}")
            made = make.of_recordings(recordings, limit, seed, told)
        else:
            voices = [synthesis.synthesiser(name) for name in dict.fromkeys(voice or ["heart"])]
            if chosen == "words":
                made = synthesis.of_words(synthesis.read_words(given["words"]), voices, limit, seed, told)
            else:
                made = synthesis.of_sentences(synthesis.read_sentences(given["sentences"]), voices, limit, told)
        numbers = make.save(made, out)
    err.print(f"{out}: " + ", ".join(f"{count} {name}" for name, count in sorted(numbers.items())))
