"""Findings on tokens: how much of a vocabulary is in use, how evenly, how often tokens repeat; and on a token store.

semantic (T_s,) with repeats, codes (T, Q), as of segue.data.store. Perplexity is 2 to the power of the tokens' entropy
in bits; it is compared with that of as many even draws, for few frames can't use every token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segue.data.store import TokenStore
from segue.doctor.corpus import DOUBLE_BAD, DOUBLE_WARN, EPOCHS_BAD, EPOCHS_WARN, hours_seen
from segue.doctor.facts import Told, findings_on_facts
from segue.doctor.findings import Figure, Finding, Findings, first_of, judged
from segue.errors import SegueError
from segue.recipes import Recipe

EVEN_WARN, EVEN_BAD = 0.25, 0.05
"""Shares of an even draw's perplexity. Sound is not even, and a half is usual; at a quarter two bits a token are lost,
at a twentieth more than four: of 1,024 codes some fifty do all the work, which is what a collapse looks like."""
REPEATS_WARN, REPEATS_BAD = 0.9, 0.99
"""Shares of semantic tokens equal to the one before. At 25 Hz, phones and notes last one to five tokens (0 to 0.8);
at 0.9 a token lasts 0.4 s, longer than a syllable, and at 0.99 four seconds: it tells nothing of what comes next."""
RESTLESS = 0.05
"""With fewer repeats than this, nearly every frame has another token: they follow the noise, not the sound."""


def perplexity(counts: np.ndarray) -> float:
    """Of tokens that occurred so many times (V,)."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def evenness(counts: np.ndarray) -> float:
    """Perplexity as a share of that of as many draws of tokens equally likely, from 1 / V on; about 1 where even."""
    even = np.random.default_rng(0).multinomial(int(counts.sum()), np.full(len(counts), 1 / len(counts)))
    return perplexity(counts) / perplexity(even)


def semantic_finding(part: str, clips: Iterable[np.ndarray], vocab_size: int) -> Finding:
    """How a semantic tokenizer uses its vocabulary on clips (T_s,)."""
    counts, frames, same, pairs = np.zeros(vocab_size, np.int64), 0, 0, 0
    for clip in clips:
        counts += np.bincount(clip, minlength=vocab_size)
        frames += len(clip)
        same += int((clip[1:] == clip[:-1]).sum())
        pairs += len(clip) - 1
    repeats, even = same / max(1, pairs), evenness(counts)
    figures: dict[str, Figure] = {
        "frames": frames,
        "used": int((counts > 0).sum()) / vocab_size,
        "perplexity": perplexity(counts),
        "evenness": even,
        "repeats": repeats,
        "most_common": int(counts.max()) / frames,
    }
    subject = f"{part}: tokens"
    if even < EVEN_WARN:
        meaning = f"{vocab_size} tokens do the work of {perplexity(counts):.0f}"
        remedy = "train it longer, give it more varied sound, or cluster another layer (--set model.tokenizer.layer=)"
        return Finding(subject, "bad" if even < EVEN_BAD else "warn", figures, meaning, remedy)
    if repeats >= REPEATS_WARN:
        meaning = f"{repeats:.0%} of the tokens repeat the one before: they hardly follow the sound"
        return Finding(subject, judged(repeats, REPEATS_WARN, REPEATS_BAD), figures, meaning, "use more clusters")
    if repeats < RESTLESS:
        meaning = f"only {repeats:.1%} of the tokens repeat the one before: they follow noise"
        return Finding(subject, "warn", figures, meaning, "use fewer clusters, or train the encoder longer")
    meaning = f"the vocabulary is in use ({figures['used']:.0%}), {repeats:.0%} repeats"
    return Finding(subject, "ok", figures, meaning)


def codes_finding(part: str, counts: np.ndarray, gains_db: Sequence[float] | None = None) -> Finding:
    """How a codec uses its codebooks, from counts (Q, size) on some sound.

    Args:
        part: the finding's.
        counts: how often each code occurred.
        gains_db: what each layer takes off the residual; see segue.codec.health.
    """
    even = [evenness(layer) for layer in counts]
    least = int(np.argmin(even))
    figures: dict[str, Figure] = {
        "frames": int(counts[0].sum()),
        "codebooks": len(counts),
        "used_least": float(min((layer > 0).mean() for layer in counts)),
        "perplexity_first": perplexity(counts[0]),
        "perplexity_least": min(map(perplexity, counts)),
        "evenness_least": even[least],
    }
    if gains_db is not None:
        figures["layers_that_lower_the_residual"] = sum(gain > 0 for gain in gains_db)
    names = first_of([f"codebook {q + 1}: perplexity {perplexity(counts[q]):.0f}" for q in range(len(counts))])
    verdict = judged(-even[least], -EVEN_WARN, -EVEN_BAD)
    if verdict == "ok":
        return Finding(f"{part}: codebooks", "ok", figures, "every codebook is in use", items=names)
    meaning = (
        f"codebook {least + 1} has collapsed: {len(counts[least])} codes do the work of {perplexity(counts[least]):.0f}"
    )
    if verdict == "warn":
        meaning = f"codebook {least + 1} is used unevenly ({even[least]:.0%} of an even draw's perplexity)"
    remedy = "train it anew with a longer warm-up (--set objective.warm_steps=) or a lower rate, on more varied sound"
    return Finding(f"{part}: codebooks", verdict, figures, meaning, remedy, names)


