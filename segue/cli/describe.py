"""Verbs that tell: `info`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def info(
    bundle: Annotated[str, typer.Argument(help="speech, piano, or the folder of a bundle.")] = "speech",
) -> None:
    """What a bundle is made of, what it was trained on, and what decodes it here."""
    from segue.artifact import read_json
    from segue.bundle import DESCRIPTION, load_parts, locate
    from segue.generate.manner import TRIED_SECONDS, Manner
    from segue.lm.decoder import choose_engine

    folder = locate(bundle)
    parts = load_parts(folder)
    table = Table(title=f"{folder.name}  ({folder})", title_justify="left")
    for column in ("part", "fingerprint", "parameters", "MB", "hours", "steps"):
        table.add_column(column, no_wrap=True)
    for role, part in parts.items():
        count = sum(tensor.numel() for tensor in part.tensors.values())
        size = sum(tensor.numel() * tensor.element_size() for tensor in part.tensors.values())
        cells = [str(part.card.get(key, "")) for key in ("hours", "steps")]
        table.add_row(role, part.fingerprint, f"{count / 1e6:.2f} M", f"{size / 1e6:.1f}", *cells)
    out = Console(highlight=False, markup=False)
    out.print(table)
    for licence in dict.fromkeys(str(part.card.get("licence") or "not stated") for part in parts.values()):
        roles = ", ".join(role for role, part in parts.items() if (part.card.get("licence") or "not stated") == licence)
        out.print(f"licence of the data of {roles}: {licence}")
    manner = Manner.read(read_json(folder / DESCRIPTION, "bundle"), folder, "parallel" in parts)
    heat = ", ".join(f"{value:g}" for value in manner.temperature)
    tries = "one try" if manner.tries == 1 else f"{manner.tries} tries of up to {TRIED_SECONDS:g} s"
    out.print(f"unless asked otherwise: temperature {heat}, guidance {manner.guidance:g}, {manner.decoder}, {tries}")
    choice = choose_engine()
    out.print(f"decoding on a CPU: engine {choice.engine}, weights {choice.weights} ({choice.reason})")
