"""What model cards say of measurements: results of benchmarks/ and of `segue evaluate`, if they are of these weights.

Every result holds the fingerprint of what was measured. One that is of others is not shown: its place in the card says
that there is no measurement of these weights yet, and the shelf remembers why, for whoever runs the script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from card_markdown import NOTHING, folded, joined, link, number, paragraph, table

from segue.artifact import read_json
from segue.errors import SegueError
from segue.evaluate import report as reports
from segue.evaluate import section as sections
from segue.evaluate.measures import Figure
from segue.evaluate.report import words
from segue.evaluate.section import Section
from segue.evaluate.suites import SUITES
from segue.evaluate.suites.codec import REFINED
from segue.generate.manner import Manner

NOT_YET = "Not measured yet for these weights."
INTERVALS = f"In brackets: 95 % intervals. {NOTHING}: not measured."
QUALITY = {
    "pesq_wb": ("PESQ-WB", 2),
    "stoi": ("STOI", 3),
    "visqol": ("ViSQOL", 2),
    "si_sdr_db": ("SI-SDR, dB", 1),
    "distillmos": ("DistillMOS", 2),
}
ACOUSTIC = {
    "seconds_a_second": ("seconds of compute a second", 3),
    "mel": ("mel distance", 3),
    "visqol": ("ViSQOL", 2),
    "distillmos": ("DistillMOS", 2),
    "level_db": ("level, dB", 1),
}
"""Names in the results -> column, decimals."""

LEFT_OUT = {"tokens": ("layers", "speed"), "lm": ("codebooks",), "continuation": ("nearer_made",)}
"""Suite -> tables that stay in its file."""

WIDEST = 6
"""Columns of a table that isn't turned on its side."""


@dataclass
class Shelf:
    """Results on disk, and what was wrong with them.

    Attributes:
        folder: of the results.
        card: folder of the card that they are linked from.
        told: a line for each result that isn't there or is of other weights.
    """

    folder: Path
    card: Path
    told: list[str] = field(default_factory=list)

    def sections(self, name: str, fingerprint: str, manner: Manner, suites: Sequence[str]) -> dict[str, Section]:
        """Those sections of a report that are there and of these weights, by suite."""
        report = self.report(name, fingerprint, manner)
        entries = {suite: report.suites[suite] for suite in suites if suite in report.suites} if report else {}
        found = {suite: self.section(name, suite, entry) for suite, entry in entries.items() if entry.failed is None}
        return {suite: one for suite, one in found.items() if one is not None}

    def result(self, name: str, key: str, fingerprint: str) -> dict[str, Any] | None:
        """A benchmark's result, if it is of these weights.

        Args:
            name: of the file.
            key: under which it states what was measured.
            fingerprint: of what the card is of.

        Raises:
            SegueError: if the file is damaged.
        """
        path = self.folder / name
        if not self._has(path):
            return None
        values = read_json(path, "result of a benchmark")
        return values if self._fits(path, values.get(key), fingerprint) else None

    def tokens(self, name: str, fingerprint: str) -> Section | None:
        """What `segue evaluate tokens` told of a tokenizer, likewise; the file is a section of its own."""
        path = self.folder / name
        if not self._has(path):
            return None
        found = sections.read(path)
        return found if self._fits(path, found.details["semantic"]["fingerprint"], fingerprint) else None

    def report(self, name: str, fingerprint: str, manner: Manner) -> reports.Report | None:
        """A report of `segue evaluate`, likewise, and if sound was made in the bundle's manner."""
        path = self.folder / name / reports.REPORT
        if not self._has(path):
            return None
        report = reports.read(path.parent)
        fits = self._fits(path, report.settings.bundle_fingerprint, fingerprint)
        return report if fits and self._made_so(path, report.settings, manner) else None

    def section(self, name: str, suite: str, entry: reports.Entry) -> Section | None:
        """One suite's section, if it is the one that the report tells of: both keep the seconds that it took."""
        path = reports.place(self.folder / name, suite)
        if not self._has(path):
            return None
        found = sections.read(path)
        if not math.isclose(found.seconds, entry.seconds, abs_tol=1e-3):
            self.told.append(f"{path}: of another run than {reports.REPORT} beside it")
            return None
        return found

    def source(self, name: str) -> str:
        """The link that stands below a result's figures."""
        return f"Source: {link(self.folder / name, self.card, name)}."

    def _made_so(self, path: Path, then: reports.Settings, manner: Manner) -> bool:
        """Whether the bundle still makes sound as it did for the report; no fingerprint tells."""
        now = vars(replace(manner, tries=manner.tries_for(then.seconds)))
        was = {key: getattr(then, key) for key in now}
        other = [f"{key} {was[key]} there, {own} now" for key, own in now.items() if was[key] != own]
        if other:
            self.told.append(f"{path}: made in another manner ({', '.join(other)})")
        return not other

    def _has(self, path: Path) -> bool:
        if not path.is_file():
            self.told.append(f"{path}: not there")
        return path.is_file()

    def _fits(self, path: Path, found: object, wanted: str) -> bool:
        if found != wanted:
            self.told.append(f"{path}: of {found}, the card is of {wanted}")
        return found == wanted


