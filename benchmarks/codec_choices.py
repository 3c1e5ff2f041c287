"""Which choices make a better codec: short trainings that differ in one thing, scored on held-out speech.

    python benchmarks/codec_choices.py quantizer DATA WORK --steps 600
    python benchmarks/codec_choices.py activation DATA WORK --steps 600 --only Snake

DATA holds speech/{train,valid} and piano/{train,valid}; WORK takes the runs: each goes on where it was stopped, and
one that two comparisons share is made once. Every choice of a comparison sees the same batches from the same seed.
Steps are those of the tiny recipe's codec with warm-up, cool-down and averaging in proportion; `pairs-equal-compute`
gives each choice as many as fit the time of the first one's. Some choices go on from a trained codec (`--start`), in
its sizes, with all of it, or with its encoder and decoder under a fresh quantizer: what tells codes apart only shows
once encoder and decoder know their work.

wave (N,) -> codes (1, q, T) -> wave (N,). Scored are the exported weights: held-out losses by name (8 batches each of
speech and piano), and PESQ-WB, STOI, ViSQOL, SI-SDR and DistillMOS of `--limit` utterances at 3 and 12 codebooks. They
come after the first ten of `benchmarks/codec.py` in the same order: nothing is chosen on what is reported there.
Results go to a JSON list, a row a choice; a choice that is scored again replaces its row.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from codec import choose, measures, middle, score, summary, versions
from command import begin, write_json
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from segue.artifact import ARTIFACT, Part, load_part, read_json, save_part, written_file
from segue.bundle import BUNDLED
from segue.codec.health import codebook_health
from segue.codec.soundstream import CodecConfig, SoundStream, load_weights
from segue.config import from_dict, override, to_disk
from segue.data.clips import Clips
from segue.errors import SegueError
from segue.recipes import CodecRecipe, tiny
from segue.train import loop
from segue.train.codec import CodecTraining
from segue.train.fabric import Precision, alone

REPORTED = 10
"""Utterances that benchmarks/codec.py reports, left out here."""
NAMES = ("pesq_wb", "stoi", "visqol", "si_sdr_db", "distillmos")
COUNTS = (3, 12)
LATE_CODES = "objective.warm_steps=200"
"""At most half of the steps. Where pairs are compared from scratch: SEANet's features collapse under codes that come
before it has learnt much."""
SLOWER = "train.learning_rate=0.0003"
"""At the recipe's rate Snake drives the wave into the limits of its last tanh within 100 steps, for good."""
GOING_ON_RATE = 3e-4
"""Learning rate of what goes on from all of a trained codec, which the recipe's would throw back."""


@dataclass(frozen=True)
class Choice:
    """One row of a comparison.

    Attributes:
        name: in the table.
        sets: what differs from the tiny recipe's codec, as for `--set`.
        start: what it takes of the codec given as `--start`: nothing; encoder and decoder under a fresh quantizer;
            or all of it.
        averaged: score the moving average of the weights, or else the weights themselves.
    """

    name: str
    sets: tuple[str, ...] = ()
    start: Literal["nothing", "pair", "all"] = "nothing"
    averaged: bool = True


def _codes(kind: str, latent: int = 0, residual: float = 0.0) -> tuple[str, ...]:
    return (f"model.quantizer={kind}", f"model.latent_width={latent}", f"objective.residual={residual}")


def _seanet(channels: int, activation: str = "elu") -> tuple[str, ...]:
    sizes = {"channels": channels, "activation": activation}
    return ("model.pair=seanet", LATE_CODES, *(f"model.seanet.{name}={value}" for name, value in sizes.items()))


def _weights(**weights: float) -> tuple[str, ...]:
    return tuple(f"objective.{name}={value}" for name, value in weights.items())


def _judges(stft: str, waves: int, periods: str, start: int = 0) -> tuple[str, ...]:
    sizes = {"stft_windows": stft, "wave_scales": waves, "periods": periods}
    return (
        *(f"objective.discriminators.{name}={value}" for name, value in sizes.items()),
        f"objective.adversarial_start_step={start}",
    )


