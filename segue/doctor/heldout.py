"""Sound that models are asked about: recordings given, the bundled example prompts, or a token store that is there.

Waves are (N,) mono at a model's rate; tokens are a TokenStore in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import segue
from segue import audio
from segue.codec.seam import Codec
from segue.data import shards, sources
from segue.data.aligned import SemanticTokenizer, encode_aligned, header
from segue.data.items import Item, Sound, groups, readable
from segue.data.store import TokenStore
from segue.doctor.effort import Effort
from segue.doctor.findings import Figure, Finding
from segue.errors import SegueError

MOST_RECORDINGS = 48
"""Drawn from what is given: enough for standard errors of a few hundredths of a nat."""
MOST_SECONDS = 15.0
"""Of each, from its middle: longer than any crop of the recipe `tiny`."""
EXAMPLES = Path(segue.__file__).parents[1] / "examples"


@dataclass(frozen=True)
class HeldOut:
    """Held-out sound or tokens; exactly one of `recordings` and `store` is there.

    Attributes:
        recordings: their ids and what reads them.
        store: tokens.
        only_examples: whether nothing was given and the example prompts stand in.
    """

    items: tuple[Item, ...] = ()
    store: TokenStore | None = None
    only_examples: bool = False

    def waves(self, sample_rate: int, effort: Effort, check: str = "read") -> list[Tensor]:
        """The recordings' middles, (N,) each; a warning tells of those that can't be read.

        Raises:
            SegueError: if none can be read.
        """
        waves: list[Tensor] = []
        reasons: list[str] = []
        for group in effort.all_of(check, list(groups(self.items, 1))):
            for item, sound in shards.sounds(group):
                try:
                    waves.append(_middle(item, sound, sample_rate))
                except SegueError as error:
                    reasons.append(str(error))
        if not waves:
            raise SegueError(
                f"--data: no recording in it can be used ({reasons[-1] if reasons else 'no time for any'})"
            )
        if reasons:
            warnings.warn(
                f"--data: {len(reasons)} of {len(reasons) + len(waves)} recordings can't be used, such as {reasons[0]}",
                stacklevel=2,
            )
        return waves

    def tokens(self, semantic: SemanticTokenizer, codec: Codec, effort: Effort) -> TokenStore:
        """Tokens of the recordings, or those of the store.

        Raises:
            SegueError: if the store was made by other tokenizers, or nothing can be read.
        """
        if self.store is not None:
            check_requires(self.store, {"semantic": semantic.fingerprint, "codec": codec.codes_fingerprint})
            return self.store
        waves = self.waves(codec.sample_rate, effort)
        heard = waves if semantic.sample_rate == codec.sample_rate else self.waves(semantic.sample_rate, effort)
        pairs = []
        for wave, other in effort.while_it_lasts("tokenise", list(zip(heard, waves, strict=True))):
            pairs.append(encode_aligned(wave, semantic, codec, other))
        facts = [{"id": str(index), "seconds": wave.shape[-1] / codec.sample_rate} for index, wave in enumerate(waves)]
        units = [tokens.numpy().astype(np.int16) for tokens, _ in pairs]
        codes = [found.T.numpy().astype(np.int16) for _, found in pairs]
        return TokenStore(header(semantic, codec), facts[: len(pairs)], units, codes)


def held_out(places: Sequence[Path], seed: int) -> HeldOut:
    """What `--data` names: sound in any form, or one token store; nothing for the example prompts.

    Raises:
        SegueError: if there is nothing there.
    """
    if len(places) == 1 and is_store(places[0]):
        return HeldOut(store=TokenStore.open(places[0]))
    if not places and not EXAMPLES.is_dir():
        raise SegueError("--data: give a folder of held-out sound or a token store; no example prompts are here")
    items, _ = sources.find(list(places) or [EXAMPLES])
    if not items:
        raise SegueError(f"--data {', '.join(map(str, places))}: no sound files in it")
    order = np.random.default_rng(seed).permutation(len(items))[:MOST_RECORDINGS]
    return HeldOut(tuple(items[index] for index in sorted(order)), only_examples=not places)


def is_store(folder: Path) -> bool:
    """Whether it is a token store."""
    return folder.is_dir() and any(folder.glob("part-*.parquet"))


def check_requires(store: TokenStore, requires: dict[str, str]) -> None:
    """Refuse a store that other tokenizers made.

    Raises:
        SegueError: naming which.
    """
    made = {"semantic": store.header.semantic_fingerprint, "codec": store.header.codec_fingerprint}
    for role, wanted in requires.items():
        if made[role] != wanted:
            raise SegueError(f"--data: tokens of the {role} {made[role]}, but the model's is {wanted}; tokenise anew")


def finding_on(data: HeldOut) -> Finding:
    """What models were asked about."""
    if data.store is not None:
        figures: dict[str, Figure] = {"clips": len(data.store), "hours": data.store.seconds / 3600}
        return Finding("held-out sound", "ok", figures, f"{len(data.store)} clips of the token store given")
    if data.only_examples:
        meaning = (
            f"no --data given, so {len(data.items)} bundled example prompts of 5 s stand in, too little for a verdict"
        )
        remedy = "give sound that was held out from training: --data FOLDER"
        return Finding("held-out sound", "warn", {"recordings": len(data.items)}, meaning, remedy)
    return Finding(
        "held-out sound", "ok", {"recordings": len(data.items)}, f"{len(data.items)} recordings of those given"
    )


def _middle(item: Item, sound: Sound | SegueError, sample_rate: int) -> Tensor:
    if isinstance(sound, SegueError):
        raise sound
    seconds = audio.duration_seconds(readable(sound))
    start = max(0.0, (seconds - MOST_SECONDS) / 2)
    wave = audio.read_crop(readable(sound), start, MOST_SECONDS, sample_rate)
    audio.check(wave, sample_rate, str(item))
    return torch.from_numpy(wave)
