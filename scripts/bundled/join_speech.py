"""Join neighbouring utterances of one reader, so that stages see longer stretches than a sentence.

    python scripts/bundled/join_speech.py SPEECH/train OUT [--seconds 24]

Neighbours are utterances that follow each other in a chapter of LibriSpeech (cut there at pauses), and sentences of
one speaker elsewhere, in the order of their names. Each file is in exactly one of the joined ones; none is cut.
Writes OUT/*.wav and OUT/manifest.jsonl, whole or not at all.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from segue.artifact import written_folder

SAMPLE_RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of WAV files with a manifest.jsonl")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=24.0, help="no joined file is longer, but for single ones")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in (arguments.source / "manifest.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: row["path"])
    lengths = {row["path"]: soundfile.info(arguments.source / row["path"]).frames for row in rows}
    joined = groups(rows, lengths, round(arguments.seconds * SAMPLE_RATE))
    with written_folder(arguments.out) as beside:
        for group in joined:
            waves = [soundfile.read(arguments.source / row["path"], dtype="int16")[0] for row in group]
            soundfile.write(beside / group[0]["path"], np.concatenate(waves), SAMPLE_RATE, subtype="PCM_16")
        (beside / "manifest.jsonl").write_text("".join(json.dumps(group[0]) + "\n" for group in joined))
    hours = sum(lengths.values()) / SAMPLE_RATE / 3600
    print(f"{arguments.out}: {len(rows)} utterances as {len(joined)} files, {hours:.1f} h")


def groups(rows: list[dict], lengths: dict[str, int], longest: int) -> list[list[dict]]:
    """Rows in order, cut into runs of neighbours of at most `longest` samples."""
    found: list[list[dict]] = [[row] for row in rows[:1]]
    for before, row in pairwise(rows):
        samples = sum(lengths[one["path"]] for one in found[-1]) + lengths[row["path"]]
        if neighbours(before, row) and samples <= longest:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def neighbours(before: dict, row: dict) -> bool:
    """Whether one follows the other: READER-CHAPTER-NUMBER in LibriSpeech, the same speaker elsewhere."""
    if (before["source"], before["speaker"]) != (row["source"], row["speaker"]):
        return False
    if not row["path"].startswith("ls_"):
        return True
    (chapter, number), (last, last_number) = (Path(one["path"]).stem.rsplit("-", 1) for one in (row, before))
    return chapter == last and int(number) == int(last_number) + 1


if __name__ == "__main__":
    main()
