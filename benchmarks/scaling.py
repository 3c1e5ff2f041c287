"""How large a stage's model should be: held-out loss by width, hours of sound and steps.

    python benchmarks/scaling.py TOKENS VALID WORK --stage coarse --width 96 --width 192 --hours 1 --hours 12 \\
        --steps 200 --steps 400 --json benchmarks/results/scaling-speech.json

TOKENS and VALID are token stores; WORK takes the runs, each of which goes on where it was stopped. A training of each
width on so many hours, chosen by the clips' names, is validated at every number of steps on the same held-out crops,
with averaged weights. The rate stays constant after the warm-up, so that earlier figures are those of a shorter
training; it is the recipe's at the recipe's width, and falls with the width. Depth, crops and batches are the recipe's.

Losses are in nats a token, minutes those of training by the run's own log.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from command import begin, write_json
from rich import box
from rich.console import Console
from rich.table import Table

from segue.artifact import ARTIFACT, check_writable, load_part
from segue.data.store import TokenStore
from segue.errors import SegueError
from segue.fit import STAGES
from segue.parts import train_stage
from segue.recipes import StageRecipe, tiny
from segue.terminal import bars, train_bar
from segue.train.fabric import Precision

HEAD_WIDTH = 48
VALID_BATCHES = 24


def some(folder: Path, hours: float) -> list[str]:
    """Clips of so many hours of a store; fewer hours are a part of more."""
    whole = TokenStore.open(folder)
    seconds = {str(facts["id"]): float(facts["seconds"]) for facts in whole.facts}
    taken, held = [], 0.0
    for name in sorted(seconds, key=lambda name: zlib.crc32(name.encode())):
        if held >= 3600 * hours:
            break
        taken.append(name)
        held += seconds[name]
    if held < 0.95 * 3600 * hours:
        raise SegueError(f"--hours {hours:g}: {folder} holds {held / 3600:.2f}")
    return taken


def sized(recipe: StageRecipe, width: int, steps: list[int]) -> StageRecipe:
    """The recipe at another width, at a constant rate, validated whenever a row is due."""
    if width % HEAD_WIDTH:
        raise SegueError(f"--width {width}: must be a multiple of {HEAD_WIDTH}, an attention head's")
    every = min(steps)
    if any(count % every for count in steps):
        raise SegueError(f"--steps {steps}: each must be a multiple of the least, {every}")
    heads = width // HEAD_WIDTH
    feedforward = round(recipe.model.feedforward * width / recipe.model.width)
    model = replace(recipe.model, width=width, heads=heads, kv_heads=max(1, heads // 2), feedforward=feedforward)
    train = replace(
        recipe.train,
        steps=max(steps),
        learning_rate=recipe.train.learning_rate * recipe.model.width / width,
        cooldown_fraction=0.0,
        validate_every=every,
        validate_batches=VALID_BATCHES,
        checkpoint_every=every,
    )
    return replace(recipe, model=model, train=train)


def rows_of(run: Path, stage: str, recipe: StageRecipe, hours: float) -> list[dict[str, Any]]:
    """A row for each validation in the log of a training that is done."""
    config, loss, rows = recipe.train, float("nan"), []
    size = sum(tensor.numel() for tensor in load_part(run / ARTIFACT, "stage").tensors.values())
    crop_hours = config.batch_size * config.crop_seconds / 3600
    for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
        if line["kind"] == "train":
            loss = line["loss"]
        if line["kind"] == "valid":
            rows.append(
                {
                    "stage": stage,
                    "width": recipe.model.width,
                    "parameters": size,
                    "hours": hours,
                    "steps": line["step"],
                    "passes": round(line["step"] * crop_hours / hours, 2),
                    "loss": round(loss, 3),
                    "held_out": round(line["loss"], 3),
                    "minutes": round(line["seconds"] / 60, 2),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """As it is shown."""
    made = Table(title="held-out loss by size, data and steps", box=box.MARKDOWN)
    heads = ("stage", "width", "parameters", "hours", "steps", "passes", "loss", "held out", "minutes")
    for head in heads:
        made.add_column(head, justify="left" if head == "stage" else "right")
    for row in rows:
        size = f"{row['parameters'] / 1e6:.2f} M"
        losses = [f"{row[name]:.3f}" for name in ("loss", "held_out")]
        cells = [row["stage"], str(row["width"]), size, f"{row['hours']:g}", str(row["steps"]), f"{row['passes']:g}"]
        made.add_row(*cells, *losses, f"{row['minutes']:.1f}")
    return made


def main(
    store: Annotated[Path, typer.Argument(help="Tokens to train on.")],
    valid: Annotated[Path, typer.Argument(help="Tokens held out.")],
    work: Annotated[Path, typer.Argument(help="Folder of the runs.")],
    stage: Annotated[str, typer.Option(help="semantic, coarse or fine.")] = "coarse",
    width: Annotated[list[int], typer.Option(help="Of the transformer; repeatable.")] = [96, 192, 384],  # noqa: B006
    hours: Annotated[list[float], typer.Option(help="Of sound; repeatable.")] = [1.0, 10.0],  # noqa: B006
    steps: Annotated[list[int], typer.Option(help="When to look; repeatable.")] = [200, 400],  # noqa: B006
    precision: Annotated[Precision, typer.Option(help="Of products while training.")] = "float32",
    json_out: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Train a stage at several sizes on less and more data, and tell what each is worth."""
    if stage not in STAGES:
        raise SegueError(f"--stage {stage}: there are {', '.join(STAGES)}")
    if json_out is not None:
        check_writable(json_out)
    torch.set_num_threads(1)
    recipe, rows = tiny().stage(stage), []  # type: ignore[arg-type]
    recipes = [sized(recipe, one, steps) for one in width]
    for data in hours:
        clips = some(store, data)
        for sizes in recipes:
            own = "" if precision == "float32" else f"-{precision}"
            run = work / f"{stage}-{sizes.model.width}-{data:g}{own}"
            with bars() as progress:
                told = train_bar(progress, run.name)
                places = (tiny().num_coarse, store, valid, run)
                train_stage(stage, sizes, *places, watch=told, precision=precision, clips=clips)  # type: ignore[arg-type]
            rows += rows_of(run, stage, sizes, data)
            if json_out is not None:
                write_json(json_out, {"precision": precision, "depth": recipe.model.depth, "rows": rows})
    Console(width=120, highlight=False).print(table(rows))


if __name__ == "__main__":
    begin(main)