FRAMES = ("model.pair=spectral", LATE_CODES)
QUANTIZERS = (
    Choice("unit codes of 8", _codes("factorised")),
    Choice("unit codes of 8, residual loss", _codes("factorised", residual=0.25)),
    Choice("plain, latent 32", _codes("plain", 32)),
    Choice("plain, latent 64", _codes("plain", 64)),
    Choice("plain, latent 128", _codes("plain", 128)),
    Choice("plain, features as they are", _codes("plain")),
    Choice("plain, latent 64, residual loss", _codes("plain", 64, residual=0.25)),
)
COMPARISONS: dict[str, tuple[Choice, ...]] = {
    "quantizer": QUANTIZERS,
    "quantizer-late": tuple(replace(choice, start="pair") for choice in QUANTIZERS),
    "pairs-equal-compute": (
        Choice("frame-domain", FRAMES),
        Choice("SEANet, 8 channels", _seanet(8)),
        Choice("SEANet, 12 channels", _seanet(12)),
    ),
    "pairs-equal-inference": (
        Choice("frame-domain", FRAMES),
        Choice("SEANet, 12 channels", _seanet(12)),
    ),
    "activation": (
        Choice("ELU", (*_seanet(8), SLOWER)),
        Choice("Snake", (*_seanet(8, "snake"), SLOWER)),
    ),
    "balancer": (
        Choice("off", start="all"),
        Choice("on, shares 1 : 2 : 5", ("objective.balanced=true",), "all"),
        Choice("on, shares 2 : 2 : 1", ("objective.balanced=true", *_weights(mel=2.0, complex=2.0, wave=1.0)), "all"),
    ),
    "averaging": (
        Choice("averaged weights", start="all"),
        Choice("weights as they are", start="all", averaged=False),
    ),
    "dropout": (
        Choice("no row", _weights(dropped_share=0.0), "all"),
        Choice("half of the rows", _weights(dropped_share=0.5), "all"),
        Choice("every row", _weights(dropped_share=1.0), "all"),
    ),
    "weights": (
        Choice("mel 1, complex 2, wave 5", start="all"),
        Choice("complex 0", _weights(complex=0.0), "all"),
        Choice("complex 5", _weights(complex=5.0), "all"),
        Choice("wave 0", _weights(wave=0.0), "all"),
        Choice("wave 20", _weights(wave=20.0), "all"),
        Choice("log 1", _weights(log=1.0), "all"),
    ),
    "hearing": (
        Choice("neither", start="all"),
        Choice("loudness 0.5", _weights(loudness=0.5), "all"),
        Choice("structure 0.5", _weights(structure=0.5), "all"),
        Choice("both 0.5", _weights(loudness=0.5, structure=0.5), "all"),
        Choice("both 1.5", _weights(loudness=1.5, structure=1.5), "all"),
    ),
    "discriminators": (
        Choice("none", _judges("[256,1024]", 1, "[]", -1), "all"),
        Choice("spectra and wave", _judges("[256,1024]", 1, "[]"), "all"),
        Choice("spectra and periods", _judges("[256,1024]", 0, "[2,3,5]"), "all"),
    ),
}


