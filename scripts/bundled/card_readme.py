"""What README.md says in figures of the bundled models, between two marks: from the same files as their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from card_markdown import NOTHING, joined, link, number, paragraph, table
from card_results import NOT_YET, Shelf, cell, refined

from segue.artifact import joint_fingerprint, read_json
from segue.bundle import load_parts
from segue.errors import SegueError
from segue.evaluate.section import Section
from segue.generate.manner import Manner
from segue.tokenizers import PHONETIC

MARKS = ("<!-- cards: begin -->", "<!-- cards: end -->")
CODEC = {"pesq_wb": ("PESQ-WB", 2), "stoi": ("STOI", 2), "visqol": ("ViSQOL", 2)}
SYSTEMS = ("full", "acoustic-only", "semantic-only", "the recording itself, through the codec")
BASELINES = {
    "speech": {
        "nearer_random": "voice nearer to its own prompt than to a random other",
        "speaker_accuracy": "speaker named, of those told",
        "distillmos": "DistillMOS",
        "collapsed": "falls silent, turns to noise, or loops",
    },
    "piano": {
        "nearer": "notes and loudness nearer to the true continuation than a random other piece's",
        "nearer_timbre": "long-term spectrum nearer, likewise",
    },
}
"""Bundle -> measure of `segue evaluate baselines` -> what it is."""


def quoted(bundled: Path, results: Path, readme: Path) -> tuple[str, list[str]]:
    """The README with its marked lines as they should be, and a line for each result that was left out.

    Raises:
        SegueError: if the marks are not there, or a part or result is damaged.
    """
    try:
        text = readme.read_text()
    except OSError as error:
        raise SegueError(f"{readme}: can't be read ({error.strerror}); give another --readme") from error
    if any(text.count(mark) != 1 for mark in MARKS):
        raise SegueError(f"{readme}: no place for the figures; mark it with {MARKS[0]} and {MARKS[1]}, a line each")
    before, rest = text.split(MARKS[0])
    shelf = Shelf(results, readme.parent)
    names = sorted((path.parent.name for path in bundled.glob("*/bundle.json")), reverse=True)
    codec = read_json(bundled / "codec" / "part.json", "artifact").get("fingerprint", "")
    lines = joined(
        _weights(bundled, names, readme.parent),
        _codec(shelf, codec),
        _speed(shelf, codec),
        _systems(shelf, bundled, names),
    )
    return f"{before}{MARKS[0]}\n{lines}{MARKS[1]}{rest.split(MARKS[1])[1]}", shelf.told


def _weights(bundled: Path, names: list[str], card: Path) -> str:
    beside = [PHONETIC] if (bundled / PHONETIC).is_dir() else []
    sizes = {
        name: sum(path.stat().st_size for path in (bundled / name).rglob("*.safetensors")) / 1e6
        for name in ("codec", *names, *beside)
    }
    each = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
    cards = ", ".join(link(bundled / name / "MODEL_CARD.md", card, name) for name in sizes)
    return paragraph(
        f"Weights: {sum(sizes.values()):.1f} MB for everything, in half precision or eight bits ({each}). What each "
        f"was fed, for how long, all measurements, and how it sounds are in the model cards: {cards}."
    )


def _codec(shelf: Shelf, fingerprint: str) -> str:
    found = shelf.result("codec-speech.json", "codec", fingerprint)
    if found is None:
        return paragraph(f"The codec on held-out speech: {NOT_YET}")
    try:
        rows = [
            [
                f"{row['kbit_s']:g} kbit/s ({row['codebooks']} codebooks{refined(row)})",
                *(number(row.get(key), decimals) for key, (_, decimals) in CODEC.items()),
            ]
            for row in found["rows"]
        ]
        header = [f"the codec on {len(found['files'])} held-out utterances", *(title for title, _ in CODEC.values())]
    except (KeyError, TypeError) as error:
        raise SegueError(f"{shelf.folder / 'codec-speech.json'}: no result that is known here ({error})") from error
    told = "Refined: as `segue encode` writes files; the others as with `--refine 0`."
    return joined(table(header, rows), paragraph(f"{told} {shelf.source('codec-speech.json')}"))


def _speed(shelf: Shelf, fingerprint: str) -> str:
    found = shelf.result("codec-speed.json", "codec", fingerprint)
    if found is None:
        return paragraph(f"Speed of the codec: {NOT_YET}")
    try:
        own, *others = found["rows"]
        encode, decode = (own[part]["times_real_time"]["median"] for part in ("encode", "decode"))
        filed = next((row for row in others if row["name"].startswith(f"{own['name']}, file of 12")), None)
        files = f"; a refined file is encoded {_times(filed):.1f} times faster than real time" if filed else ""
        peers = ", ".join(_faster(row) for row in others if not row["name"].startswith(own["name"]))
        threads = found["settings"]["threads"]
        given = "1 CPU thread" if threads == 1 else f"{threads} CPU threads"
    except (KeyError, TypeError, ValueError) as error:
        raise SegueError(f"{shelf.folder / 'codec-speed.json'}: no result that is known here ({error})") from error
    return paragraph(
        f"With {given} the codec itself encodes {encode:.0f} and decodes {decode:.0f} times faster than real time: "
        f"{peers}, at their published sizes in the same run{files} ([how](benchmarks/README.md), "
        f"{link(shelf.folder / 'codec-speed.json', shelf.card, 'figures')})."
    )


def _times(row: dict[str, Any]) -> float:
    return float(row["encode"]["times_real_time"]["median"])


def _faster(row: dict[str, Any]) -> str:
    encode, decode = (row[part]["ours_is_faster_by"]["median"] for part in ("encode", "decode"))
    return f"{encode:.0f} and {decode:.0f} times as fast as {row['name'].split(',')[0]}"


def _systems(shelf: Shelf, bundled: Path, names: list[str]) -> str:
    rows, told, missing = [], [], []
    for name in names:
        parts = load_parts(bundled / name)
        fingerprint = joint_fingerprint({role: part.fingerprint for role, part in parts.items()})
        manner = Manner.read(read_json(bundled / name / "bundle.json", "bundle"), bundled / name, "parallel" in parts)
        found = shelf.sections(f"report-{name}", fingerprint, manner, ("baselines", "detector"))
        if "baselines" not in found:
            missing.append(paragraph(f"`segue evaluate all --bundle {name}`: {NOT_YET}"))
            continue
        rows += _rows(name, found["baselines"])
        told.append(f"{link(shelf.folder / f'report-{name}', shelf.card, name)}: {_sentence(found['baselines'])}")
        if manner.tries > 1:
            told[-1] += f" Each the most fitting of {manner.tries} tries."
        if "detector" in found:
            told[-1] += _detector(found["detector"])
    if not rows:
        return joined(*missing)
    header = ["", *SYSTEMS[:3], "the recording itself, coded"]
    about = f"`segue evaluate all` on held-out sound; in brackets 95 % intervals, {NOTHING}: not measured."
    lines = [f"- {line}" for line in told]
    return joined(about, table(header, rows), "\n".join(map(paragraph, lines)), *missing)


def _rows(name: str, section: Section) -> list[list[str]]:
    one = section.tables[0]
    decimals = {column.key: column.decimals for column in one.columns}
    rows = []
    for key, title in BASELINES.get(name, {}).items():
        figures = [one.rows.get(system, {}).get(key) for system in SYSTEMS]
        rows.append([f"{name}: {title}", *(cell(figure, decimals.get(key, 2)) for figure in figures)])
    return rows


def _sentence(section: Section) -> str:
    return section.about.partition(". ")[0].rstrip(".") + "."


def _detector(section: Section) -> str:
    figure = section.tables[0].rows.get("whole continuation", {}).get("accuracy")
    told = ' A detector trained on others of them, asked "recorded or made?" of coded sound, is right on a share of'
    return "" if figure is None else f"{told} {cell(figure, 2)}."
