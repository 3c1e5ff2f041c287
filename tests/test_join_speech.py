"""`scripts/bundled/join_speech.py`: neighbours come together, in order, none lost, cut or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bundled" / "join_speech.py"
NAMES = {  # path -> source, speaker, seconds
    "ls_clean__19-198-0000.wav": ("LibriSpeech", "19", 2.0),
    "ls_clean__19-198-0001.wav": ("LibriSpeech", "19", 2.5),
    "ls_clean__19-198-0003.wav": ("LibriSpeech", "19", 1.0),
    "ls_clean__19-227-0004.wav": ("LibriSpeech", "19", 1.0),
    "other__a1.wav": ("other", "a", 3.0),
    "other__a2.wav": ("other", "a", 3.5),
    "other__b1.wav": ("other", "b", 9.0),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sounds that each say one number all along, listed out of order."""
    rows = []
    for number, (path, (source, speaker, seconds)) in enumerate(NAMES.items()):
        soundfile.write(tmp_path / path, np.full(round(16_000 * seconds), number + 1, dtype=np.int16), 16_000)
        rows.append({"path": path, "source": source, "speaker": speaker, "licence": "none"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return tmp_path


def test_neighbours_are_joined(folder):
    out = folder / "joined"
    command = [sys.executable, SCRIPT, folder, out, "--seconds", "6"]
    subprocess.run(command, check=True, capture_output=True)
    heard = {}
    for path in sorted(out.glob("*.wav")):
        wave = soundfile.read(path, dtype="int16")[0]
        edges = np.flatnonzero(np.diff(wave, prepend=0))
        heard[path.name] = [(int(wave[edge]), int(edge)) for edge in edges]
    assert heard == {
        "ls_clean__19-198-0000.wav": [(1, 0), (2, 32_000)],
        "ls_clean__19-198-0003.wav": [(3, 0)],  # number 2 is missing between
        "ls_clean__19-227-0004.wav": [(4, 0)],  # another chapter
        "other__a1.wav": [(5, 0)],
        "other__a2.wav": [(6, 0)],  # together they would be too long
        "other__b1.wav": [(7, 0)],  # by itself it may be
    }
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == list(heard)
    assert sum(soundfile.info(path).duration for path in out.glob("*.wav")) == sum(row[2] for row in NAMES.values())
