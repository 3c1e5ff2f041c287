"""How well the stages model held-out sound: nats a token by stage and codebook, what prompts and prefixes are worth,
and how often the right one of two sounds is the likelier one.

Figures are of segue.evaluate.likelihood; intervals are drawn over speakers (recordings where those aren't told), and of
pairs over their groups. Where no pairs are given, some are made of the recordings (segue.evaluate.pairs.splices).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from segue import audio
from segue.data.store import TokenStore
from segue.errors import SegueError
from segue.evaluate.likelihood import Conditioning, Losses, Member, conditioning_of, losses_on, members_of, tokens_of
from segue.evaluate.measures import Figure, bootstrap
from segue.evaluate.pairs import make, sets, splices
from segue.evaluate.pairs.find import find
from segue.evaluate.pairs.sets import Pair, PairSet
from segue.evaluate.recordings import Recording, held_out
from segue.evaluate.section import Column, Player, Section, Table
from segue.evaluate.suite import Context

PAIRS_OF_A_KIND = 60
"""Made of held-out recordings where no pairs are given."""
MOST_RECORDINGS = 4 * PAIRS_OF_A_KIND
LONGEST_SECONDS = 30.0
"""Of recordings that pairs are made of."""
SHOWN = 2
"""Pairs of each set that can be listened to."""
ABOUT = (
    "Nats a token: the mean of minus the logarithm of the probability that a stage gives to each token of recordings "
    "it was not trained on, given those before it (and the prefix); guessing would cost the logarithm of the "
    "vocabulary. Figures of different tokenizers can't be compared. Given: what it costs a token when the prompt (a "
    "third of a crop) or a prefix is that of another recording; nought would mean that the stage doesn't heed it. "
    "Pairs: the share whose right member the semantic stage finds likelier, ties counted half, members of several "
    "voices averaged first; 0.5 is chance. The likelihood is that of all semantic tokens, summed, or divided by their"
    " number; both are given, because the summed one favours the shorter member. Beside them stand two scorers that "
    "know no language: one takes the shorter member, one knows only how often each token comes in other held-out "
    "recordings. Continuations: what follows the first three seconds is the recording's own, or another recording's "
    "of the same speaker, or its own in another order or backwards; both members are cut at the same places, with the"
    " same silences. A wrong continuation from another recording also brings that one's room and noise; and a "
    "semantic tokenizer that looks both ways hears the sound beside a wrong one differently, which the last scorer "
    "shows: what the model adds is what it has beyond that."
)
SOURCES = "Pairs after sWUGGY and sBLIMP (Nguyen et al. 2020, arXiv 2011.11588; AudioLM, arXiv 2209.03143)."
_LOSS = (
    Column("nats", "nats a token", "lower", 3),
    Column("uniform", "guessing", "neither", 3),
    Column("perplexity", "perplexity", "lower", 1),
)
_BITS = Column("bits_per_second", "bit/s", "lower", 0)
_GIVEN = (
    Column("true", "nats, its own", "lower", 3),
    Column("cost", "another's costs", "higher", 3),
    Column("crops", "crops", "neither", 0),
)
_PAIRS = (
    Column("accuracy", "right one likelier, per token", "higher", 3),
    Column("accuracy_summed", "summed", "higher", 3),
    Column("shorter", "the shorter one", "neither", 3),
    Column("frequency", "by token frequency", "neither", 3),
    Column("pairs", "pairs", "neither", 0),
)


def run(context: Context) -> Section:
    """Likelihood of each stage and of the members of pairs.

    Args:
        context: of the evaluation; `pairs` names folders of pairs.

    Raises:
        SegueError: if a recording or a folder of pairs can't be read.
    """
    began, bundle = time.perf_counter(), context.bundle
    given = find(context.pairs)
    store = tokens_of(context)
    groups = np.asarray(context.groups)
    models = {"semantic_stage": bundle.stages.semantic, "coarse_stage": bundle.stages.coarse}
    models["fine_stage"] = bundle.stages.fine
    by_stage: dict[str, dict[str, Figure | None]] = {}
    by_codebook: dict[str, dict[str, Figure | None]] = {}
    for role, model in models.items():
        losses, target = losses_on(context, model, role, store), model.stage.target
        rate = model.stage.frame_rate / target.ratio * target.num_codebooks
        uniform = math.log(target.size)
        row = _row(losses, None, uniform, groups, context.seed)
        if not model.stage.deduplicate_semantic or model.stage.name != "semantic":
            row["bits_per_second"] = _scaled(row["nats"], rate / math.log(2))
        by_stage[model.stage.name] = row
        for codebook in range(target.num_codebooks if target.num_codebooks > 1 else 0):
            name = f"code {target.first_codebook + codebook + 1}"
            by_codebook[name] = _row(losses, codebook, uniform, groups, context.seed)
    worth = {role: conditioning_of(context, model, role, store) for role, model in models.items()}
    if bundle.parallel is not None:
        worth["parallel"] = conditioning_of(context, bundle.parallel, "parallel", store)
    missing = {}
    if any(found is None for found in worth.values()):
        missing["what prompts and prefixes are worth"] = "too few recordings; give more with --data or --limit"
    tables = [
        Table("likelihood", "Likelihood of held-out tokens", (*_LOSS, _BITS), by_stage),
        Table("codebooks", "Likelihood by codebook", _LOSS, by_codebook),
        Table("given", "What prompts and prefixes are worth", _GIVEN, _given(worth.values(), groups, context.seed)),
    ]
    known, notes = given or _own(context, missing), []
    frequencies = Frequencies(store, bundle.semantic.vocab_size)
    rows, details, players = {}, {}, []
    for pairs in known:
        rows[pairs.name], details[pairs.name], cut = _scored(context, pairs, frequencies)
        players += _players(context, pairs)
        if cut:
            seconds = bundle.stages.semantic.stage.crop_seconds
            notes.append(
                f"{pairs.name}: {cut} members are longer than {seconds:g} s, what the stage sees, and cut there"
            )
        others = sum(pair.facts.get("same_speaker") is False for pair in pairs.pairs)
        if others:
            notes.append(f"{pairs.name}: {others} wrong continuations may be of another voice; no speaker is told")
    tables.append(Table("pairs", "Pairs: how often the right one is likelier", _PAIRS, rows))
    return Section(
        "lm",
        "Language models",
        ABOUT,
        tuple(tables),
        tuple(players),
        (),
        (*notes, SOURCES),
        {"pairs": details, "recordings": len(context.recordings), "given_pairs": bool(given)},
        {},
        missing,
        time.perf_counter() - began,
    )


def accuracy(right: Sequence[float], wrong: Sequence[float]) -> np.ndarray:
    """1 where the right member scores higher, one half where both score alike, else 0: (n,)."""
    first, second = np.asarray(right), np.asarray(wrong)
    return (first > second) + 0.5 * (first == second)


def _row(
    losses: Losses, codebook: int | None, uniform: float, groups: np.ndarray, seed: int
) -> dict[str, Figure | None]:
    nats = bootstrap(range(len(groups)), groups.tolist(), lambda rows: losses.mean(rows, codebook), seed)
    perplexity = Figure(math.exp(nats.value), math.exp(nats.low), math.exp(nats.high))
    return {"nats": nats, "uniform": Figure(uniform), "perplexity": perplexity}


def _scaled(figure: Figure | None, by: float) -> Figure | None:
    return None if figure is None else Figure(figure.value * by, figure.low * by, figure.high * by)


def _given(worth: Iterable[Conditioning | None], groups: np.ndarray, seed: int) -> dict[str, dict[str, Figure | None]]:
    rows: dict[str, dict[str, Figure | None]] = {}
    for found in worth:
        if found is None:
            continue
        who = groups[found.clips].tolist()

        for name, costs in found.apart.items():
            what = "prompt" if name == "prompt" else f"{name} tokens"
            rows[f"{found.part}: {what}"] = {
                "true": bootstrap(range(len(who)), who, _mean_of(found.true), seed),
                "cost": bootstrap(range(len(who)), who, _mean_of(costs), seed),
                "crops": Figure(float(len(who))),
            }
    return rows


def _own(context: Context, missing: dict[str, str]) -> list[PairSet]:
    """Pairs made of held-out recordings, once for these recordings and this seed."""
    try:
        recordings = _long_ones(context)
        key = {
            "of": "made pairs",
            "recordings": [[one.identity, one.seconds] for one in recordings],
            "limit": PAIRS_OF_A_KIND,
            "seed": context.seed,
        }
        folder = context.cache.path(key, "") / "recordings"
        if not (folder / sets.FILE).is_file():
            told = partial(context.tell, "pairs from sound")
            make.save(make.of_recordings(recordings, PAIRS_OF_A_KIND, context.seed, told), folder)
    except SegueError as error:
        missing["pairs"] = f"{error} (or make pairs with `segue evaluate pairs make` and give them with --pairs)"
        return []
    return sets.read(folder)


def _long_ones(context: Context) -> Sequence[Recording]:
    """Recordings to make pairs of: drawn anew where they can be, so that speakers have several; else the context's.

    Raises:
        SegueError: if none is long enough.
    """
    if not context.places:
        return context.recordings
    by_speaker = context.kind == "speech"
    return held_out(context.places, MOST_RECORDINGS, LONGEST_SECONDS, context.seed, splices.NEEDED_SECONDS, by_speaker)[
        0
    ]


class Frequencies:
    """How often each semantic token comes in recordings, each token seen once more than it was.

    Args:
        store: of the recordings.
        vocab_size: semantic tokens.
    """

    def __init__(self, store: TokenStore, vocab_size: int) -> None:
        self._counts = {
            str(store.facts[clip]["id"]): np.bincount(store.semantic(clip).astype(np.int64), minlength=vocab_size)
            for clip in range(len(store))
        }
        self._total = 1 + np.sum(list(self._counts.values()), axis=0)

    def score(self, tokens: Sequence[int], pair: Pair) -> float:
        """Mean logarithm of the tokens' frequencies in other recordings than the pair was made of."""
        counts = self._total.copy()
        for name in {str(pair.facts.get(key)) for key in ("recording", "wrong_recording")} & self._counts.keys():
            counts -= self._counts[name]
        return float(np.log(counts[list(tokens)] / counts.sum()).mean()) if len(tokens) else 0.0


