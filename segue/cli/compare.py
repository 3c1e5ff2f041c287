"""The verb `evaluate compare`: two reports side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segue.artifact import check_writable, written_file
from segue.cli.sections import console, grid
from segue.errors import SegueError
from segue.terminal import err, say


def compare(
    first: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of a report.")],
    second: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of another.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on standard output.")] = False,
) -> None:
    """Every figure that two reports have, which is better, and what keeps them from being compared."""
    from segue.evaluate.compare import compare as compared
    from segue.evaluate.compare import says
    from segue.evaluate.compare_page import page
    from segue.evaluate.report import TITLES, words
    from segue.evaluate.section import plain, shown

    if html is not None:
        if html.suffix.lower() not in (".html", ".htm"):
            raise SegueError(f"{html}: the page is HTML; give a name that ends in .html")
        check_writable(html)
    found = compared(first, second)
    if html is not None:
        with written_file(html) as beside:
            beside.write_text(page(found), encoding="utf-8")
        err.print(f"{html}: done")
    if as_json:
        say(json.dumps(plain(found.plain()), allow_nan=False))
        return
    out = console()
    for name, (one, two) in found.systems.items():
        out.print(f"{TITLES.get(name, name)}: {words(one)} / {words(two)}", soft_wrap=True)
    for line in found.warnings:
        out.print(f"not comparable: {line}", style="bold yellow", soft_wrap=True)
    for suite in dict.fromkeys(pair.suite for pair in found.figures):
        rows = [
            [
                f"{pair.table}: {pair.row}",
                pair.column,
                shown(pair.first, pair.decimals),
                shown(pair.second, pair.decimals),
                f"{pair.difference:+.{pair.decimals}f}",
                says(pair.verdict, found.names),
            ]
            for pair in found.figures
            if pair.suite == suite
        ]
        grid(suite, ["", "measure", *found.names, "difference", "says"], rows, out)
    for name, counts in zip(found.names, found.only, strict=True):
        for suite, count in counts.items():
            out.print(f"{name} alone has {count} more figures of {suite}", soft_wrap=True)
