"""How large a stage's model should be: held-out loss by width, hours of sound and steps.

    python benchmarks/scaling.py TOKENS VALID WORK --stage coarse --width 96 --width 192 --hours 1 --hours 12 \\
        --steps 200 --steps 400 --json benchmarks/results/scaling-speech.json

TOKENS and VALID are token stores; WORK takes the runs, each of which goes on where it was stopped. A training of each
width on so many hours, chosen by the clips' names, is validated at every number of steps on the same held-out crops,
with averaged weights. The rate stays constant after the warm-up, so that earlier figures are those of a shorter
training; it is the recipe's at the recipe's width, and falls with the width. Depth, crops and batches are the recipe's.

Losses are in nats a token. Minutes are CPU time on a CPU, which other jobs there do not take.
"""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from command import begin, write_json
from rich import box
from rich.console import Console
from rich.table import Table

from segue.artifact import check_writable, read_json
from segue.config import to_disk
from segue.data.store import TokenStore
from segue.data.token_batches import TokenBatches
from segue.errors import SegueError
from segue.fit import STAGES
from segue.lm.model import StageModel
from segue.parts import load_codebooks, make_stage
from segue.recipes import StageRecipe, tiny
from segue.train import loop
from segue.train.fabric import Precision, alone
from segue.train.lm import StageTraining

HEAD_WIDTH = 48
VALID_BATCHES = 24


@dataclass(frozen=True)
class Row:
    """A training, looked at after so many steps.

    Attributes:
        stage: that was trained.
        width: of the transformer.
        parameters: weights, tables of tokens included.
        hours: of sound to draw crops from.
        steps: done by then.
        passes: times that as many tokens were seen as there are.
        loss: of the training, nats a token, mean of the last log entry.
        held_out: nats a token.
        minutes: of training by then.
    """

    stage: str
    width: int
    parameters: int
    hours: float
    steps: int
    passes: float
    loss: float
    held_out: float
    minutes: float


def some(folder: Path, hours: float) -> TokenStore:
    """So many hours of a store, or all of it; fewer hours are a part of more."""
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
    return TokenStore.open(folder, taken)


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


def trained(
    name: str, recipe: StageRecipe, store: Path, valid: TokenStore, hours: float, work: Path, precision: Precision
) -> list[Row]:
    """The rows of one training."""
    tokens, config = some(store, hours), recipe.train
    folder = work / f"{name}-{recipe.model.width}-{hours:g}"
    kept = folder / "rows.json"
    rows = [Row(**row) for row in read_json(kept, "rows")["rows"]] if kept.exists() else []
    before = rows[-1].minutes if rows else 0.0
    stage = make_stage(name, recipe, tiny().num_coarse, tokens)  # type: ignore[arg-type]
    model = StageModel(stage, recipe.model, loop.generator(config.seed, 0, 2))
    codebooks = load_codebooks(store)
    if codebooks is not None:
        model.start_from(codebooks, loop.generator(config.seed, 0, 3))
    world = alone("cpu", precision)
    limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
    training = StageTraining(model, {}, *limits, recipe.optimiser, config.accumulate, world)
    batches = TokenBatches(tokens, model.layout, config.seed, config.batch_size, recipe.without_semantic)
    held = TokenBatches(valid, model.layout, config.seed + 1, config.batch_size)
    crop_hours = config.batch_size * config.crop_seconds / 3600
    last, began = {"loss": float("nan")}, time.process_time()

    def watch(event: loop.Event) -> None:
        if event.kind == "train":
            last["loss"] = event.losses["loss"]
        if event.kind == "valid":
            rows.append(
                Row(
                    name,
                    recipe.model.width,
                    sum(weight.numel() for weight in model.parameters()),
                    hours,
                    event.step,
                    round(event.step * crop_hours / hours, 2),
                    round(last["loss"], 3),
                    round(event.losses["loss"], 3),
                    round(before + (time.process_time() - began) / 60, 2),
                )
            )
            write_json(kept, {"rows": [asdict(row) for row in rows]})
            print(rows[-1], file=sys.stderr, flush=True)

    loop.run(training, batches.batch, held.batch, config, folder, {"recipe": to_disk(recipe), "hours": hours}, watch)
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """As it is shown."""
    made = Table(title="held-out loss by size, data and steps", box=box.MARKDOWN)
    heads = ("stage", "width", "parameters", "hours", "steps", "passes", "loss", "held out", "CPU minutes")
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
    recipe, held, rows = tiny().stage(stage), TokenStore.open(valid), []  # type: ignore[arg-type]
    recipes = [sized(recipe, one, steps) for one in width]
    for data in hours:
        for sizes in recipes:
            rows += [asdict(row) for row in trained(stage, sizes, store, held, data, work, precision)]
            if json_out is not None:
                write_json(json_out, {"precision": precision, "depth": recipe.model.depth, "rows": rows})
    Console(width=120, highlight=False).print(table(rows))


if __name__ == "__main__":
    begin(main)
