"""Settings of a small report, for tests that change what they are about."""

from __future__ import annotations

from segue.evaluate.report import Settings

SETTINGS = Settings(
    bundle="tiny",
    bundle_fingerprint="0123456789abcdef",
    temperature=(1.0, 0.8, 0.6),
    decoder="ar",
    engine="native",
    weights="int8",
    data=("speech/valid",),
    data_fingerprint="fedcba9876543210",
    recordings=4,
    speakers=2,
    sound_seconds=12.5,
    kind="speech",
    limit=4,
    seed=0,
    prompt_seconds=1.0,
    seconds=2.0,
)
