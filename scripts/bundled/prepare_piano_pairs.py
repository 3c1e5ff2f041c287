"""Render held-out songs with both sampled pianos, each with its MIDI file beside it: for `segue evaluate tokens`.

    python scripts/bundled/prepare_piano_pairs.py DATA/piano OUT --songs 8
    segue evaluate tokens --bundle piano --data OUT --labels pitch --max-seconds 60 --out report/

The piano stands as the speaker: an error "across" is one between the two sound fonts. Room and loudness are the same
for both. Needs what prepare_piano.py needs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tarfile
import tempfile
from pathlib import Path

from prepare_piano import FONTS, render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with pop909-valid.tar.xz")
    parser.add_argument("out", type=Path)
    parser.add_argument("--songs", type=int, default=8)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(arguments.data / "pop909-valid.tar.xz") as tar:
            tar.extractall(folder, filter="data")
        for midi in sorted(Path(folder).rglob("*.mid"))[: arguments.songs]:
            for font in sorted(FONTS):
                out = arguments.out / f"{midi.stem}-{font}.wav"
                rows.append(render(midi, out, random.Random(f"pairs/{midi.stem}"), font))
                shutil.copyfile(midi, out.with_suffix(".mid"))
                print(out.name, flush=True)
    (arguments.out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
