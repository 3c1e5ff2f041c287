"""The token store: a corpus as tokens, in a folder of Parquet files, one row a clip.

Columns: id, source, speaker, seconds, licence, consent, semantic (units, repeats removed), durations (semantic
frames a unit lasts), codes (flattened frame by frame). Every file's metadata holds the header: format version,
the fingerprints of the tokenizers, vocabulary sizes and frame rates. Files appear whole or not at all, so an
interrupted tokenisation goes on where it stopped.

Shapes in memory: semantic (T_s,) int16 with repeats, codes (T, Q) int16; T_s is the fewest frames that cover T.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from segue.artifact import load_tensors, written_file
from segue.codec.seam import frames_a_cut
from segue.config import from_dict, to_dict
from segue.errors import SegueError

FORMAT_VERSION = 1
_KEY = b"segue"
_NOTE = b"segue.note"
_CODEBOOKS = "codebooks.safetensors"
_PART = "part-"
_LARGEST = 2**15


@dataclass(frozen=True)
class StoreHeader:
    """What every file of a store agrees on.

    Attributes:
        semantic_fingerprint: of the semantic tokenizer.
        codec_fingerprint: of the codec whose codes these are (`codes_fingerprint`).
        vocab_size: semantic tokens.
        num_codebooks: codes a frame.
        codebook_size: values a code can take.
        semantic_frame_rate: Hz.
        codec_frame_rate: Hz.
        format_version: of this layout.
    """

    semantic_fingerprint: str
    codec_fingerprint: str
    vocab_size: int
    num_codebooks: int
    codebook_size: int
    semantic_frame_rate: float = 25.0
    codec_frame_rate: float = 50.0
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if max(self.vocab_size, self.codebook_size) > _LARGEST:
            raise SegueError(f"token store: vocabularies above {_LARGEST} don't fit; got {self}")

    @property
    def cut(self) -> tuple[int, int]:
        """The fewest codec frames and semantic frames that last equally long."""
        return frames_a_cut(self.codec_frame_rate, self.semantic_frame_rate)

    def semantic_frames(self, codec_frames: int) -> int:
        """Semantic frames that cover `codec_frames`; the last may be covered in part."""
        codec, semantic = self.cut
        return -(-codec_frames * semantic // codec)


@dataclass(frozen=True)
class StoreRow:
    """One clip.

    Attributes:
        id: unlike any other's in the store.
        source: where the audio came from.
        speaker: who or what is heard; empty if unknown.
        seconds: length of the audio.
        licence: of the audio.
        consent: reference to the speaker's consent, None if there is none on record.
        semantic: (T_s,) integers, repeats and all.
        codes: (Q, T) integers, T_s = header.semantic_frames(T).
    """

    id: str
    source: str
    speaker: str
    seconds: float
    licence: str
    consent: str | None
    semantic: NDArray[Any]
    codes: NDArray[Any]


class WrittenPart(NamedTuple):
    """One file of a store: the ids of its clips, how many seconds they last, and the note that was left in it."""

    ids: list[str]
    seconds: float
    note: str


class TokenStoreWriter:
    """Adds clips to a store, a file every `rows_per_file` clips or `seconds_per_file` of sound.

    Args:
        folder: of the store; made if missing, gone on with if not.
        header: the tokenizers' facts.
        rows_per_file: clips kept in memory before they are written.
        seconds_per_file: sound in them, likewise: what a kill loses of long recordings.

    Raises:
        SegueError: if the folder holds tokens of other tokenizers, or a damaged file.
    """

    def __init__(
        self, folder: Path, header: StoreHeader, rows_per_file: int = 256, seconds_per_file: float = 3600.0
    ) -> None:
        self._folder = folder
        self._header = header
        self._rows_per_file, self._seconds_per_file = rows_per_file, seconds_per_file
        self._rows: list[StoreRow] = []
        self._done: set[str] = set()
        self._waiting: set[str] = set()
        self._next = 0
        for path in _files(folder):
            self._done.update(read_part(path, header).ids)
            number = path.stem.removeprefix(_PART)
            self._next = max(self._next, int(number) + 1 if number.isdecimal() else 0)

    def done_ids(self) -> set[str]:
        """Clips that are on disk already."""
        return set(self._done)

    def add(self, *rows: StoreRow) -> None:
        """Take clips; they are on disk, in one file, after the next `flush`.

        Raises:
            SegueError: if tokens don't fit the header or an id is known.
        """
        new: set[str] = set()
        for row in rows:
            _check_row(row, self._header)
            if row.id in self._done or row.id in self._waiting or row.id in new:
                raise SegueError(f"token store: clip {row.id!r} is there already; give each clip its own id")
            new.add(row.id)
        self._waiting |= new
        self._rows += rows
        seconds = sum(row.seconds for row in self._rows)
        if len(self._rows) >= self._rows_per_file or seconds >= self._seconds_per_file:
            self.flush()

    def flush(self) -> None:
        """Write what was added, as one file.

        Raises:
            SegueError: if the folder can't be written or the disk is full.
        """
        if not self._rows:
            return
        write_part(self._folder / f"{_PART}{self._next:05d}.parquet", self._header, self._rows)
        self._done |= self._waiting
        self._waiting.clear()
        self._rows.clear()
        self._next += 1


class TokenStore:
    """A store in memory: each clip's tokens in a few large arrays. Open one with `TokenStore.open`."""

    def __init__(self, header: StoreHeader, facts: list[dict[str, Any]], semantic: list[Any], codes: list[Any]) -> None:
        self.header = header
        self.facts = facts
        self._semantic_ends = np.cumsum([0, *(len(clip) for clip in semantic)])
        self._code_ends = np.cumsum([0, *(len(clip) for clip in codes)])
        self._semantic = np.concatenate(semantic) if semantic else np.zeros(0, np.int16)
        self._codes = np.concatenate(codes) if codes else np.zeros((0, header.num_codebooks), np.int16)
        self._code_frames = np.diff(self._code_ends)

    @classmethod
    def open(cls, folder: Path, ids: Sequence[str] | None = None) -> TokenStore:
        """Read a store.

        Args:
            folder: where it was written.
            ids: the clips wanted; None for all.

        Raises:
            SegueError: if there is none, a file is damaged, files come from different tokenizers, or a clip is not
                there.
        """
        paths = _files(folder)
        if not paths:
            raise SegueError(f"{folder}: no token store here; make one with segue tokenize")
        header: StoreHeader | None = None
        wanted = None if ids is None else set(ids)
        facts, semantic, codes = [], [], []
        for path in paths:
            header, table = _read(path, header)
            for row in table.to_pylist():
                if wanted is not None and row["id"] not in wanted:
                    continue
                semantic.append(np.repeat(np.array(row.pop("semantic"), np.int16), row.pop("durations")))
                codes.append(np.array(row.pop("codes"), np.int16).reshape(-1, header.num_codebooks))
                facts.append(row)
        assert header is not None
        if wanted is not None and (lacking := sorted(wanted - {row["id"] for row in facts})):
            raise SegueError(f"{folder}: {len(lacking)} of the clips asked for are not in it, such as {lacking[0]}")
        return cls(header, facts, semantic, codes)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.facts)

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return float(sum(row["seconds"] for row in self.facts))

    def code_frames(self) -> NDArray[np.int64]:
        """Codec frames of each clip (clips,)."""
        return self._code_frames

    def semantic(self, clip: int) -> NDArray[np.int16]:
        """Semantic tokens (T_s,) of a clip, repeats and all."""
        return self._semantic[self._semantic_ends[clip] : self._semantic_ends[clip + 1]]

    def codes(self, clip: int) -> NDArray[np.int16]:
        """Codes (T, Q) of a clip."""
        return self._codes[self._code_ends[clip] : self._code_ends[clip + 1]]


