"""What model cards say of trained parts: sizes, training and held-out losses, from part.json, weights and log.jsonl.

A part that began with another's weights, or had another as its teacher, is followed back as far as the records go: any
part.json (with its log.jsonl; no weights are needed) below the folder of earlier parts, or beside it among the bundled
ones, found by its fingerprint.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from card_markdown import NOTHING, link, number, paragraph, table

from segue.artifact import Part, read_json
from segue.codec.soundstream import CodecConfig
from segue.config import from_dict
from segue.errors import SegueError
from segue.semantic.packed import ONWARD

TITLES = {
    "codec": "codec",
    "semantic": "semantic tokenizer",
    "semantic_stage": "semantic stage",
    "coarse_stage": "coarse stage",
    "fine_stage": "fine stage",
    "parallel": "parallel decoder",
}
"""Roles in the order of a card."""

LOSSES: dict[str, dict[str, tuple[str, int]]] = {
    "codec": {
        "loss": ("losses on spectra and wave, weighted", 3),
        "mel": ("mel, all codebooks", 3),
        "mel_few": ("mel, few codebooks", 3),
    },
    "semantic": {
        "loss": ("loss", 3),
        "masked_accuracy": ("hidden targets named", 3),
        "predictive_accuracy": ("frames to come told", 3),
    },
    "stage": {"loss": ("nats a token", 3)},
    "parallel": {"loss": ("nats a masked code", 3), "loss_0": ("of the first codebook", 3)},
}
"""Kind of part -> name in the log -> what it is, decimals."""

AVERAGES = (".usage", ".total")
"""Ends of the names of what a codebook keeps for further training; no weights of the model."""

CLOCK = "Minutes are each run's own clock, on one CPU core or a share of one, or where it says so on one GPU."
"""How the bundled trainings were run; see make.sh."""


@dataclass(frozen=True)
class Trained:
    """A part of a card.

    Attributes:
        role: in the bundle, or `codec`.
        part: as it was loaded, so that its weights are those of its fingerprint.
        folder: where part.json, log.jsonl and the weights lie.
    """

    role: str
    part: Part
    folder: Path


@dataclass(frozen=True)
class Earlier:
    """A part that is not bundled but that a bundled one comes from: only its records are kept.

    Attributes:
        meta: part.json.
        folder: where it lies.
    """

    meta: dict[str, Any]
    folder: Path


def sizes(parts: list[Trained], card: Path) -> str:
    """Shape, weights and bytes of each part, and in all."""
    rows, weights, size = [], 0, 0
    for one in parts:
        file = one.folder / "weights.safetensors"
        count = sum(tensor.numel() for name, tensor in one.part.tensors.items() if not name.endswith(AVERAGES))
        weights, size = weights + count, size + file.stat().st_size
        name = link(one.folder / "part.json", card, TITLES[one.role])
        rows.append([name, shape(one.part), f"{count / 1e6:.2f}", f"{file.stat().st_size / 1e6:.1f}"])
    if len(parts) > 1:
        rows.append(["all", "", f"{weights / 1e6:.2f}", f"{size / 1e6:.1f}"])
    kinds = {str(tensor.dtype).removeprefix("torch.") for one in parts for tensor in one.part.tensors.values()}
    told = f"Kept as {' and '.join(sorted(kinds))}; codebooks and centroids are counted among the weights."
    return table(["part", "shape", "M weights", "MB on disk"], rows) + "\n\n" + paragraph(told)


def shape(part: Part) -> str:
    """What a part is made of, in a few words."""
    config = part.config
    if part.kind == "codec":
        codec = from_dict(CodecConfig, config, "codec", complete=True)
        if codec.pair == "spectral":
            size = codec.spectral
            made = f"frame-domain, {size.encoder_depth} + {size.decoder_depth} blocks of {size.width}"
        else:
            made = f"SEANet, width {codec.seanet.width}"
        codes = f"unit codes of {codec.code_width}" if codec.quantizer == "factorised" else "plain codes"
        return f"{made}; {codes}" + (f" on a latent of {codec.latent_width}" if codec.latent_width else "")
    if part.kind == "semantic":
        if config.get("recurrent"):
            blocks = f"{config['recurrent']['depth']} recurrent layers of {config['recurrent']['width']}"
            if ONWARD in part.requires:
                blocks += " from the end (those that go on are kept with another)"
            return f"{blocks}; {config['vocab_size']} clusters of layer {config['layer'] + 1}"
        encoder = config["encoder"]
        blocks = f"{encoder['contrastive_depth']} + {encoder['masked_depth']} Conformer blocks of {encoder['width']}"
        return f"{blocks}; {config['vocab_size']} clusters of block {config['layer']}"
    model, crop = config["model"], config["stage"]["crop_seconds"]
    kind = "Conformer blocks" if part.kind == "parallel" else "blocks"
    window = f", windows of {model['window_frames']} frames" if model.get("window_frames") else ""
    return f"{model['depth']} {kind} of {model['width']}{window}; crops of {crop:g} s"


def training(parts: list[Trained], earlier: Path, card: Path) -> str:
    """What each part was fed, how long it was trained, and what it began with."""
    rows, told = [], []
    for one in parts:
        rows.append(_training_row(link(one.folder / "part.json", card, TITLES[one.role]), one.part.card))
        about, requires = one.part.card, one.part.requires
        seen = {one.part.fingerprint}
        name = f"The {TITLES[one.role]}"
        while begun := began(about):
            how, fingerprint = begun
            new = about.get("new_tokens_of")
            fresh = f", with new tables for the tokens of: {', '.join(new)}" if new else ""
            if others := about.get("other_tokens_of"):
                fresh = f" and its tables, though made for tokens of another one: {', '.join(others)}"
            alone = one.part.kind == "codec" and "codec" in requires and how == "began with the weights of"
            kept = "; its decoder alone was trained on, so that encoder, codebooks and codes are that one's"
            told.append(f"{name} {how} `{fingerprint}`{fresh}{kept if alone else ''}.")
            before = find(fingerprint, earlier, card.parent)
            if before is None or fingerprint in seen:
                told.append(f"Of the training of `{fingerprint}` no record is kept here.")
                break
            seen.add(fingerprint)
            about, requires = before.meta["card"], before.meta.get("requires", {})
            place = link(before.folder / "part.json", card, f"before it: `{fingerprint}`")
            rows.append(_training_row(place, about))
            name = f"`{fingerprint}`"
    header = ["part", "fed, h", "steps", "heard in them, h", "minutes"]
    notes = [CLOCK, f"{NOTHING}: not recorded.", *told]
    return table(header, rows) + "\n\n" + paragraph(" ".join(notes))


def _training_row(name: str, about: dict[str, Any]) -> list[str]:
    seconds = about.get("training_seconds")
    minutes = number(None if seconds is None else seconds / 60, 0)
    where = " on a GPU" if about.get("device") == "cuda" else ""
    steps = about.get("steps")
    heard = number(about.get("hours_seen"), 1)
    return [name, number(about.get("hours"), 1), NOTHING if steps is None else f"{steps}", heard, minutes + where]


def began(about: dict[str, Any]) -> tuple[str, str] | None:
    """How a part came from another one, and that one's fingerprint; None for one that came from nothing."""
    if "begun_from" in about:
        return "began with the weights of", str(about["begun_from"])
    if "teacher" in about:
        return "had as its teacher", str(about["teacher"])
    return None


