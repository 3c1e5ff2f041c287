"""A comparison of two reports as one HTML file: what differs first, then the figures, suite by suite."""

from __future__ import annotations

from itertools import groupby

from segue.evaluate import report as reports
from segue.evaluate.compare import Compared, Comparison, says
from segue.evaluate.markup import document, escape, facts, figure, grid, head, listed

CLASSES = {"first": "worse", "second": "better"}


def page(comparison: Comparison) -> str:
    """The whole page."""
    one, two = comparison.names
    title = f"{one} and {two}"
    warnings = comparison.warnings
    loud = (
        '<div class="notice" role="note"><strong>These figures don\'t compare:</strong>\n'
        + listed(warnings)
        + "</div>\n"
        if warnings
        else ""
    )
    parts = []
    for (suite, table), figures in groupby(comparison.figures, lambda pair: (pair.suite, pair.table)):
        columns = ["", escape("measure"), escape(one), escape(two), "difference", "says"]
        parts.append(grid(f"{suite}: {table}", columns, [_row(pair, comparison.names) for pair in figures], "pairs"))
    left = [
        f"{name} alone has {count} more figures of {suite}"
        for name, counts in zip(comparison.names, comparison.only, strict=True)
        for suite, count in counts.items()
    ]
    differ = facts(
        (reports.TITLES.get(name, name), f"{reports.words(first)} / {reports.words(second)}")
        for name, (first, second) in comparison.systems.items()
    )
    body = f"""<header>
<h1>{escape(title)}</h1>
<p class="lead">Comparison of two reports of <code>segue evaluate</code></p>
</header>
<main>
<section>
{loud}{differ if comparison.systems else ""}<p class="soft">The difference is that of the second to the first. One is
better where the 95 % intervals don't overlap; where they do, or where there are none, it is unclear.</p>
</section>
<section>
{"".join(parts)}{listed(left)}</section>
</main>"""
    return document(f"Segue: {title}", ("report.css",), body)


def _row(pair: Compared, names: tuple[str, str]) -> list[str]:
    css = CLASSES.get(pair.verdict, "soft")
    return [
        escape(pair.row),
        f"<td>{head(pair.column, pair.better)}</td>",
        f"<td>{figure(pair.first, pair.decimals)}</td>",
        f"<td>{figure(pair.second, pair.decimals)}</td>",
        f"<td>{pair.difference:+.{pair.decimals}f}</td>",
        f'<td><span class="{css}">{escape(says(pair.verdict, names))}</span></td>',
    ]
