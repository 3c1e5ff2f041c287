"""Write tests/golden.json: what the bundled models make of the two prompts in examples/.

    python scripts/bundled/golden.py

Tokens of a prompt hardly depend on the machine, so tests compare them with a small allowance; generated tokens may
differ from machine to machine and are not kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import segue
from segue import audio

ROOT = Path(__file__).resolve().parents[2]


def facts(name: str) -> dict:
    """Tokens, codes and level of a bundled bundle on its example."""
    bundle = segue.load(name)
    wave = audio.read(ROOT / "examples" / f"{name}.wav", bundle.sample_rate).wave[None, : 2 * bundle.sample_rate]
    with torch.inference_mode():
        codes = bundle.codec.encode(wave)
        decoded = bundle.codec.decode(codes)
        semantic = bundle.semantic.encode(wave)
    return {
        "fingerprint": bundle.fingerprint,
        "semantic": semantic[0].tolist(),
        "first_codes": codes[0, 0].tolist(),
        "decoded_rms": round(float(decoded.square().mean().sqrt()), 5),
    }


def main() -> None:
    path = ROOT / "tests" / "golden.json"
    path.write_text(json.dumps({name: facts(name) for name in ("speech", "piano")}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