@dataclass(frozen=True)
class Place:
    """Where data, runs and the codec to start from are, and where to train.

    On a CPU time is its own, which other jobs there do not take; elsewhere it is the wall's.
    """

    data: Path
    work: Path
    start: Path
    device: str = "cpu"
    precision: Precision = "float32"

    def now(self) -> float:
        """Seconds."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()

    def folders(self, split: str) -> list[Path]:
        return [self.data / kind / split for kind in ("speech", "piano")]


def recipe_of(choice: Choice, steps: int, seed: int, place: Place) -> CodecRecipe:
    """The tiny recipe's codec for so many steps: warm-up, cool-down and averaging in proportion.

    A choice that goes on from a trained codec has that one's sizes.
    """
    short = tiny().codec
    if choice.start != "nothing":
        sizes = from_dict(CodecConfig, load_part(place.start, "codec").config, "codec", complete=True)
        short = replace(short, model=sizes)
    warm = 0 if choice.start == "all" else min(short.objective.warm_steps, steps // 6)
    train = replace(
        short.train,
        steps=steps,
        learning_rate=GOING_ON_RATE if choice.start == "all" else short.train.learning_rate,
        seed=seed,
        warmup_steps=min(short.train.warmup_steps, steps // 12),
        ema_decay=min(short.train.ema_decay, 1 - 8 / steps),
        validate_every=steps,
        checkpoint_every=200,
    )
    recipe = replace(short, objective=replace(short.objective, warm_steps=warm), train=train)
    recipe = override(recipe, choice.sets)
    late = min(recipe.objective.warm_steps, steps // 2)
    return replace(recipe, objective=replace(recipe.objective, warm_steps=late))


def fresh(recipe: CodecRecipe, place: Place) -> CodecTraining:
    config, world = recipe.train, alone(place.device, place.precision)
    limits = (config.weight_decay, config.gradient_clip, config.ema_decay)
    return CodecTraining(recipe.model, recipe.objective, *limits, config.seed, config.accumulate, world)


def trained(choice: Choice, steps: int, seed: int, place: Place, say: Callable[[str], None]) -> tuple[Path, dict]:
    """Train a choice, or find it trained: folder of the run and the budget it had."""
    recipe = recipe_of(choice, steps, seed, place)
    training = fresh(recipe, place)
    describe = {"recipe": to_disk(recipe), "steps": steps, "precision": place.precision}
    if choice.start != "nothing":
        describe |= {"start": choice.start, "of": _begin(training, choice, place.start)}
    key = hashlib.sha256(json.dumps(describe, sort_keys=True).encode()).hexdigest()[:12]
    folder = place.work / key
    if not (folder / "budget.json").exists():
        say(f"{choice.name}: {folder.name}")
        _train(training, recipe, place, folder, describe, say)
    return folder, read_json(folder / "budget.json", "budget")


def _train(
    training: CodecTraining, recipe: CodecRecipe, place: Place, folder: Path, describe: dict, say: Callable[[str], None]
) -> None:
    config, began = recipe.train, place.now()

    def clips(split: str, folders: list[Path], seed: int, weights: tuple[float, ...] | None) -> Clips:
        return Clips(folders, recipe.model.sample_rate, config.crop_seconds, config.batch_size, seed, weights)

    train = clips("train", place.folders("train"), config.seed, (0.6, 0.4))
    loop.run(training, train.batch, None, config, folder, describe, lambda event: _tell(event, say))
    held: dict[str, float] = {}
    for kind, valid in zip(("speech", "piano"), place.folders("valid"), strict=True):
        batches = clips("valid", [valid], config.seed + 1, None)
        sums: dict[str, float] = {}
        for index in range(config.validate_batches):
            for name, value in training.validate(batches.batch(index), loop.generator(config.seed, index, 1)).items():
                sums[name] = sums.get(name, 0.0) + value / config.validate_batches
        held |= {f"{kind}_{name}": round(value, 4) for name, value in sums.items()}
    save_part(training.export({"steps": config.steps}), folder / ARTIFACT)
    if config.ema_decay:
        training.average.average = {name: value.clone() for name, value in training.codec.state_dict().items()}
        save_part(training.export({"steps": config.steps, "averaged": False}), folder / "unaveraged")
    budget = {
        "steps": config.steps,
        "sound_hours": round(config.steps * config.batch_size * config.crop_seconds / 3600, 3),
        "minutes": round((place.now() - began) / 60, 2),
        "device": place.device,
        "precision": place.precision,
        "parameters": sum(weight.numel() for weight in training.codec.parameters()),
        "held_out": held,
    }
    write_json(folder / "budget.json", budget)


def _tell(event: loop.Event, say: Callable[[str], None]) -> None:
    if event.kind == "train" and event.step % 100 == 0:
        say(f"  {event.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in event.losses.items()))


def _begin(training: CodecTraining, choice: Choice, folder: Path) -> str:
    """Take over weights of a codec on disk; its fingerprint."""
    part, own = load_part(folder, "codec"), training.codec.state_dict()
    fresh = ("quantizer.",) if choice.start == "pair" else ()
    tensors = {name: own[name] for name in own if name.startswith(fresh)}
    tensors |= {name: tensor for name, tensor in part.tensors.items() if not name.startswith(fresh)}
    try:
        load_weights(training.codec, Part(part.kind, part.config, tensors))
    except SegueError as error:
        raise SegueError(f"{choice.name}: the codec in {folder} is of other sizes; give another --start") from error
    training.average.load_state_dict({"updates": 0, **training.codec.state_dict()})
    training.steps_done = int(choice.start == "all")  # past the start of the codebooks, which is at 0 then
    return part.fingerprint


def multiply_adds(codec: SoundStream) -> float:
    """Of encoding and decoding one second, in millions."""
    wave = torch.zeros(1, codec.sample_rate)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        codec.decode(codec.encode(wave))
    return counter.get_total_flops() / 2e6


def scored(folder: Path, place: Place, limit: int, seconds: float) -> dict[str, Any]:
    """Scores of an artifact on held-out speech."""
    codec = SoundStream.from_part(load_part(folder, "codec"))
    ready = {name: measure for name, measure in measures("speech", codec.sample_rate).items() if name in NAMES}
    paths = choose(place.data / "speech" / "valid", REPORTED + limit)[REPORTED:]
    waves = [middle(path, seconds, codec.sample_rate) for path in paths]
    rows: dict[str, Any] = {"multiply_adds_m": round(multiply_adds(codec), 1)}
    for count in COUNTS:
        marks = []
        for wave in waves:
            made = codec.decode(codec.encode(wave[None], num_codebooks=count))[0, : wave.shape[-1]]
            marks.append(score(ready, wave.numpy(), made.numpy())[0])
        rows[str(count)] = summary(marks, NAMES)
    rows["gain_db"] = [round(layer.gain_db, 3) for layer in codebook_health(codec, waves)]
    rows["files"] = [path.name for path in paths]
    return rows


def pace(choice: Choice, seed: int, place: Place, repeats: int = 6) -> float:
    """Seconds of one training step."""
    training = fresh(recipe_of(choice, 600, seed, place), place)
    config = tiny().codec.train
    wave = 0.1 * torch.randn(config.batch_size, int(config.crop_seconds * 16_000), generator=torch.Generator())
    batch = (wave, torch.full((config.batch_size,), wave.shape[1]))
    training.step(batch, loop.generator(seed, 0, 0), 1e-4)
    began = place.now()
    for step in range(repeats):
        training.step(batch, loop.generator(seed, step, 0), 1e-4)
    return (place.now() - began) / repeats


def steps_of(choices: tuple[Choice, ...], steps: int, seed: int, place: Place) -> list[int]:
    """As many steps for each choice as fit the first one's time; measured once and kept."""
    path = place.work / f"pace-{place.device}-{place.precision}.json"
    kept = read_json(path, "pace") if path.exists() else {}
    if any(choice.name not in kept for choice in choices):
        kept = {choice.name: pace(choice, seed, place) for choice in choices}
        place.work.mkdir(parents=True, exist_ok=True)
        with written_file(path) as beside:
            beside.write_text(json.dumps(kept) + "\n")
    first = kept[choices[0].name]
    return [max(12, round(steps * first / kept[choice.name])) for choice in choices]


