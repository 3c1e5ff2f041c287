"""Who is heard and under which licence: what manifests or a token store tell, weighed by seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segue.doctor.findings import Figure, Finding, Findings, first_of

ONE_VOICE = 0.7
"""One speaker in more than this share of the sound is the voice that a model falls back to."""


class Told(NamedTuple):
    """One recording: its seconds, and what is told of it; empty where nothing is."""

    seconds: float
    source: str = ""
    speaker: str = ""
    licence: str = ""
    consent: str = ""


def findings_on_facts(recordings: Sequence[Told]) -> Findings:
    """Sources, speakers, licences and consent."""
    whole = sum(one.seconds for one in recordings) or 1.0
    shares: dict[str, dict[str, float]] = {"source": {}, "speaker": {}, "licence": {}}
    for key, of in shares.items():
        for one in recordings:
            if name := getattr(one, key):
                of[name] = of.get(name, 0.0) + one.seconds / whole
    known = {key: sum(of.values()) for key, of in shares.items()}
    sources: dict[str, Figure] = dict(list(_by_share(shares["source"]).items())[:20])
    yield Finding("data: sources", "ok", sources, "where the sound is from")
    yield _speakers(shares["speaker"], known["speaker"])
    consent = sum(one.seconds for one in recordings if one.consent) / whole
    figures: dict[str, Figure] = {"licence_known": known["licence"], "consent_known": consent}
    items = first_of([f"{name}: {share:.0%}" for name, share in _by_share(shares["licence"]).items()])
    if known["licence"] > 0.999:
        yield Finding("data: licences", "ok", figures, "all of it has a licence on record", items=items)
    else:
        yield Finding(
            "data: licences",
            "warn",
            figures,
            f"no licence on record for {1 - known['licence']:.0%} of the sound, so no model can say what it is under",
            'give one a recording in manifest.jsonl ("licence": ...), or --licence when training',
            items,
        )


def _speakers(shares: dict[str, float], known: float) -> Finding:
    figures: dict[str, Figure] = {"speakers": len(shares), "speaker_known": known}
    if not shares:
        meaning = "no speaker on record; voices can be held out by whole speakers only where they are named"
        return Finding("data: speakers", "ok", figures, meaning)
    name, most = max(shares.items(), key=lambda pair: pair[1])
    figures["largest_share"] = most
    if most > ONE_VOICE and len(shares) > 1:
        meaning = f"{most:.0%} of the sound is one speaker, {name}: the voice a model will fall back to"
        return Finding("data: speakers", "warn", figures, meaning, "add others, or even them out with --weight")
    return Finding(
        "data: speakers", "ok", figures, "no voice outweighs the others" if len(shares) > 1 else "one speaker"
    )


def _by_share(shares: dict[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))
