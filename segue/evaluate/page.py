"""The report as one HTML file that needs nothing else: sounds, pictures, figures and the reasons where there are none.

A report's folder -> `report.html`. Sounds go in as Ogg at some 30 kbit/s, so that the page stays small; the exact ones
lie in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import torch

from segue import audio
from segue.artifact import written_file
from segue.errors import SegueError
from segue.evaluate import report as reports
from segue.evaluate.cache import LONGEST_SECONDS
from segue.evaluate.headlines import in_short
from segue.evaluate.markup import document, escape, facts, grid, inline, listed, table, web
from segue.evaluate.panels import panel, scale
from segue.evaluate.players import TOP_DB, small_picture
from segue.evaluate.report import Entry, Report, Settings
from segue.evaluate.section import NOT_MEASURED, Player, Plot, Section

PNG = "image/png"
_UNMEASURED = f' <span class="state">{NOT_MEASURED}</span>'
_HOW = (
    "Below a figure stands its 95 % interval, if there is one: by bootstrap over speakers, or over recordings "
    "where speakers aren't told. An arrow says which way is better. Start another sound of a row while one plays, and "
    "it goes on from the same instant; press a spectrogram to go there."
)


def write(folder: Path) -> Path:
    """Write the page of the report that a folder holds.

    Args:
        folder: with report.json.

    Returns:
        the page.

    Raises:
        SegueError: if the folder holds no report, what it names is not in it or can't be read, or the page can't be
            written.
    """
    report = reports.read(folder)
    text = page(report, reports.sections(report, folder), folder)
    with written_file(folder / reports.PAGE) as beside:
        beside.write_text(text, encoding="utf-8")
    return folder / reports.PAGE


def page(report: Report, sections: dict[str, Section], folder: Path) -> str:
    """The whole page.

    Args:
        report: what ran.
        sections: what was found, by suite.
        folder: that their sounds and pictures are in.
    """
    settings = report.settings
    title = f"{settings.bundle} on {', '.join(settings.data)}"
    parts = [
        _section(sections[name], entry, folder) if name in sections else _failed(name, entry)
        for name, entry in report.suites.items()
    ]
    links = "".join(
        f'<li><a href="#{escape(name)}">{escape(_title(name, sections))}</a>'
        f"{'' if name in sections else _UNMEASURED}</li>\n"
        for name in report.suites
    )
    body = f"""<a class="skip" href="#summary">To the figures</a>
<header>
<h1>{escape(title)}</h1>
<p class="lead">Report of <code>segue evaluate</code>, {escape(_day(report))}</p>
</header>
<div class="page">
<nav aria-label="Parts of the report"><ol>
<li><a href="#summary">Summary</a></li>
{links}<li><a href="#versions">Versions</a></li>
</ol></nav>
<main>
{_summary(report, sections)}
{"".join(parts)}
{_versions(report, sections)}
</main>
</div>
<footer>Generated sound: nobody said or played it. Made by Segue {escape(_segue(report))}; sounds are Ogg at some
30 kbit/s here, the exact ones lie beside this page. Figures as JSON: report.json and a file a suite.</footer>"""
    return document(f"Segue: {title}", ("report.css", "players.css"), body, web("players.js"))


def _title(name: str, sections: dict[str, Section]) -> str:
    return sections[name].title if name in sections else name


def _day(report: Report) -> str:
    """When the last of it was measured."""
    return (
        max((entry.when for entry in report.suites.values()), default="").replace("T", " ").removesuffix("+00:00")[:16]
    )


def _segue(report: Report) -> str:
    return ", ".join(sorted({entry.versions.get("segue", "?") for entry in report.suites.values()}))


def setting_facts(settings: Settings) -> list[tuple[str, object]]:
    """Settings in words."""
    heat = ", ".join(f"{value:g}" for value in settings.temperature)
    return [
        ("bundle", settings.bundle),
        ("fingerprint", settings.bundle_fingerprint),
        ("data", ", ".join(settings.data)),
        ("fingerprint of the data", settings.data_fingerprint),
        ("recordings", f"{settings.recordings} of at most {settings.limit}"),
        ("speakers, or recordings apart", settings.speakers),
        ("sound", f"{settings.sound_seconds:g} s of {settings.kind}"),
        ("prompt, continuation", f"{settings.prompt_seconds:g} s, {settings.seconds:g} s"),
        ("seed", settings.seed),
        ("decoding", f"{settings.decoder}, engine {settings.engine}, weights {settings.weights}"),
        ("temperature, guidance, tries", f"{heat}; {settings.guidance:g}; {settings.tries} of a continuation"),
    ]


def _summary(report: Report, sections: dict[str, Section]) -> str:
    rows = []
    for name, entry in report.suites.items():
        one = sections.get(name)
        left = f"{len(one.not_measured)} {NOT_MEASURED}" if one and one.not_measured else ""
        state = left or "measured" if one else NOT_MEASURED
        css = "" if one and not left else ' class="none"'
        told = listed(in_short(one), "short") if one else escape(entry.failed)
        rows.append(
            [
                f'<a href="#{escape(name)}">{escape(_title(name, sections))}</a>',
                f"<td>{told}</td>",
                f"<td><span{css}>{escape(state)}</span></td>",
                f'<td class="whole">{entry.seconds:.1f} s</td>',
            ]
        )
    disagreements = _disagreements(report, sections)
    loud = (
        f'<div class="notice" role="note">Suites of this report were measured with different versions:\n'
        f"{listed(disagreements)}</div>\n"
        if disagreements
        else ""
    )
    left_out = (
        f"<details><summary>{len(report.left_out)} recordings left out</summary>\n{listed(report.left_out)}</details>\n"
        if report.left_out
        else ""
    )
    return (
        f'<section id="summary">\n<h2>Summary</h2>\n{facts(setting_facts(report.settings))}{loud}'
        f"{grid('Suites', ['suite', 'in short', 'state', 'took'], rows, 'words')}<p class='soft'>{_HOW}</p>\n"
        f"{left_out}</section>\n"
    )


def _failed(name: str, entry: Entry) -> str:
    return (
        f'<section id="{escape(name)}">\n<h2>{escape(name)}</h2>\n'
        f'<div class="notice" role="note">{NOT_MEASURED.capitalize()}: {escape(entry.failed)}</div>\n</section>\n'
    )


def _section(one: Section, entry: Entry, folder: Path) -> str:
    """A suite's part."""
    titles = {column.key: column.title for each in one.tables for column in each.columns}
    anchors = {measure: f"{one.suite}-why-{number}" for number, measure in enumerate(one.not_measured)}
    tables = "".join(table(each, anchors.get) for each in one.tables if each.rows)
    why = "".join(
        f'<li id="{anchors[measure]}"><strong>{escape(titles.get(measure, measure))}</strong>: {escape(reason)}</li>\n'
        for measure, reason in one.not_measured.items()
    )
    missing = f'<div class="notice" role="note">{NOT_MEASURED.capitalize()}:\n<ul>\n{why}</ul></div>\n' if why else ""
    own = f'<p class="soft">Asked for: {escape(_options(entry))}</p>\n' if entry.options else ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(one.versions.items()))
    scored = f'<p class="soft">Scored with {escape(versions)}; {one.seconds:.1f} s.</p>\n' if versions else ""
    return (
        f'<section id="{escape(one.suite)}">\n<h2>{escape(one.title)}</h2>\n<p>{escape(one.about)}</p>\n{own}'
        f"{tables}{''.join(_plot(plot, folder) for plot in one.plots)}{listed(one.notes)}{missing}"
        f"{''.join(_players(one.players, folder))}{scored}</section>\n"
    )


