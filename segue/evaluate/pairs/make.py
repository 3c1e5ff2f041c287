"""Pairs that were made, onto the disk: sounds and `pairs.jsonl` in a folder that appears whole or not at all.

right, wrong (N,) mono at one sample rate, equally long and equally loud.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from segue import audio
from segue.artifact import written_folder
from segue.errors import SegueError
from segue.evaluate.pairs import splices
from segue.evaluate.pairs.sets import FILE, Pair, line_of
from segue.evaluate.recordings import Recording

RATE = 16_000
"""Of pairs that are made, in Hz."""
_FEWEST_SPEAKERS = 3
"""From so many known speakers on, intervals are drawn over speakers."""


@dataclass(frozen=True)
class Made:
    """A pair in memory.

    Attributes:
        id: of the pair.
        kind: see segue.evaluate.pairs.sets.
        right: (N,) the member that should be likelier.
        wrong: (N,).
        voice: who speaks both.
        group: pairs that intervals are drawn together with.
        facts: licence, source, and whatever else is worth keeping.
    """

    id: str
    kind: str
    right: Tensor
    wrong: Tensor
    voice: str
    group: str
    facts: dict[str, Any]


def check_out(folder: Path) -> None:
    """Refuse a folder that holds anything but pairs, for it would be replaced.

    Raises:
        SegueError: if it does.
    """
    if folder.exists() and not (folder / FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SegueError(f"--out {folder}: something else is there, which would be lost; give a new folder")


def save(made: Iterable[Made], folder: Path) -> Counter[str]:
    """Write pairs to a folder, in the place of pairs that are there.

    Args:
        made: at 16 kHz.
        folder: to be.

    Returns:
        kind -> pairs.

    Raises:
        SegueError: if there are none, the folder holds something else, or it can't be written.
    """
    check_out(folder)
    numbers: Counter[str] = Counter()
    with written_folder(folder) as beside:
        lines = []
        for one in made:
            name = f"{one.kind}-{numbers[one.kind]:05d}"
            right, wrong = beside / f"{name}-right.wav", beside / f"{name}-wrong.wav"
            audio.write(right, one.right, RATE)
            audio.write(wrong, one.wrong, RATE)
            pair = Pair(one.id, one.kind, right, wrong, one.voice, one.group, one.facts)
            lines.append(line_of(pair, beside) + "\n")
            numbers[one.kind] += 1
        if not lines:
            raise SegueError(f"{folder}: not one pair could be made of what was given; give more of it")
        (beside / FILE).write_text("".join(lines), encoding="utf-8")
    return numbers


def of_recordings(
    recordings: Sequence[Recording],
    limit: int,
    seed: int,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Iterable[Made]:
    """Pairs from sound alone; see segue.evaluate.pairs.splices for arguments and errors."""
    speakers = {one.item.facts["speaker"] for one in recordings if "speaker" in one.item.facts}
    for pair in splices.from_recordings(recordings, RATE, limit, seed, told):
        item = pair.recording.item
        speaker = item.facts.get("speaker", "")
        by_speaker = speaker and pair.recording.speaker >= 0 and len(speakers) >= _FEWEST_SPEAKERS
        facts = {"licence": item.facts.get("licence", "not told"), "source": item.facts.get("source", item.folder)}
        group = f"speaker {speaker}" if by_speaker else item.id
        yield Made(pair.id, pair.kind, pair.right, pair.wrong, speaker, group, facts | pair.facts)