def keep(path: Path, row: dict[str, Any]) -> None:
    """Put a row in the JSON list, in place of one of the same comparison, choice, steps, seed and precision."""
    rows = json.loads(path.read_text()) if path.exists() else []

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        names = ("comparison", "choice", "asked_steps", "seed")
        return (*(row[name] for name in names), row["budget"].get("precision", "float32"))

    rows = [old for old in rows if key(old) != key(row)] + [row]
    write_json(path, rows)


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    made = Table(title=name)
    heads = ("steps", "minutes", "loss", "mel", "piano mel", "PESQ 3", "PESQ 12", "STOI 12", "ViSQOL 3", "ViSQOL 12")
    for head in ("choice", *heads):
        made.add_column(head, justify="left" if head == "choice" else "right")
    for row in rows:
        held, few, many = row["budget"]["held_out"], row["scores"]["3"], row["scores"]["12"]
        values = [held["speech_loss"], held["speech_mel"], held["piano_mel"], few["pesq_wb"]]
        values += [many["pesq_wb"], many["stoi"], few["visqol"], many["visqol"]]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        made.add_row(row["choice"], str(row["budget"]["steps"]), str(row["budget"]["minutes"]), *cells)
    return made


def main(
    comparison: Annotated[str, typer.Argument(help="Which: " + ", ".join(COMPARISONS) + ".")],
    data: Annotated[Path, typer.Argument(help="Folder of speech/ and piano/.")],
    work: Annotated[Path, typer.Argument(help="Folder of the runs.")],
    steps: Annotated[int, typer.Option(min=12, help="Of each training.")] = 600,
    seed: Annotated[int, typer.Option(help="Of batches, weights and all randomness.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Choices whose name has this; repeatable.")] = None,
    start: Annotated[Path, typer.Option(help="The codec that some choices go on from.")] = BUNDLED / "codec",
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda.")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of products while training.")] = "float32",
    limit: Annotated[int, typer.Option(help="Utterances to score.")] = 10,
    seconds: Annotated[float, typer.Option(help="Of each.")] = 6.0,
    json_out: Annotated[Path, typer.Option("--json", help="List of rows.")] = Path(
        "benchmarks/results/codec-choices.json"
    ),
) -> None:
    """Train and score the choices of one comparison."""
    if comparison not in COMPARISONS:
        raise SegueError(f"comparison {comparison!r}: there are {', '.join(COMPARISONS)}")
    choices, place = COMPARISONS[comparison], Place(data, work, start, device, precision)
    counts = [steps] * len(choices)
    if comparison == "pairs-equal-compute":
        counts = steps_of(choices, steps, seed, place)
    rows = []
    console = Console(width=150, highlight=False)
    for choice, count in zip(choices, counts, strict=True):
        if only and not any(word in choice.name for word in only):
            continue
        folder, budget = trained(choice, count, seed, place, lambda line: print(line, file=sys.stderr, flush=True))
        scores = scored(folder / (ARTIFACT if choice.averaged else "unaveraged"), place, limit, seconds)
        fields = {**asdict(choice), "choice": choice.name, "comparison": comparison, "asked_steps": steps, "seed": seed}
        del fields["name"]
        rows.append({**fields, "budget": budget, "scores": scores, "versions": versions()})
        keep(json_out, rows[-1])
        console.print(table(comparison, rows[-1:]))
    console.print(table(comparison, rows))


if __name__ == "__main__":
    begin(main)
