"""Results as they are kept and shown: a JSON file, and rows of text for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segue.artifact import written_file

NOT_MEASURED = "not measured"
ROLE_COLUMNS = (
    "",
    "ABX within",
    "ABX across",
    "spans across",
    "PNMI, 100 units",
    "speaker named",
    "PESQ-WB",
    "ViSQOL",
    "voice",
)


def save(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON.

    Raises:
        SegueError: if the file can't be written.
    """
    with written_file(path) as beside:
        beside.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def role_rows(result: dict[str, Any]) -> list[list[str]]:
    """The table of roles, a list of cells a representation, under `ROLE_COLUMNS`."""
    rows = []
    for row in result["roles"]:
        quality, named = row.get("quality", {}), row.get("speaker_accuracy")
        speaker = NOT_MEASURED if named is None else f"{_spread(named, 'value')} of chance {named['chance']:.2f}"
        is_anchor = "speaker_accuracy" not in row and "perplexity" not in row and not quality
        rows.append(
            [
                row["name"],
                _spread(row.get("abx_within"), "error"),
                _spread(row.get("abx_across"), "error"),
                _spread(row.get("abx_spans_across"), "error"),
                _plain(row.get("pnmi_100_units")),
                "" if is_anchor else speaker,
                *("" if is_anchor else _plain(quality.get(key)) for key in ("pesq", "visqol", "speaker_similarity")),
            ]
        )
    return rows


def notes(result: dict[str, Any]) -> list[str]:
    """What else was found, a line each, and last what was not measured and why."""
    data, drift, speed = result["data"], result["drift"], result["speed"]
    lines = [
        f"{data['recordings']} recordings of {data['speakers']} speakers, {data['seconds']:g} s; "
        f"{data['labelled_spans']} {data['labels']} of {data['kinds']} kinds",
        *(f"{row['name']}: ABX {_plain(row['abx_within']['error'])} within, {_plain(row['abx_across']['error'])} across"
          for row in result["layers"] if row.get("abx_within")),
        f"tokens of the first {drift['cut_seconds']:g} s alone and as part of the whole: equal "
        f"{_plain(drift['equal_away'])} away from the cut, {_plain(drift['equal_near'])} in the last "
        f"{drift['near_seconds']:g} s before it ({drift['recordings']} recordings)",
        f"encoding: semantic {speed['semantic_times_real_time']:g}, codec {speed['codec_times_real_time']:g} times "
        f"real time on {speed['threads']} threads",
    ]  # fmt: skip
    return lines + [f"{NOT_MEASURED}: {name}: {why}" for name, why in sorted(result["not_measured"].items())]


def _spread(score: dict[str, Any] | None, key: str) -> str:
    """A value and its interval."""
    if score is None or score[key] is None:
        return NOT_MEASURED
    if score["low"] is None:
        return f"{score[key]:.3f}"
    return f"{score[key]:.3f} ({score['low']:.2f}, {score['high']:.2f})"


def _plain(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"
