"""Recordings to a token store: what is there already stays, what is new is tokenised by an engine, and written here.

wave (1, N) -> semantic (T_s,) and codes (Q, T). What can't be used is listed with the reason in `skipped.jsonl`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from segue import audio
from segue.artifact import written_file
from segue.codec.seam import Codec, frames_a_cut
from segue.data import shards, sources
from segue.data.aligned import SemanticTokenizer, Tokenizers, encode_aligned, header
from segue.data.engine_local import here
from segue.data.items import Item, Skipped, readable
from segue.data.lock import locked
from segue.data.manifests import read_manifest
from segue.data.store import TokenStoreWriter, clear_unfinished, save_codebooks
from segue.data.voice import Cutting
from segue.data.work import Engine, Job, item_of
from segue.errors import SegueError

__all__ = ["Tokenised", "encode_aligned", "fill", "header", "read_manifest", "tokenise"]
_SKIPPED = "skipped.jsonl"


@dataclass(frozen=True)
class Tokenised:
    """What a run did: clips written now, items that were there before, items and clips skipped, seconds written."""

    written: int
    kept: int
    skipped: int
    seconds: float


def tokenise(
    folders: Sequence[Path],
    store: Path,
    semantic: SemanticTokenizer,
    codec: Codec,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    files: Callable[[Path], bool] = lambda path: True,
    hours: float = math.inf,
    device: str = "cpu",
) -> Tokenised:
    """Tokenise, in this process and on the device where the tokenizers are, what `folders` hold and the store does not;
    see `fill`."""
    tokenizers = Tokenizers(semantic, codec, device)
    return fill(folders, store, tokenizers, here(tokenizers), on_progress=on_progress, files=files, hours=hours)


def fill(
    places: Sequence[Path],
    store: Path,
    tokenizers: Tokenizers,
    engine: Engine,
    *,
    cutting: Cutting = Cutting(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    files: Callable[[Path], bool] = lambda path: True,
    hours: float = math.inf,
) -> Tokenised:
    """Tokenise every recording that the store does not hold yet. A run that was stopped is gone on with.

    Args:
        places: folders, tar shards and JSONL manifests.
        store: folder of the token store; gone on with if it exists.
        tokenizers: the tokenizers that `engine` uses, for what the store says of them.
        engine: does the work.
        cutting: how recordings are cut into clips.
        on_progress: told recordings done and recordings in all.
        files: which recordings to take, by path; that of a tar's member is TAR/member.
        hours: take no more recordings once those before last so long.

    Raises:
        SegueError: if a place can't be read, no recording can be used, the store was made by other tokenizers or is
            being written by another run, the frames of the tokenizers never begin at one instant, or the engine fails.
    """
    frames_a_cut(tokenizers.codec.frame_rate, tokenizers.semantic.frame_rate)
    found, left_out = sources.find(places)
    items = [item for item in found if files(Path(str(item)))]
    if not hours > 0:
        raise SegueError(f"hours {hours}: more than 0")
    if hours < math.inf:
        items = list(_first(items, hours))
    if not items and not left_out:
        raise _none_used(places, 0)
    with locked(store):
        clear_unfinished(store)
        writer = TokenStoreWriter(store, tokenizers.header)
        codebooks = tokenizers.codec.codebooks()
        if codebooks is not None:
            save_codebooks(store, codebooks)
        known = writer.done_ids()
        known |= set(map(item_of, known))
        wanted = [item for item in items if item.id not in known]
        kept = done = len(items) - len(wanted)
        written, seconds = 0, 0.0
        tried = {entry.id for entry in left_out}
        on_progress(done, len(items))
        try:
            with closing(engine(Job(wanted, store, tokenizers.header, cutting))) as outcomes:
                for outcome in outcomes:
                    writer.add(*outcome.rows)
                    written += outcome.written + len(outcome.rows)
                    seconds += outcome.seconds + sum(row.seconds for row in outcome.rows)
                    left_out += outcome.skipped
                    tried |= set(outcome.items)
                    done += len(outcome.items)
                    on_progress(done, len(items))
        finally:
            writer.flush()
            _list_skipped(store / _SKIPPED, left_out, tried, items)
    if written + kept == 0:
        raise _none_used(places, len(left_out))
    return Tokenised(written, kept, len(left_out), seconds)


def _none_used(places: Sequence[Path], skipped: int) -> SegueError:
    return SegueError(f"{', '.join(map(str, places))}: no sound file could be used ({skipped} skipped)")


def _first(items: Sequence[Item], hours: float) -> Iterator[Item]:
    """The first items that last so long together."""
    held = 0.0
    for item, sound in shards.sounds(items):
        if held >= hours * 3600:
            return
        try:
            held += 0.0 if isinstance(sound, SegueError) else audio.duration_seconds(readable(sound))
        except SegueError:
            held += 0.0  # it will be skipped
        yield item


def _list_skipped(path: Path, skipped: Sequence[Skipped], tried: set[str], items: Sequence[Item]) -> None:
    """Write what was skipped, in the order of the items; what the file told of items not tried now stays."""
    place = {item.id: number for number, item in enumerate(items)}
    kept = [entry for entry in _read_skipped(path) if item_of(entry.id) not in tried]
    new = sorted(skipped, key=lambda entry: place.get(item_of(entry.id), -1))
    with written_file(path) as beside:
        beside.write_text("".join(json.dumps(dataclasses.asdict(entry)) + "\n" for entry in [*kept, *new]))


def _read_skipped(path: Path) -> list[Skipped]:
    """What an earlier run skipped; nothing where the file is not as it was written."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [Skipped(row["id"], row["path"], row["reason"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
