"""Render POP909's piano performances to 16 kHz WAV files with two sampled pianos and several rooms.

    python scripts/bundled/prepare_piano.py DATA/piano OUT --train-songs 480 --valid-songs 20 --workers 2

Needs `fluidsynth`, the two free sound fonts (Debian: fluidsynth, fluid-soundfont-gm,
musescore-general-soundfont-small) and mido (extra "eval"). Song by song the font, the reverberation and the loudness
are drawn from the seed, and for songs to train on also the key and how hard the keys are struck. Songs already rendered
are left alone, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mido
import soundfile

SAMPLE_RATE = 16_000
FONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "musescore": Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"),
}


def played_otherwise(midi: Path, out: Path, rng: random.Random) -> None:
    """The same piece in another key, up to a tritone away, and harder, softer, evener or less evenly struck."""
    semitones, spread, shift = rng.randint(-6, 6), rng.uniform(0.6, 1.2), rng.uniform(-15.0, 15.0)
    song = mido.MidiFile(midi)
    for message in (message for track in song.tracks for message in track):
        if message.type in ("note_on", "note_off"):
            message.note += semitones if 21 <= message.note + semitones <= 108 else 0
            if message.type == "note_on" and message.velocity > 0:
                message.velocity = min(127, max(1, round(80 + (message.velocity - 80) * spread + shift)))
    song.save(out)


def render(midi: Path, out: Path, rng: random.Random, font: str | None = None, vary: bool = False) -> dict:
    """Render one MIDI file, with a font drawn at random unless one is given; returns the manifest row.

    `vary` plays it in another key and otherwise struck.
    """
    drawn = rng.choice(sorted(FONTS))
    font = font or drawn
    room, level = rng.choice([0.0, 0.2, 0.5, 0.8]), rng.uniform(0.1, 0.6)
    peak = rng.uniform(0.25, 0.9)
    if not out.exists():
        with tempfile.TemporaryDirectory() as folder:
            stereo_path, varied = Path(folder) / "stereo.wav", Path(folder) / "varied.mid"
            if vary:
                played_otherwise(midi, varied, rng)
                midi = varied
            command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", str(SAMPLE_RATE), "-F", str(stereo_path)]
            command += ["-o", f"synth.reverb.room-size={room}", "-o", f"synth.reverb.level={level:.3f}"]
            subprocess.run([*command, str(FONTS[font]), str(midi)], check=True, capture_output=True)
            stereo, _ = soundfile.read(stereo_path, dtype="float32", always_2d=True)
        mono = stereo.mean(axis=1)
        mono *= peak / max(float(abs(mono).max()), 1e-6)
        part = out.with_suffix(".part")
        soundfile.write(part, mono, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        part.rename(out)
    return {"path": out.name, "source": "pop909", "speaker": font, "licence": "MIT (POP909; rendered)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with pop909-train.tar.xz and pop909-valid.tar.xz")
    parser.add_argument("out", type=Path)
    parser.add_argument("--train-songs", type=int, default=110)
    parser.add_argument("--valid-songs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="songs rendered at once")
    arguments = parser.parse_args()

    for split, count in (("valid", arguments.valid_songs), ("train", arguments.train_songs)):
        folder = arguments.out / split
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as midi_folder:
            with tarfile.open(arguments.data / f"pop909-{split}.tar.xz") as tar:
                tar.extractall(midi_folder, filter="data")
            songs = sorted(Path(midi_folder).rglob("*.mid"))[:count]
            rows = []

            def make(midi: Path, folder: Path = folder, split: str = split) -> dict:
                rng = random.Random(f"{split}/{midi.stem}")
                return render(midi, folder / f"{midi.stem}.wav", rng, vary=split == "train")

            with ThreadPoolExecutor(arguments.workers) as workers:
                for midi, row in zip(songs, workers.map(make, songs), strict=True):
                    rows.append(row)
                    print(f"{split}: {len(rows)}/{len(songs)} {midi.stem}", flush=True)
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