def write_part(path: Path, header: StoreHeader, rows: Sequence[StoreRow], note: str = "") -> None:
    """Write one file of a store, whole or not at all.

    Args:
        path: of the file; replaced if it exists.
        header: the tokenizers' facts.
        rows: clips, unlike any others' of the store.
        note: kept in the file's metadata, for whoever wrote it; see `read_part`.

    Raises:
        SegueError: if tokens don't fit the header, the folder can't be written or the disk is full.
    """
    pa, parquet = _arrow()
    for row in rows:
        _check_row(row, header)
    metadata = {_KEY: json.dumps(to_dict(header)).encode()} | ({_NOTE: note.encode()} if note else {})
    table = pa.Table.from_pylist([_columns(row) for row in rows], schema=_schema(pa).with_metadata(metadata))
    with written_file(path) as beside:
        parquet.write_table(table, beside, compression="zstd")


def read_part(path: Path, header: StoreHeader) -> WrittenPart:
    """What one file of a store holds, without its tokens.

    Raises:
        SegueError: if it is damaged or holds tokens of other tokenizers.
    """
    table = _read(path, header, ["id", "seconds"])[1]
    note = table.schema.metadata.get(_NOTE, b"").decode()
    return WrittenPart(table.column("id").to_pylist(), sum(table.column("seconds").to_pylist()), note)