def _options(entry: Entry) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.options.items())


def _plot(plot: Plot, folder: Path) -> str:
    source = inline(PNG, _bytes(folder, plot.picture))
    return (
        f'<figure class="plot"><img src="{source}" alt="{escape(plot.title)}">'
        f"<figcaption>{escape(plot.title)}</figcaption></figure>\n"
    )


def _players(players: Sequence[Player], folder: Path) -> Iterator[str]:
    """Sounds, those of one row side by side."""
    if players:
        yield f"<h3>Listen</h3>\n{scale(TOP_DB)}"
    for row, own in groupby(players, lambda player: player.row):
        beside = [(player, _within(folder, player.sound)) for player in own]
        longest = max(audio.duration_seconds(path) for _, path in beside)
        panels = "".join(_panel(player, path, folder, longest) for player, path in beside)
        yield f'<h4>{escape(row)}</h4>\n<div class="row">{panels}</div>\n'


def _panel(player: Player, path: Path, folder: Path, longest: float) -> str:
    header = audio.header(path)
    wave = torch.from_numpy(audio.read_crop(path, 0.0, LONGEST_SECONDS, header.sample_rate))
    image = _bytes(folder, player.picture) if player.picture else small_picture(wave, header.sample_rate)
    sound = audio.compressed(wave, header.sample_rate)
    rate, seconds = header.sample_rate, header.seconds
    return panel(player.title, f"{seconds:.1f} s", seconds, rate, sound, image, longest)


def _versions(report: Report, sections: dict[str, Section]) -> str:
    """Of everything that was installed when each suite ran."""
    names = list(report.suites)
    told = {name: entry.versions | sections[name].versions if name in sections else entry.versions
            for name, entry in report.suites.items()}  # fmt: skip
    packages = sorted({package for versions in told.values() for package in versions}, key=str.lower)
    rows = [
        [escape(package), *(f"<td>{escape(told[name].get(package, ''))}</td>" for name in names)]
        for package in packages
    ]
    when = [f"{name}: {entry.when}, {entry.threads} CPU threads" for name, entry in report.suites.items()]
    return (
        '<section id="versions">\n<h2>Versions</h2>\n'
        "<details><summary>Packages that were installed, by suite</summary>\n"
        f"{grid('Versions', ['package', *map(escape, names)], rows, 'words')}{listed(when)}</details>\n</section>\n"
    )


def _disagreements(report: Report, sections: dict[str, Section]) -> list[str]:
    """Packages of which suites used different versions."""
    used: dict[str, dict[str, list[str]]] = {}
    for name, one in sections.items():
        own = {key: report.suites[name].versions.get(key, "") for key in ("segue", "torch", "python")}
        for package, version in (own | one.versions).items():
            used.setdefault(package, {}).setdefault(version, []).append(name)
    return [
        f"{package}: " + "; ".join(f"{version} ({', '.join(names)})" for version, names in versions.items())
        for package, versions in used.items()
        if len(versions) > 1
    ]


def _bytes(folder: Path, name: str) -> bytes:
    path = _within(folder, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SegueError(f"{path}: a picture of the report can't be read ({error.strerror or error})") from error


def _within(folder: Path, name: str) -> Path:
    """A file of the report, and of nowhere else."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise SegueError(f"{path}: a report shows files of its own folder only")
    return path
