"""Make examples/gallery: held-out prompts, what the codec keeps of them, and how the bundled models go on.

    python scripts/bundled/gallery.py SPEECH/valid PIANO/valid examples/gallery

Four LibriSpeech utterances of different readers and four songs with both sound fonts, drawn by `choose` from the
manifests beside the recordings; 3 s of each are the prompt. Every other sound is what a command of `segue` writes, and
that very command stands on the page. Writes sounds/, index.html and README.md; the folder takes the place of an older
one when all of it is there. Same weights, recordings and machine: same bytes.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote, split
from typing import Any

import torch
from gallery_page import Part, Prompt, Sound, page, readme

from segue import audio
from segue.artifact import written_folder
from segue.bundle import Bundle, bundled_names, load, locate
from segue.cli import app
from segue.data.manifests import MANIFEST, rows
from segue.errors import SegueError
from segue.lm.decoder import choose_engine

PROMPT_SECONDS, SECONDS = 3.0, 7.0
CODEBOOKS = (3, 12)
SYSTEMS = {"full": "full system", "acoustic-only": "acoustic-only"}
MOST_BYTES = 4_000_000
"""That a repository should be burdened with."""

HELD = {"index.html", "README.md", "sounds"}
"""All that a gallery's folder holds."""

LIBRISPEECH = {"ls_dev_clean": "LibriSpeech dev-clean", "ls_train_clean": "LibriSpeech train-clean-100"}
FONTS = {"fluid": "FluidR3 GM", "musescore": "MuseScore General"}


@dataclass(frozen=True)
class Origin:
    """Where a recording comes from.

    Attributes:
        piece: what no two prompts may share.
        told: its collection, reader or song, and instrument.
        licence: of it.
    """

    piece: str
    told: str
    licence: str


@dataclass(frozen=True)
class Kind:
    """What there is to know of one kind of recordings.

    Attributes:
        name: of the kind and of its bundle.
        begins: of the names of recordings that are taken.
        start_seconds: where the prompt begins.
        origin: of a row of the manifest.
        thanks: whom the recordings are owed to.
    """

    name: str
    begins: str
    start_seconds: float
    origin: Callable[[dict[str, Any]], Origin]
    thanks: str


def utterance(row: dict[str, Any]) -> Origin:
    """Of LibriSpeech; files are named COLLECTION__READER-CHAPTER-NUMBER.

    Raises:
        SegueError: if it isn't of a collection that is known, so that no credit can be given.
    """
    found = re.fullmatch(r"(\w+)__((\d+)-\d+-\d+)", Path(row["path"]).stem)
    if found is None or found[1] not in LIBRISPEECH:
        raise SegueError(f"{row['path']}: no credit is known for it; wanted: {', '.join(LIBRISPEECH)}__1-2-3.wav")
    return Origin(found[2], f"{LIBRISPEECH[found[1]]}, reader {found[3]}, utterance {found[2]}", "CC BY 4.0")


def song(row: dict[str, Any]) -> Origin:
    """Of POP909; files are named SONG.wav or SONG-FONT.wav, and the manifest tells the sound font as the speaker.

    Raises:
        SegueError: if the font isn't known, so that no credit can be given.
    """
    if row.get("speaker") not in FONTS:
        raise SegueError(f"{row['path']}: sound font {row.get('speaker')!r} is not known; wanted: {', '.join(FONTS)}")
    number = Path(row["path"]).stem.split("-")[0]
    return Origin(number, f"POP909, song {number}, {FONTS[row['speaker']]}", "MIT; sound font MIT")


KINDS = (
    Kind(
        "speech",
        "ls_",
        0.0,
        utterance,
        "LibriSpeech: V. Panayotov, G. Chen, D. Povey and S. Khudanpur, CC BY 4.0 "
        "(https://creativecommons.org/licenses/by/4.0/); prompts are cut out of it.",
    ),
    Kind(
        "piano",
        "",
        20.0,
        song,
        "POP909 (MIDI, rendered with a sampled piano): Z. Wang, K. Chen, J. Jiang and others, MIT. Sound fonts FluidR3 "
        "GM and MuseScore General, MIT.",
    ),
)