def find(fingerprint: str, *places: Path) -> Earlier | None:
    """The records of an earlier part, anywhere below these folders."""
    for path in (path for place in places for path in sorted(place.rglob("part.json"))):
        meta = read_json(path, "artifact")
        if meta.get("fingerprint") == fingerprint and isinstance(meta.get("card"), dict):
            return Earlier(meta, path.parent)
    return None


def data(parts: list[Trained], card: Path, licences: Path) -> str:
    """Sources and licences of what the parts were fed, as each part states them."""
    fed: dict[str, list[str]] = {}
    for one in parts:
        licence = str(one.part.card.get("licence", ""))
        if not licence:
            raise SegueError(f"{one.folder / 'part.json'}: its card states no licence; train it with --licence")
        fed.setdefault(licence, []).append(link(one.folder / "part.json", card, TITLES[one.role]))
    lines = [f"- {', '.join(names)}: {licence}" for licence, names in fed.items()]
    credits = f"Credits and what else was used are in {link(licences, card)}; licence of the weights: CC BY 4.0."
    return "\n".join(map(paragraph, lines)) + "\n\n" + paragraph(credits)


def curve(parts: list[Trained], card: Path) -> str:
    """Held-out losses: the first, the last and the lowest, and what a guess would cost."""
    rows, early = [], []
    for one in parts:
        log = one.folder / "log.jsonl"
        lines = held_out(log, one.part.card.get("steps"))
        name = link(log, card, TITLES[one.role])
        if (steps := one.part.card.get("steps")) not in (None, lines[-1]["step"]):
            early.append(f"The {TITLES[one.role]} has the weights of step {steps}, the lowest.")
        for key, (title, decimals) in LOSSES[one.part.kind].items():
            known = [(float(line[key]), int(line["step"])) for line in lines if key in line]
            if not known:
                continue
            best = (max if key.endswith("accuracy") else min)(known, key=lambda pair: pair[0])
            cells = [f"{value:.{decimals}f} at step {step}" for value, step in (known[0], known[-1])]
            least = "the last" if best[0] == known[-1][0] else f"{best[0]:.{decimals}f} at step {best[1]}"
            rows.append([name, title, guess(one.part, key), *cells, least])
    header = ["part", "measure", "a guess", "held out, first", "held out, last", "best"]
    told = "Every line of every log, training losses too, is in the file that the part's name links."
    return table(header, rows) + "\n\n" + paragraph(" ".join([*early, told]))


def guess(part: Part, key: str) -> str:
    """What guessing evenly costs a token, by the size of the vocabulary."""
    if part.kind not in ("stage", "parallel") or not key.startswith("loss"):
        return NOTHING
    return f"{math.log(part.config['stage']['target']['size']):.2f}"


def held_out(log: Path, steps: int | None) -> list[dict[str, Any]]:
    """The held-out lines of a run's log.

    Args:
        log: log.jsonl.
        steps: of the part; a log that neither ends there nor is lowest there is another run's.

    Raises:
        SegueError: if there is no such log, it is damaged, another run's, or nothing was held out.
    """
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        last, found = lines[-1]["step"], [line for line in lines if line["kind"] == "valid"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SegueError(f"{log}: no readable log of a training ({error}); copy it from the run") from error
    if not found:
        raise SegueError(f"{log}: nothing was held out in this run; train with --valid")
    least = min(line["loss"] for line in found)
    if steps not in (None, last, *(line["step"] for line in found if line["loss"] == least)):
        raise SegueError(f"{log}: ends at step {last}, the part beside it has {steps} steps; copy that run's log")
    return found
