"""The suite `tokens` as a part of the report: the table of roles, the layers, the drift at a cut, the speed.

segue.evaluate.tokens measures; its figures as plain JSON -> a section. It draws recordings of its own from the same
places, for it needs several of each speaker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from segue.errors import SegueError
from segue.evaluate import plots, tokens
from segue.evaluate.measures import Figure
from segue.evaluate.section import Column, Plot, Section, Table
from segue.evaluate.suite import Context
from segue.tokenizers import load_semantic

ROLES = (
    Column("abx_within", "ABX within speakers", "lower", 3),
    Column("abx_across", "ABX across speakers", "lower", 3),
    Column("abx_spans_across", "ABX of whole spans, across", "lower", 3),
    Column("pnmi_100_units", "PNMI, 100 units", "higher", 3),
    Column("speaker_accuracy", "speaker named", "neither", 3),
    Column("pesq", "PESQ-WB", "higher"),
    Column("visqol", "ViSQOL", "higher"),
    Column("speaker_similarity", "voice", "higher"),
)
LAYERS = (*ROLES[:2], ROLES[3])
UNITS = (
    Column("purity", "purity", "higher", 3),
    Column("pnmi", "PNMI", "higher", 3),
    Column("speaker_information_nats", "speaker information, nats", "lower", 3),
    Column("perplexity", "perplexity", "neither", 1),
)
DRIFT = (
    Column("equal_away", "equal away from the cut", "higher", 3),
    Column("equal_near", "equal near the cut", "higher", 3),
)
SPEED = (
    Column("semantic_times_real_time", "semantic, times real time", "higher", 1),
    Column("codec_times_real_time", "codec, times real time", "higher", 1),
)
PICTURE = "pictures/tokens.png"
_ABOUT = (
    "What semantic tokens and codec codes hold. ABX: how often a frame of the same kind is farther than one of another "
    "(0.5 is chance). PNMI: information on the kind, of 100 units fitted to each representation. Speaker named: by a "
    "linear classifier of how often each token comes. Quality: of sound made again from each kind of token."
)


def run(context: Context) -> Section:
    """Measure what the tokens hold.

    Args:
        context: its options may name `labels` (phones, pitch, chord; by the kind of sound if they don't), `semantic`
            (folder of another tokenizer), `max_seconds` of a recording and how many are `resynthesised`.

    Raises:
        SegueError: if an option is unknown, or fewer than two speakers are known.
    """
    asked, bundle = dict(context.options), context.bundle
    default = "phones" if context.kind == "speech" else "pitch"
    named = asked.get("labels") or default
    labels: tokens.Labels | None = next((name for name in get_args(tokens.Labels) if name == named), None)
    if labels is None:
        raise SegueError(f"labels {named}: one of {', '.join(get_args(tokens.Labels))}")
    other = asked.get("semantic")
    options = tokens.Options(
        labels,
        context.limit,
        float(asked.get("max_seconds", tokens.Options.seconds)),
        int(asked.get("resynthesised", tokens.Options.resynthesised)),
        seed=context.seed,
    )
    result = tokens.run(
        bundle,
        load_semantic(other) if other else bundle.semantic,
        context.places,
        options,
        lambda done, total: context.tell("steps", done, total),
        context.cache.value,
    )
    return section(result, context.out)


def section(result: dict[str, Any], out: Path) -> Section:
    """Figures of `segue.evaluate.tokens.run` as a section, its picture in `out`."""
    missing = dict(result["not_measured"])
    pictures = []
    try:
        plots.token_report(result, out / PICTURE)
        pictures.append(Plot("ABX errors of each representation, and of each layer of the encoder", PICTURE))
    except SegueError as error:
        missing["plots of tokens"] = str(error)
    units = [row for row in result["roles"] if "perplexity" in row]
    data, drift = result["data"], result["drift"]
    tables = (
        Table("roles", "Roles", ROLES, _rows(result["roles"], ROLES)),
        Table("units", "The units themselves", UNITS, _rows(units, UNITS)),
        Table("layers", "Layers of the encoder", LAYERS, _rows(result["layers"], LAYERS)),
        Table("drift", "Tokens of a beginning, alone and as part of the whole", DRIFT, _rows([drift], DRIFT, _cut)),
        Table("speed", "Speed of encoding", SPEED, _rows([result["speed"]], SPEED, _threads)),
    )
    chances = {row["speaker_accuracy"]["chance"] for row in result["roles"] if row.get("speaker_accuracy")}
    notes = [
        f"{data['recordings']} recordings of {data['speakers']} speakers, {data['seconds']:g} s; "
        f"{data['labelled_spans']} {data['labels']} of {data['kinds']} kinds",
        *(f"speakers named by chance: {chance:.2f}" for chance in sorted(chances)),
        f"near the cut: the last {drift['near_seconds']:g} s before it; {drift['recordings']} recordings",
    ]
    if data["without_labels"]:
        notes.append(f"{data['without_labels']} recordings have no labels")
    return Section(
        suite=tokens.SUITE,
        title="Semantic tokens and codes",
        about=_ABOUT,
        tables=tables,
        plots=tuple(pictures),
        notes=tuple(notes),
        details=result,
        versions=result["versions"],
        not_measured=missing,
    )


def _rows(
    rows: list[dict[str, Any]],
    columns: tuple[Column, ...],
    name: Callable[[dict[str, Any]], str] = lambda row: str(row["name"]),
) -> dict[str, dict[str, Figure | None]]:
    return {name(row): {column.key: _figure(row, column.key) for column in columns} for row in rows}


def _figure(row: dict[str, Any], key: str) -> Figure | None:
    """A figure by the name of its column: a number, or a value with its interval, of the row or of its quality."""
    found = row.get(key, row.get("quality", {}).get(key))
    if isinstance(found, dict):
        value = found.get("value", found.get("error"))
        return None if value is None else Figure(value, *(_number(found.get(end)) for end in ("low", "high")))
    return None if found is None else Figure(float(found))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _cut(drift: dict[str, Any]) -> str:
    return f"the first {drift['cut_seconds']:g} s"


def _threads(speed: dict[str, Any]) -> str:
    return f"{speed['threads']} thread{'s' if speed['threads'] > 1 else ''}"