def choose(kind: Kind, folder: Path, count: int, seed: int) -> list[tuple[Path, Origin]]:
    """Recordings taken in turn from readers, or instruments, in an order that is drawn; none of one piece with another.

    Args:
        kind: of the recordings.
        folder: with a manifest.
        count: how many.
        seed: of the draw.

    Raises:
        SegueError: if the folder hasn't so many that are long enough, or one can't be read or credited.
    """
    end = kind.start_seconds + PROMPT_SECONDS
    of: dict[str, list[tuple[Path, Origin]]] = {}
    named = [row for row in rows(folder / MANIFEST) if row["path"].startswith(kind.begins)]
    for row in sorted(named, key=lambda row: row["path"]):
        path = folder / row["path"]
        if not path.is_file():
            raise SegueError(f"{path}: the manifest names it, but it is not there")
        if audio.duration_seconds(path) >= end:
            of.setdefault(str(row.get("speaker")), []).append((path, kind.origin(row)))
    rng = random.Random(seed)
    turns = [rng.sample(of[name], len(of[name])) for name in rng.sample(sorted(of), len(of))]
    taken: dict[str, tuple[Path, Origin]] = {}
    while len(taken) < count and any(turns):
        for own in turns:
            while own and own[0][1].piece in taken:
                own.pop(0)
            if own and len(taken) < count:
                path, origin = own.pop(0)
                taken[origin.piece] = path, origin
    if len(taken) < count:
        wanted = f"{kind.begins}* " if kind.begins else ""
        raise SegueError(
            f"{folder}: {len(taken)} {wanted}recordings of at least {end:g} s, {count} are needed for {kind.name}"
        )
    return list(taken.values())


@dataclass(frozen=True)
class Asked:
    """How to go on.

    Attributes:
        bundle: what `segue` is to call it.
        seconds: to make.
        seed: of the continuations.
    """

    bundle: str
    seconds: float
    seed: int


def sounds(name: str, bundle: Bundle, asked: Asked) -> tuple[Sound, tuple[Sound, ...], tuple[Sound, ...]]:
    """The sounds of a prompt, with the commands that make them in the gallery's folder.

    Args:
        name: of the prompt.
        bundle: that makes them.
        asked: how to go on.

    Returns:
        the prompt, what the codec keeps of it, and continuations.
    """
    prompt = f"sounds/{name}-prompt.flac"
    bits = (bundle.codec.codebook_size - 1).bit_length() * bundle.codec.frame_rate
    coded = []
    for count in CODEBOOKS:
        file = f"sounds/{name}-codec-{count}.ogg"
        command = f"reconstruct {prompt} --bundle {quote(asked.bundle)} --codebooks {count} --out {file}"
        coded.append(Sound(f"{count} codebooks", f"{count * bits / 1000:g} kbit/s", file, command))
    continued = []
    for system, title in SYSTEMS.items():
        file = f"sounds/{name}-{system}.ogg"
        command = (
            f"continue {prompt} --bundle {quote(asked.bundle)} --prompt-seconds {PROMPT_SECONDS:g} "
            f"--seconds {asked.seconds:g} --seed {asked.seed} --system {system} --out {file}"
        )
        continued.append(Sound(title, f"made from {PROMPT_SECONDS:g} s on", file, command))
    return Sound("prompt", f"{PROMPT_SECONDS:g} s, as recorded", prompt), tuple(coded), tuple(continued)


