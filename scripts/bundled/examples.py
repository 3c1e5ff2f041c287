"""Cut the two prompts in examples/ out of held-out recordings.

python scripts/bundled/examples.py SPEECH/valid PIANO/valid examples
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from segue import audio

SPEECH, SPEECH_SECONDS = "ls_dev_clean__1673-143396-0004.wav", (0.0, 5.0)
PIANO, PIANO_SECONDS = "*.wav", (20.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("piano", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for folder, pattern, (start, seconds), name in (
        (arguments.speech, SPEECH, SPEECH_SECONDS, "speech.wav"),
        (arguments.piano, PIANO, PIANO_SECONDS, "piano.wav"),
    ):
        source = sorted(folder.glob(pattern))[0]
        crop = torch.from_numpy(audio.read_crop(source, start, seconds, 16_000))
        audio.write(arguments.out / name, crop, 16_000)
        print(f"{arguments.out / name}: {source.name}, {start:g} to {start + seconds:g} s")


if __name__ == "__main__":
    main()