def findings_on_store(folder: Path, recipe: Recipe) -> Findings:
    """Look through a token store."""
    try:
        store = TokenStore.open(folder)
    except SegueError as error:
        yield Finding("data: store", "bad", {}, str(error), "delete what is damaged and run segue tokenize again")
        return
    header = store.header
    lengths = np.array([row["seconds"] for row in store.facts])
    hours = store.seconds / 3600
    stages = {name: seen / hours for name, seen in hours_seen(recipe).items() if "stage" in name}
    most = max(stages, key=lambda name: stages[name])
    figures: dict[str, Figure] = {
        "clips": len(store),
        "hours": hours,
        "median_seconds": float(np.median(lengths)),
        "codec": header.codec_fingerprint,
        "semantic": header.semantic_fingerprint,
        **{f"times_over_{name.replace(' ', '_')}": value for name, value in stages.items()},
    }
    verdict = judged(stages[most], EPOCHS_WARN, EPOCHS_BAD)
    meaning = f"{hours:.2f} h in {len(store)} clips"
    if verdict != "ok":
        meaning += f": the recipe {recipe.name} goes over it {stages[most]:,.0f} times ({most}), more than is of use"
    yield Finding("data: length", verdict, figures, meaning, "tokenise more sound" if verdict != "ok" else "")
    yield _crops(lengths, recipe)
    clips = range(len(store))
    yield semantic_finding("data", (store.semantic(clip) for clip in clips), header.vocab_size)
    yield codes_finding(
        "data", code_counts((store.codes(clip) for clip in clips), header.num_codebooks, header.codebook_size)
    )
    yield _doubles(store)
    yield from findings_on_facts(
        [
            Told(row["seconds"], *(row[key] or "" for key in ("source", "speaker", "licence", "consent")))
            for row in store.facts
        ]
    )


def code_counts(clips: Iterable[np.ndarray], num_codebooks: int, size: int) -> np.ndarray:
    """How often each code occurs in clips (T, Q): (Q, size)."""
    counts = np.zeros((num_codebooks, size), np.int64)
    for codes in clips:
        for q in range(num_codebooks):
            counts[q] += np.bincount(codes[:, q], minlength=size)
    return counts


SHORT_WARN = 0.5
"""Share of the sound in clips shorter than a crop from which on the stage hardly ever sees its full context."""


def _crops(lengths: np.ndarray, recipe: Recipe) -> Finding:
    crops = {f"{name} stage": recipe.stage(name).train.crop_seconds for name in ("semantic", "coarse", "fine")}
    short = {name: float(lengths[lengths < crop].sum() / lengths.sum()) for name, crop in crops.items()}
    name = max(short, key=lambda name: short[name])
    figures: dict[str, Figure] = {f"short_for_{name.replace(' ', '_')}": share for name, share in short.items()}
    if short[name] < SHORT_WARN:
        return Finding("data: clips", "ok", figures, f"long enough for the crops of the recipe {recipe.name}")
    meaning = f"{short[name]:.0%} of the sound is in clips shorter than a crop of the {name} ({crops[name]:g} s)"
    remedy = "join neighbouring utterances before tokenising, or use shorter crops (--set train.crop_seconds=)"
    return Finding("data: clips", "warn", figures, meaning, remedy)


def _doubles(store: TokenStore) -> Finding:
    first: dict[bytes, str] = {}
    copies = []
    for clip in range(len(store)):
        digest = hashlib.sha256(store.codes(clip).tobytes()).digest()
        if digest in first:
            copies.append(f"{first[digest]} = {store.facts[clip]['id']}")
        first.setdefault(digest, store.facts[clip]["id"])
    verdict = judged(len(copies) / max(1, len(store)), DOUBLE_WARN, DOUBLE_BAD)
    meaning = f"{len(copies)} clips have the very codes of another" if copies else "no clip is there twice"
    remedy = "remove the copies from the recordings and tokenise anew" if verdict != "ok" else ""
    return Finding("data: duplicates", verdict, {"copies": len(copies)}, meaning, remedy, first_of(copies))