def clear_unfinished(folder: Path) -> None:
    """Remove the beginnings of files that writers left behind when they were killed. No writer may be at work."""
    for path in folder.glob(f".{_PART}*.part"):
        path.unlink(missing_ok=True)


def save_codebooks(folder: Path, codebooks: Tensor) -> None:
    """Keep the codes' own vectors (Q, size, W) beside the tokens, for language models to start from."""
    with written_file(folder / _CODEBOOKS) as beside:
        save_file({"codebooks": codebooks.detach().float().contiguous()}, beside)


def load_codebooks(folder: Path) -> Tensor | None:
    """What `save_codebooks` kept; None for a codec without.

    Raises:
        SegueError: if the file is damaged.
    """
    path = folder / _CODEBOOKS
    return load_tensors(path)["codebooks"] if path.exists() else None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PART}*.parquet"))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SegueError('token stores need pyarrow, which is not installed; pip install "segue[train]"') from error
    return pyarrow, pyarrow.parquet


def _schema(pa: Any) -> Any:
    numbers = pa.list_(pa.int16())
    return pa.schema(
        [
            *((name, pa.string()) for name in ("id", "source", "speaker")),
            ("seconds", pa.float64()),
            *((name, pa.string()) for name in ("licence", "consent")),
            *((name, numbers) for name in ("semantic", "durations", "codes")),
        ]
    )


def _read(path: Path, expected: StoreHeader | None, columns: list[str] | None = None) -> tuple[StoreHeader, Any]:
    pa, parquet = _arrow()
    try:
        table = parquet.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise SegueError(f"{path}: damaged token file ({error}); delete it and tokenise again") from error
    stated = (table.schema.metadata or {}).get(_KEY)
    if stated is None:
        raise SegueError(f"{path}: a Parquet file, but no token store; check the folder")
    values = json.loads(stated)
    if values.get("format_version") != FORMAT_VERSION:
        version = values.get("format_version")
        raise SegueError(f"{path}: token store format {version}, this Segue reads {FORMAT_VERSION}; tokenise again")
    header = from_dict(StoreHeader, values, str(path))
    if expected is not None and header != expected:
        facts = [name for name, value in to_dict(header).items() if value != to_dict(expected)[name]]
        raise SegueError(
            f"{path}: tokens of other tokenizers ({', '.join(facts)} differ); use another folder or tokenise again"
        )
    return header, table


def _check_row(row: StoreRow, header: StoreHeader) -> None:
    frames = row.codes.shape[-1]
    wanted = header.semantic_frames(frames)
    if row.codes.shape != (header.num_codebooks, frames) or row.semantic.shape != (wanted,):
        raise SegueError(
            f"token store: clip {row.id!r} has codes {row.codes.shape} and semantic tokens {row.semantic.shape}; "
            f"expected ({header.num_codebooks}, {frames}) and ({wanted},)"
        )
    if frames == 0:
        raise SegueError(f"token store: clip {row.id!r} is empty; leave it out")
    streams = (("semantic", row.semantic, header.vocab_size), ("codes", row.codes, header.codebook_size))
    for name, values, size in streams:
        if values.min() < 0 or values.max() >= size:
            raise SegueError(f"token store: clip {row.id!r} has {name} outside 0..{size - 1}; check the tokenizer")


def _columns(row: StoreRow) -> dict[str, Any]:
    units, durations = _runs(row.semantic)
    return {
        "id": row.id,
        "source": row.source,
        "speaker": row.speaker,
        "seconds": row.seconds,
        "licence": row.licence,
        "consent": row.consent,
        "semantic": units,
        "durations": durations,
        "codes": row.codes.T.reshape(-1).astype(np.int16),
    }


def _runs(tokens: NDArray[Any]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Tokens without repeats, and how long each lasts; a run too long for int16 is split."""
    starts = np.flatnonzero(np.diff(tokens, prepend=tokens[0] - 1))
    lengths = np.diff(starts, append=len(tokens))
    pieces = -(-lengths // (_LARGEST - 1))
    units = np.repeat(tokens[starts], pieces)
    durations = np.concatenate(
        [np.diff(np.linspace(0, n, p + 1).astype(np.int64)) for n, p in zip(lengths, pieces, strict=True)]
    )
    return units.astype(np.int16), durations.astype(np.int16)
