"""A folder of sound files to a token store. wave (1, N) -> semantic (T_s,) and codes (Q, T), T = ratio * T_s.

Both tokenizers get the same samples, padded to a whole number of semantic frames, so that token k of each stream
starts at the same instant. A `manifest.jsonl` in a folder may tell source, speaker, licence and consent of its
files (`path` relative to the folder). Files that can't be used are listed with the reason in `skipped.jsonl`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from segue import audio, units
from segue.artifact import written_file
from segue.data.store import StoreHeader, StoreRow, TokenStoreWriter, save_codebooks
from segue.errors import SegueError


class SemanticTokenizer(Protocol):
    """What this file asks of a semantic tokenizer."""

    fingerprint: str
    vocab_size: int
    frame_rate: float
    hop_length: int
    sample_rate: int

    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor: ...


class Codec(Protocol):
    """What this file asks of a codec."""

    fingerprint: str
    num_codebooks: int
    codebook_size: int
    frame_rate: float
    hop_length: int
    sample_rate: int

    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasCodebooks(Protocol):
    """A codec whose codes have vectors of their own."""

    def codebooks(self) -> Tensor: ...


@dataclass(frozen=True)
class Tokenised:
    """What a run did: clips written now, clips that were there before, files skipped, seconds of sound written."""

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
) -> Tokenised:
    """Tokenise every sound file under `folders` that the store does not hold yet.

    Args:
        folders: searched for sound files.
        store: folder of the token store; gone on with if it exists.
        semantic: the semantic tokenizer.
        codec: the codec.
        on_progress: told files done and files in all.
        files: which of the files to take.
        hours: stop once the store holds so much sound, in the order of the files' names.

    Raises:
        SegueError: if a folder is missing, no file can be used, or the store was made by other tokenizers.
    """
    if semantic.sample_rate != codec.sample_rate:
        raise SegueError(f"semantic tokens at {semantic.sample_rate} Hz and codes at {codec.sample_rate} Hz don't mix")
    writer = TokenStoreWriter(store, header(semantic, codec))
    if isinstance(codec, HasCodebooks):
        save_codebooks(store, codec.codebooks())
    known = writer.done_ids()
    wanted = [(folder, path) for folder in folders for path in audio.find(folder) if files(path)]
    facts = {folder: read_manifest(folder) for folder in folders}
    skipped: list[dict[str, str]] = []
    written, kept, seconds, held = 0, 0, 0.0, 0.0
    for index, (folder, path) in enumerate(wanted):
        name = path.relative_to(folder).as_posix()
        key = name if len(folders) == 1 else f"{folder.name}/{name}"
        on_progress(index, len(wanted))
        if held >= hours * 3600:
            break
        if key in known:
            kept, held = kept + 1, held + audio.duration_seconds(path)
        else:
            try:
                recording = audio.read(path, codec.sample_rate)
            except SegueError as error:
                skipped.append({"path": str(path), "reason": str(error)})
                continue
            units_, codes = encode_aligned(recording.wave, semantic, codec)
            about = facts[folder].get(name, {})
            writer.add(
                StoreRow(
                    id=key,
                    source=about.get("source") or folder.name,
                    speaker=about.get("speaker") or "",
                    seconds=recording.seconds,
                    licence=about.get("licence") or "",
                    consent=about.get("consent"),
                    semantic=units_.numpy(),
                    codes=codes.numpy(),
                )
            )
            written, seconds, held = written + 1, seconds + recording.seconds, held + recording.seconds
    writer.flush()
    on_progress(len(wanted), len(wanted))
    with written_file(store / "skipped.jsonl") as beside:
        beside.write_text("".join(json.dumps(line) + "\n" for line in skipped))
    if written + kept == 0:
        raise SegueError(f"{', '.join(map(str, folders))}: no sound file could be used ({len(skipped)} skipped)")
    return Tokenised(written, kept, len(skipped), seconds)


def encode_aligned(wave: Tensor, semantic: SemanticTokenizer, codec: Codec) -> tuple[Tensor, Tensor]:
    """Semantic tokens (T_s,) and codes (Q, ratio * T_s) of a wave (N,), cut at the same instants."""
    padded = F.pad(wave, (0, -wave.shape[-1] % semantic.hop_length))[None]
    with torch.inference_mode():
        tokens, codes = semantic.encode(padded)[0], codec.encode(padded)[0]
    assert codes.shape[-1] == tokens.shape[-1] * units.frame_ratio(codec.frame_rate, semantic.frame_rate)
    return tokens, codes


def header(semantic: SemanticTokenizer, codec: Codec) -> StoreHeader:
    """The header of stores that these tokenizers fill."""
    return StoreHeader(
        semantic_fingerprint=semantic.fingerprint,
        codec_fingerprint=codec.fingerprint,
        vocab_size=semantic.vocab_size,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        semantic_frame_rate=semantic.frame_rate,
        codec_frame_rate=codec.frame_rate,
    )


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """`path` -> facts, from the `manifest.jsonl` of a folder; empty where there is none.

    Raises:
        SegueError: if a line is no JSON object with a `path`.
    """
    path = folder / "manifest.jsonl"
    if not path.is_file():
        return {}
    facts = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            facts[row["path"]] = row
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SegueError(f"{path}, line {number}: a JSON object with a path was expected ({error})") from error
    return facts
