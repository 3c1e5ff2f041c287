"""Pictures of results, as PNG: tokens over a spectrogram, layers, time, bitrate, rows apart. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segue.artifact import written_file
from segue.errors import SegueError
from segue.evaluate.measures import Figure
from segue.evaluate.section import Column, Table
from segue.semantic.features import MEL_HOP, SAMPLE_RATE, LogMel

_BANDS = 80
_WIDTH_A_SECOND = 2.4
_MOST_INCHES = 60.0
_LABELLED = 0.035  # seconds that a run of tokens must last for its number to fit


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes (rows, columns), drawn without a screen and without touching global settings."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SegueError('pictures need matplotlib; pip install "segue[eval]"') from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _keep(figure: Any, path: Path) -> None:
    with written_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def tokens_over_spectrogram(
    wave: Tensor, units: Tensor, durations: Tensor, frame_rate: float, title: str, path: Path
) -> None:
    """Draw the log-mel spectrogram of a wave, its tokens' edges and numbers.

    Args:
        wave: (N,) at 16 kHz.
        units: (U,) tokens without repeats.
        durations: (U,) in frames.
        frame_rate: of the tokens, in Hz.
        title: above it.
        path: of the PNG.

    Raises:
        SegueError: if matplotlib is not installed or the file can't be written.
    """
    seconds = len(wave) / SAMPLE_RATE
    figure, axes = _figure(min(_MOST_INCHES, max(6.0, _WIDTH_A_SECOND * seconds)), 4.0)
    picture = LogMel(_BANDS).raw(wave[None])[0][: -(-len(wave) // MEL_HOP)].T.numpy()
    low = np.quantile(picture, 0.05)
    plot = axes[0, 0]
    plot.imshow(picture, origin="lower", aspect="auto", extent=(0, seconds, 0, _BANDS), vmin=low, cmap="magma")
    edges = torch.cat([torch.zeros(1), durations.cumsum(0) / frame_rate])
    plot.vlines(edges[1:-1].numpy(), 0, _BANDS, colors="white", linewidth=0.4, alpha=0.7)
    for unit, start, end in zip(units.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if end - start >= _LABELLED:
            plot.text((start + end) / 2, _BANDS + 1, str(unit), ha="center", va="bottom", fontsize=6, rotation=90)
    plot.set(xlim=(0, seconds), xlabel="seconds", ylabel="mel band")
    plot.set_title(title, pad=24, fontsize=9)
    _keep(figure, path)


def token_report(result: dict[str, Any], path: Path) -> None:
    """Draw the roles (ABX across speakers against quality or by itself) and the layer sweep of the suite `tokens`.

    Raises:
        SegueError: if matplotlib is not installed, nothing was measured, or the file can't be written.
    """
    roles = [row for row in result["roles"] if row.get("abx_across")]
    if not roles:
        raise SegueError("no ABX was measured, so there is nothing to draw")
    figure, axes = _figure(11.0, 4.2, 1, 2)
    bars, lines = axes[0]
    places = np.arange(len(roles))
    for offset, mode, colour in ((-0.2, "within", "tab:blue"), (0.2, "across", "tab:orange")):
        scores = [row[f"abx_{mode}"] for row in roles]
        value, low, high = (np.array([_number(score[key]) for score in scores]) for key in ("error", "low", "high"))
        spread = np.nan_to_num([value - low, high - value]).clip(0)
        bars.bar(places + offset, value, 0.38, color=colour, label=f"{mode} speakers")
        bars.errorbar(places + offset, value, spread, fmt="none", ecolor="black", lw=0.8)
        layers = [row[f"abx_{mode}"]["error"] for row in result["layers"]]
        lines.plot(range(1, len(layers) + 1), [_number(value) for value in layers], "o-", color=colour, label=mode)
    bars.set_xticks(places, [row["name"] for row in roles], rotation=20, ha="right", fontsize=8)
    bars.set(ylabel="ABX error", title="one frame in the middle of each span")
    bars.axhline(0.5, color="grey", linewidth=0.6, linestyle=":")
    bars.legend(fontsize=8)
    names = [row["name"].removeprefix("layer ") for row in result["layers"]]
    lines.set_xticks(range(1, len(names) + 1), names)
    lines.set(xlabel="layer", ylabel="ABX error", title="layers of the encoder")
    lines.legend(fontsize=8)
    _keep(figure, path)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def over_time(table: Table, panels: Sequence[tuple[str, Sequence[str]]], path: Path) -> None:
    """Draw columns of a table whose rows are stretches of time, with their intervals.

    Args:
        table: a row a stretch.
        panels: name of each panel, and the keys of the columns in it.
        path: of the PNG.

    Raises:
        SegueError: if matplotlib is not installed, nothing was measured, or the file can't be written.
    """
    titles = {column.key: column.title for column in table.columns}
    drawn = [(name, [key for key in keys if any(row.get(key) for row in table.rows.values())]) for name, keys in panels]
    drawn = [(name, keys) for name, keys in drawn if keys]
    if not drawn:
        raise SegueError("nothing was measured over time, so there is nothing to draw")
    figure, axes = _figure(5.2 * len(drawn), 3.6, 1, len(drawn))
    places = np.arange(len(table.rows))
    for plot, (name, keys) in zip(axes[0], drawn, strict=True):
        for key in keys:
            cells = [row.get(key) for row in table.rows.values()]
            value, low, high = (
                np.array([np.nan if cell is None else getattr(cell, part) for cell in cells])
                for part in ("value", "low", "high")
            )
            spread = np.nan_to_num([value - low, high - value]).clip(0)
            plot.errorbar(places, value, spread, fmt="o-", capsize=2, linewidth=1, label=titles[key])
        plot.set_xticks(places, list(table.rows), fontsize=8)
        plot.set(title=name)
        plot.legend(fontsize=8)
    _keep(figure, path)


def against(table: Table, key: str, panels: Sequence[str], path: Path, apart: str | None = None) -> None:
    """Draw columns of a table against one of them, a panel each, with their intervals; rows without a place are lines.

    Args:
        table: a row a point.
        key: of the column along the horizontal axis.
        panels: keys of the columns that are drawn.
        path: of the PNG.
        apart: ends the names of rows that are joined among themselves, in a colour of their own.

    Raises:
        SegueError: if matplotlib is not installed, nothing was measured, or the file can't be written.
    """
    columns = _measured(table, panels)
    placed = {name: _cell(row, key) for name, row in table.rows.items()}
    rows = sorted((name for name in table.rows if np.isfinite(placed[name][0])), key=lambda name: placed[name][0])
    if not columns or len(rows) < 2:
        raise SegueError(f"{path}: too little was measured for a plot of {table.title}")
    figure, axes = _grid(len(columns))
    along = next(column.title for column in table.columns if column.key == key)
    for plot, column in zip(axes, columns, strict=True):
        for label in (None, apart) if apart else (None,):
            own = [name for name in rows if bool(apart and name.endswith(apart)) == bool(label)]
            if not own:
                continue
            value, low, high = np.array([_cell(table.rows[name], column.key) for name in own]).T
            spread = np.nan_to_num([value - low, high - value]).clip(0)
            how = {"fmt": "o-", "capsize": 2, "linewidth": 1, "label": label and label.strip(", ")}
            plot.errorbar([placed[name][0] for name in own], value, spread, **how)
        for name in (name for name in table.rows if name not in rows):
            top = _cell(table.rows[name], column.key)[0]
            if np.isfinite(top):
                plot.axhline(top, color="grey", linewidth=0.8, linestyle=":", label=name)
        if plot.get_legend_handles_labels()[1]:
            plot.legend(fontsize=8)
        plot.set(title=column.title, xlabel=along)
    _keep(figure, path)


def rows_apart(table: Table, panels: Sequence[str], path: Path) -> None:
    """Draw the rows of a table under each other, a panel a column, each figure a point with its interval.

    Args:
        table: figures.
        panels: keys of the columns that are drawn; all of them if empty.
        path: of the PNG.

    Raises:
        SegueError: if matplotlib is not installed, nothing was measured, or the file can't be written.
    """
    columns = _measured(table, panels or [column.key for column in table.columns])
    if not columns or len(table.rows) < 2:
        raise SegueError(f"{path}: too little was measured for a plot of {table.title}")
    names = list(table.rows)
    figure, axes = _grid(len(columns), 0.9 + 0.32 * len(names), share=True)
    for plot, column in zip(axes, columns, strict=True):
        value, low, high = np.array([_cell(table.rows[name], column.key) for name in names]).T
        spread = np.nan_to_num([value - low, high - value]).clip(0)
        plot.errorbar(value, np.arange(len(names)), xerr=spread, fmt="o", capsize=3, linewidth=1.2, markersize=5)
        plot.set_yticks(np.arange(len(names)), names, fontsize=8)
        plot.set_ylim(len(names) - 0.5, -0.5)
        plot.grid(axis="x", linewidth=0.4, alpha=0.6)
        arrow = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}"}.get(column.better, "")
        plot.set_title(column.title + arrow, fontsize=8.5)
        plot.tick_params(axis="x", labelsize=8)
    _keep(figure, path)


_PANELS_A_LINE = 3


def _grid(count: int, height: float = 2.8, share: bool = False) -> tuple[Any, list[Any]]:
    """A figure of so many panels, at most three a line; `share` leaves the names to the first panel of a line."""
    wide = min(_PANELS_A_LINE, count)
    deep = -(-count // wide)
    figure, axes = _figure(3.7 * wide if wide > 1 else 6.5, height * deep, deep, wide)
    panels = list(axes.flatten())
    for place, plot in enumerate(panels):
        plot.set_visible(place < count)
        if share and place % wide:
            plot.tick_params(axis="y", labelleft=False)
    return figure, panels[:count]


def _measured(table: Table, keys: Sequence[str]) -> list[Column]:
    """Columns of which there is a figure."""
    known = {column.key: column for column in table.columns}
    wanted = [known[key] for key in keys if key in known]
    return [c for c in wanted if any(np.isfinite(_cell(row, c.key)[0]) for row in table.rows.values())]


def _cell(row: dict[str, Figure | None], key: str) -> tuple[float, float, float]:
    """Value and ends of the interval; NaN where there is none."""
    found = row.get(key)
    return (found.value, found.low, found.high) if found else (float("nan"),) * 3
