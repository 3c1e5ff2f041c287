"""Unpack the speech tars into a folder of 16 kHz WAV files, so that training can read any crop at once.

    python scripts/bundled/prepare_speech.py DATA/speech OUT

Writes OUT/train/*.wav, OUT/valid/*.wav and beside each split a `manifest.jsonl` with the path, source,
speaker and licence of every file. Files already written are left alone, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import soundfile
import soxr

SAMPLE_RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with manifest.jsonl and the tars")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()

    rows = [json.loads(line) for line in (arguments.data / "manifest.jsonl").read_text().splitlines()]
    by_tar: dict[str, list[dict]] = {}
    for row in rows:
        by_tar.setdefault(row["tar"], []).append(row)

    manifests: dict[str, list[dict]] = {}
    for tar_name, members in sorted(by_tar.items()):
        with tarfile.open(arguments.data / tar_name) as tar:
            for row in members:
                name = Path(row["member"]).with_suffix(".wav").as_posix().replace("/", "__")
                path = arguments.out / row["split"] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    content = tar.extractfile(row["member"])
                    if content is None:
                        raise SystemExit(f"{tar_name} has no member {row['member']}")
                    wave, rate = soundfile.read(io.BytesIO(content.read()), dtype="float32", always_2d=True)
                    mono = wave.mean(axis=1)
                    if rate != SAMPLE_RATE:
                        mono = soxr.resample(mono, rate, SAMPLE_RATE)
                    part = path.with_suffix(".part")
                    soundfile.write(part, mono, SAMPLE_RATE, subtype="PCM_16", format="WAV")
                    part.rename(path)
                kept = {key: row[key] for key in ("source", "speaker", "licence")}
                manifests.setdefault(row["split"], []).append({"path": name, **kept})
        print(f"{tar_name}: {len(members)} utterances", flush=True)
    for split, entries in manifests.items():
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        (arguments.out / split / "manifest.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