def _scored(
    context: Context, pairs: PairSet, frequencies: Frequencies
) -> tuple[dict[str, Figure | None], dict[str, Any], int]:
    """A row of the table, scores by type where types are told, and how many members were cut."""
    scorers: dict[str, Callable[[Member, Pair], float]] = {
        "accuracy": lambda member, pair: -member.nats / max(1, len(member.tokens)),
        "accuracy_summed": lambda member, pair: -member.nats,
        "shorter": lambda member, pair: -len(member.tokens),
        "frequency": lambda member, pair: frequencies.score(member.tokens, pair),
    }
    heard: list[tuple[Pair, Member, Member]] = list(members_of(context, pairs))
    of: dict[str, list[int]] = defaultdict(list)
    for row, (pair, _, _) in enumerate(heard):
        of[pair.id].append(row)
    ids = list(of)
    numbers = {name: place for place, name in enumerate(sorted({pair.group for pair, _, _ in heard}))}
    groups = [numbers[heard[of[name][0]][0].group] for name in ids]
    types = [str(heard[of[name][0]][0].facts.get("type", "")) for name in ids]
    found: dict[str, Figure | None] = {"pairs": Figure(float(len(ids)))}
    by_type: dict[str, dict[str, float]] = defaultdict(dict)
    for key, scorer in scorers.items():
        scores = accuracy([scorer(right, p) for p, right, _ in heard], [scorer(wrong, p) for p, _, wrong in heard])
        means = np.asarray([scores[of[name]].mean() for name in ids])
        found[key] = bootstrap(range(len(ids)), groups, _mean_of(means), context.seed)
        for name in filter(None, sorted(set(types))):
            by_type[name][key] = float(means[[kind == name for kind in types]].mean())
    told = {
        "voices": len({pair.voice for pair, _, _ in heard}),
        "groups": len(numbers),
        "by_type": dict(by_type),
        "licences": sorted({str(pair.facts.get("licence", "not told")) for pair, _, _ in heard}),
    }
    return found, told, sum(right.cut + wrong.cut for _, right, wrong in heard)


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())


def _players(context: Context, pairs: PairSet) -> list[Player]:
    """The first pairs of a set, copied beside the report."""
    players = []
    for number, pair in enumerate(pairs.pairs[:SHOWN]):
        for title, path in (("right", pair.right), ("wrong", pair.wrong)):
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{pairs.name}-{number}")
            sound = f"sounds/lm-{name}-{title}.wav"
            recording = audio.read(path, context.bundle.sample_rate)
            audio.write(context.out / sound, recording.wave, recording.sample_rate)
            players.append(Player(title, f"{pairs.name}, {pair.id}", sound))
    return players
