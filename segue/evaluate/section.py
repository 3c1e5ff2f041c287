"""What a suite found, as plain values: tables of figures, players, plots, and what could not be measured.

A section is all that the terminal, the page and a comparison of two reports know of a suite, and it goes through JSON
unchanged. Sounds and pictures lie in files beside it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from segue.artifact import read_json, written_file
from segue.errors import SegueError
from segue.evaluate.measures import Figure

NOT_MEASURED = "not measured"
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Column:
    """A measure.

    Attributes:
        key: name in JSON.
        title: above the column, with the unit.
        better: which way is better; `neither` where there is no such thing.
        decimals: that are shown.
    """

    key: str
    title: str
    better: Better = "neither"
    decimals: int = 2


@dataclass(frozen=True)
class Table:
    """Figures by row and measure.

    Attributes:
        key: name in JSON, unlike that of the suite's other tables.
        title: above it.
        columns: measures, in order.
        rows: row's name -> measure's key -> figure; None, or left out, is "not measured", never a zero.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: dict[str, dict[str, Figure | None]]


@dataclass(frozen=True)
class Player:
    """A sound to be listened to.

    Attributes:
        title: what it is.
        row: players of one row stand side by side.
        sound: file, relative to the report's folder.
        picture: its spectrogram, likewise; None for none.
    """

    title: str
    row: str
    sound: str
    picture: str | None = None


@dataclass(frozen=True)
class Plot:
    """A picture of figures.

    Attributes:
        title: what it shows.
        picture: PNG file, relative to the report's folder.
    """

    title: str
    picture: str


@dataclass(frozen=True)
class Section:
    """What a suite found.

    Attributes:
        suite: its name.
        title: of its part of the report.
        about: what was measured on what, and how to read it.
        tables: figures.
        players: sounds.
        plots: pictures.
        notes: a line each.
        details: whatever else is worth keeping, as JSON: figures file by file, settings.
        versions: package -> version of every scorer that was used.
        not_measured: measure -> why not, and the command that mends it.
        seconds: of work, kept results not counted.
    """

    suite: str
    title: str
    about: str
    tables: tuple[Table, ...] = ()
    players: tuple[Player, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def shown(figure: Figure | None, decimals: int = 2) -> str:
    """A figure with its interval as people read it."""
    if figure is None or not math.isfinite(figure.value):
        return NOT_MEASURED
    text = f"{figure.value:.{decimals}f}"
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        text += f" ({figure.low:.{decimals}f}, {figure.high:.{decimals}f})"
    return text


def save(section: Section, path: Path) -> None:
    """Write a section as JSON; what is no number is null.

    Raises:
        SegueError: if the file can't be written.
    """
    with written_file(path) as beside:
        beside.write_text(json.dumps(plain(asdict(section)), indent=1, allow_nan=False) + "\n")


def read(path: Path) -> Section:
    """A section as it was saved.

    Raises:
        SegueError: if the file is none.
    """
    values = read_json(path, "section of a report")
    try:
        tables = tuple(_table(table) for table in values.pop("tables"))
        players = tuple(Player(**player) for player in values.pop("players"))
        plots = tuple(Plot(**plot) for plot in values.pop("plots"))
        return Section(**values | {"tables": tables, "players": players, "plots": plots, "notes": (*values["notes"],)})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SegueError(f"{path}: no section of a report that this version knows ({error}); evaluate anew") from error


def _table(values: dict[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in values["columns"])
    rows = {
        name: {key: None if figure is None else _figure(figure) for key, figure in row.items()}
        for name, row in values["rows"].items()
    }
    return Table(values["key"], values["title"], columns, rows)


def _figure(values: dict[str, float | None]) -> Figure:
    return Figure(**{name: math.nan if value is None else value for name, value in values.items()})


def plain(value: Any) -> Any:
    """As JSON takes it: figures of six digits after the point, None for what is no number, lists for tuples."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