def quality(shelf: Shelf, name: str, title: str, fingerprint: str) -> str:
    """Quality of the codec by bitrate, with published codecs beside it where the result names them."""
    heading, found = f"### {title}", shelf.result(name, "codec", fingerprint)
    if found is None:
        return joined(heading, NOT_YET)
    try:
        rows, settings = found["rows"], found["settings"]
        names = [key for key in QUALITY if any(row.get(key) is not None for row in rows)]
        lines = [
            [f"{row['codebooks']}{refined(row)}", f"{row['kbit_s']:g}", *_cells(row, names, QUALITY)] for row in rows
        ]
        place = f" of {found['data']}" if found.get("data") else ""
        notes = [f"{len(found['files'])} files{place}, at most {settings['seconds']:g} s of each. {INTERVALS}"]
        searched = dict.fromkeys(f"{row['codebooks']}" for row in rows if row.get("candidates", 1) > 1)
        if searched:
            notes.append(f"With {' and '.join(searched)} codebooks codes are searched for, as in a file.")
        if any(row.get("refinement") for row in rows):
            notes.append("Refined, as files are: fitted to the sound through the decoder before they are coded.")
        if found.get("original"):
            notes.append(f"DistillMOS of the originals: {number(found['original']['distillmos'], 2)}.")
        for index, reference in enumerate(found.get("references", ()), start=1):
            for row in reference["rows"]:
                cells = [number(row.get(key), QUALITY[key][1]) for key in names]
                lines.append([f"{reference['name']} [{index}]", f"{row['kbit_s']:g}", *cells])
            about = [reference[key] for key in ("what", "set", "status") if key in reference]
            notes.append(f"[{index}] {', '.join(about)}.")
        notes += [f"{QUALITY[key][0]} was not measured: {why}." for key, why in found["not_measured"].items()]
        notes.append(_health(found["health"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise _unknown(shelf.folder / name, error) from error
    header = ["codebooks", "kbit/s", *(QUALITY[key][0] for key in names)]
    return joined(heading, table(header, lines), paragraph(" ".join([*notes, shelf.source(name)])))


def refined(row: dict[str, Any]) -> str:
    """Whether a row's codes were refined, after how many codebooks they are of."""
    return REFINED if row.get("refinement") else ""


def _health(layers: list[dict[str, Any]]) -> str:
    used, perplexity = [layer["use"] for layer in layers], [layer["perplexity"] for layer in layers]
    return (
        f"Of each codebook the encoder's own codes use {min(used):.0%} to {max(used):.0%} over {layers[0]['frames']} "
        f"frames, perplexity {min(perplexity):.0f} to {max(perplexity):.0f}."
    )


def speed(shelf: Shelf, name: str, fingerprint: str) -> str:
    """How fast the codec is beside published ones."""
    found = shelf.result(name, "codec", fingerprint)
    if found is None:
        return joined("### Speed", NOT_YET)
    try:
        settings, rows = found["settings"], []
        for row in found["rows"]:
            times, ratios = ([row[part][key]["median"] for part in ("encode", "decode")] for key in _SPEEDS)
            cells = [f"{value:.1f}" for value in times] + [f"{value:.1f}" for value in ratios]
            rows.append([row["name"], f"{row['sample_rate'] / 1000:g}", f"{row['kbit_s']:g}", *cells])
        reached = [found["floor"][part]["fraction_reached"] for part in ("encode", "decode")]
        told = (
            f"Times real time and ratios: medians of {settings['repeats']} rounds over {settings['seconds']:g} s of "
            f"sound, {settings['threads']} CPU thread(s), {settings['clock']} time. The peers have their published "
            "sizes and random weights. Files are coded as `segue encode` does it, refined and, with few codebooks, "
            "searched for; streams and stages do without. Of the speed that the machine's arithmetic allows, encoding "
            f"reaches {reached[0]:.0%} and decoding {reached[1]:.0%}. Algorithmic latency: "
            f"{1000 * found['latency_seconds']:.0f} ms."
        )
    except (KeyError, TypeError) as error:
        raise _unknown(shelf.folder / name, error) from error
    header = ["codec", "kHz", "kbit/s", "encode", "decode", "this one encodes faster by", "and decodes by"]
    return joined("### Speed", table(header, rows), paragraph(f"{told} {shelf.source(name)}"))


_SPEEDS = ("times_real_time", "ours_is_faster_by")


def evaluation(shelf: Shelf, name: str, fingerprint: str, manner: Manner) -> str:
    """The tables of `segue evaluate all`."""
    report = shelf.report(name, fingerprint, manner)
    if report is None:
        return joined("### By `segue evaluate all`", NOT_YET)
    asked = report.settings
    told = (
        f"`segue evaluate all` on {asked.recordings} recordings of {words(asked.data)}, {asked.speakers} speakers or "
        f"pieces, {asked.sound_seconds:g} s in all; {asked.prompt_seconds:g} s of prompt, {asked.seconds:g} s made, "
        f"decoder {asked.decoder}, temperature {words(asked.temperature)}, guidance {asked.guidance:g}, "
        f"{'one try' if asked.tries == 1 else f'continuations the most fitting of {asked.tries} tries'}, engine "
        f"{asked.engine} {asked.weights}, seed {asked.seed}. {INTERVALS} Source of what this says: "
        f"{link(shelf.folder / name / reports.REPORT, shelf.card)}."
    )
    pieces = [paragraph(told)]
    for suite in SUITES:
        entry = report.suites.get(suite)
        if entry is None:
            pieces += [f"### {suite.capitalize()}", NOT_YET]
        elif entry.failed is not None:
            pieces += [f"### {suite.capitalize()}", paragraph(f"Not measured: {entry.failed}.")]
        else:
            found = shelf.section(name, suite, entry)
            pieces += [f"### {suite.capitalize()}", NOT_YET] if found is None else [_section(found, shelf, name)]
    return joined(*pieces)


def tokens(shelf: Shelf, name: str, fingerprint: str) -> str:
    """What `segue evaluate tokens` says of a tokenizer that is in no bundle."""
    found = shelf.tokens(name, fingerprint)
    return NOT_YET if found is None else _section(found, shelf, name, whole=True)


def _section(found: Section, shelf: Shelf, name: str, whole: bool = False) -> str:
    """A suite's tables, less those best left to its file; or the whole of the file `name`."""
    left_out = [one.title for one in found.tables if not whole and one.key in LEFT_OUT.get(found.suite, ())]
    notes = [f"{note.rstrip('.')}." for note in found.notes]
    reasons: dict[str, list[str]] = {}
    for measure, why in found.not_measured.items():
        reasons.setdefault(why, []).append(measure)
    notes += [f"Not measured: {', '.join(measures)}: {why.rstrip('.')}." for why, measures in reasons.items()]
    more = f" There, too: {'; '.join(left_out)}." if left_out else ""
    return joined(
        f"### {found.title}",
        folded("how it was measured", f"{found.about} {' '.join(notes)}"),
        *(_figures(one) for one in found.tables if one.title not in left_out),
        paragraph(shelf.source(name if whole else f"{name}/{found.suite}.json") + more),
    )


def _figures(one: sections.Table) -> str:
    """A table of a section; rows and columns that hold no figure at all are left out."""
    columns = [c for c in one.columns if any(_is_there(row.get(c.key)) for row in one.rows.values())]
    rows = {name: row for name, row in one.rows.items() if any(_is_there(row.get(c.key)) for c in columns)}
    if not rows:
        return paragraph(f"**{one.title}**: not measured.")
    lines = [["", *(column.title for column in columns)]]
    for name, row in rows.items():
        lines.append([name, *(cell(row.get(column.key), column.decimals) for column in columns)])
    if len(columns) > WIDEST:
        lines = [list(line) for line in zip(*lines, strict=True)]
    return joined(f"**{one.title}**", table(lines[0], lines[1:]))


def _is_there(figure: Figure | None) -> bool:
    return figure is not None and math.isfinite(figure.value)


def cell(figure: Figure | None, decimals: int) -> str:
    """A figure of a section with its interval, as it stands in a table."""
    return sections.shown(figure, decimals) if _is_there(figure) else NOTHING


def decoders(shelf: Shelf, name: str, fingerprint: str) -> str:
    """Codes one by one and all at once."""
    heading, found = "### Codes one by one or all at once", shelf.result(name, "bundle", fingerprint)
    if found is None:
        return joined(heading, NOT_YET)
    try:
        rows, settings = found["rows"], found["settings"]
        names = [key for key in ACOUSTIC if any(row.get(key) is not None for row in rows)]
        lines = [[row["decoder"], *_cells(row, names, ACOUSTIC)] for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unknown(shelf.folder / name, error) from error
    told = (
        f"From true semantic tokens and {settings['prompt_seconds']:g} s of prompt, {settings['seconds']:g} s of codes "
        "against the codec's own reconstruction (`codec`): coarse and fine stage (`ar`), and the parallel decoder by "
        f"its rounds. Compute is {settings['clock']} time. {INTERVALS} {shelf.source(name)}"
    )
    return joined(heading, table(["decoder", *(ACOUSTIC[key][0] for key in names)], lines), paragraph(told))


def _cells(row: dict[str, Any], names: list[str], columns: dict[str, tuple[str, int]]) -> list[str]:
    return [number(row.get(key), columns[key][1], row["ci95"].get(key)) for key in names]


def _unknown(path: Path, error: Exception) -> SegueError:
    return SegueError(f"{path}: no result that this script knows ({type(error).__name__}: {error}); measure anew")
