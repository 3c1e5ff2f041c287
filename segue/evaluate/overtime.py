"""Whether a continuation stays what it was: voice and quality by the second, beside those of the recording itself.

wave (n,) -> windows of 2 s -> a row a window, of the cases that last so long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segue.evaluate.bench import Bench
from segue.evaluate.cases import Case, each, groups_of, means
from segue.evaluate.measures import Figure
from segue.evaluate.section import Column, Table
from segue.evaluate.suite import Context
from segue.units import seconds_to_samples

WINDOW_SECONDS = 2.0
COLUMNS = (
    Column("similarity", "similarity to prompt", "higher"),
    Column("similarity_anchor", "the recording's own", "higher"),
    Column("distillmos", "DistillMOS", "higher"),
    Column("distillmos_anchor", "the recording's own", "higher"),
    Column("cases", "cases", "neither", 0),
)


def over_time(context: Context, bench: Bench, rows: Sequence[Case]) -> Table:
    """Similarity of each stretch to the prompt, and its quality, of continuations and of the recordings themselves."""
    size = seconds_to_samples(WINDOW_SECONDS, context.bundle.sample_rate)
    found = {}
    for place in range(max(len(row.wave) for row in rows) // size):
        lasting = [row for row in rows if len(row.wave) >= (place + 1) * size]
        window = slice(place * size, (place + 1) * size)

        def measured(row: Case, window: slice = window) -> list[float]:
            prompt, values = bench.vector("voice", row.prompt), []
            for wave in (row.wave[window], row.truth[window]):
                voice = bench.vector("voice", wave)
                values.append(np.nan if voice is None or prompt is None else float(voice @ prompt))
                values.append(bench.number("distillmos", wave))
            return values

        first, last = place * WINDOW_SECONDS, (place + 1) * WINDOW_SECONDS
        title = f"{first:g} to {last:g} s"
        table = np.array(each(context, f"over time: {title}", lasting, measured), dtype=float)
        keys = ("similarity", "distillmos", "similarity_anchor", "distillmos_anchor")
        columns = {key: table[:, number] for number, key in enumerate(keys)}
        found[title] = means(context, groups_of(lasting), columns)
        found[title]["cases"] = Figure(float(len(lasting)))
    return Table("over_time", "Over time", COLUMNS, found)