def make(kind: Kind, found: list[tuple[Path, Origin]], asked: Asked, folder: Path) -> Part:
    """Make all sounds of a kind in the gallery's folder."""
    bundle = load(asked.bundle)
    prompts = []
    for number, (path, origin) in enumerate(found, 1):
        name = f"{kind.name}-{number}"
        prompt, coded, continued = sounds(name, bundle, asked)
        crop = audio.read_crop(path, kind.start_seconds, PROMPT_SECONDS, bundle.sample_rate)
        audio.check(crop, bundle.sample_rate, str(path))
        audio.write(folder / prompt.file, torch.from_numpy(crop), bundle.sample_rate)
        for sound in (*coded, *continued):
            with chdir(folder):
                app(split(sound.command), standalone_mode=False)
        where = f"{origin.told}, from {kind.start_seconds:g} s"
        prompts.append(Prompt(name, where, origin.licence, asked.seed, prompt, coded, continued))
    engine = choose_engine()
    setting = (
        ("bundle", bundle.name),
        ("fingerprint", bundle.fingerprint),
        ("fingerprint of its codec", bundle.fingerprints["codec"]),
        ("temperature", " / ".join(f"{value:g}" for value in bundle.manner.temperature)),
        ("guidance", f"{bundle.manner.guidance:g}"),
        ("tries", f"{bundle.manner.tries_for(asked.seconds)}"),
        ("decoder", f"{bundle.manner.decoder}; engine {engine.engine}, weights {engine.weights}"),
        ("Segue", version("segue")),
    )
    return Part(kind.name, setting, kind.thanks, tuple(prompts))


def refuse_other_folders(out: Path) -> None:
    """Keep what isn't a gallery from being replaced by one.

    Raises:
        SegueError: if there is something else at `out`.
    """
    others = [] if not out.exists() else [out] if not out.is_dir() else [p for p in out.iterdir() if p.name not in HELD]
    if others:
        raise SegueError(f"{out}: would be replaced, but {others[0]} is no part of a gallery; give another folder")


def gallery(out: Path, folders: Sequence[Path], asked: Sequence[Asked], prompts: int, draw: int) -> None:
    """Make the whole gallery.

    Args:
        out: its folder.
        folders: of recordings, a kind each.
        asked: how to go on with them.
        prompts: of each kind.
        draw: seed of the choice of recordings.

    Raises:
        SegueError: if there are no such recordings or bundles, or the folder can't be written or holds something else.
    """
    refuse_other_folders(out)
    if prompts < 1:
        raise SegueError(f"--prompts {prompts}: at least 1 of each kind")
    found = [choose(kind, folder, prompts, draw) for kind, folder in zip(KINDS, folders, strict=True)]
    with written_folder(out) as beside:
        (beside / "sounds").mkdir()
        parts = [make(kind, own, how, beside) for kind, own, how in zip(KINDS, found, asked, strict=True)]
        (beside / "index.html").write_text(page(parts, beside), encoding="utf-8")
        (beside / "README.md").write_text(readme(parts), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path, help="held-out speech, with its manifest")
    parser.add_argument("piano", type=Path, help="held-out piano, with its manifest")
    parser.add_argument("out", type=Path, help="the gallery's folder")
    parser.add_argument("--prompts", type=int, default=4, help="of each kind")
    parser.add_argument("--speech-bundle", default="speech")
    parser.add_argument("--piano-bundle", default="piano")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="to make after a prompt")
    parser.add_argument("--seed", type=int, default=0, help="of the continuations")
    parser.add_argument("--draw", type=int, default=0, help="seed of the choice of recordings")
    given = parser.parse_args()
    try:
        asked = [
            Asked(name if name in bundled_names() else str(locate(name).resolve()), given.seconds, given.seed)
            for name in (given.speech_bundle, given.piano_bundle)
        ]
        gallery(given.out, (given.speech, given.piano), asked, given.prompts, given.draw)
    except SegueError as error:
        print(f"gallery: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    files = [path for path in given.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{given.out}: {len(files)} files, {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        print(f"gallery: note: more than {MOST_BYTES / 1e6:g} MB; give fewer --prompts", file=sys.stderr)


if __name__ == "__main__":
    main()
