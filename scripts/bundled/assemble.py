"""Put trained parts together as the bundled bundles, with the curve of each training beside it.

    python scripts/bundled/assemble.py RUNS segue/bundled

Both bundles share one codec. A part that has not changed is left alone. A parallel decoder is taken along where RUNS
has one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from segue.artifact import artifact_folder, load_part, save_part
from segue.bundle import save_bundle
from segue.generate.manner import Manner

MANNER = {  # see docs/log.md
    "speech": Manner((1.0, 0.7, 0.0), guidance=3.0),
    "piano": Manner((1.0, 1.0, 0.0), tries=8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    codec = keep(arguments.runs / "codec", arguments.out / "codec")
    for name in ("speech", "piano"):
        bundle = arguments.out / name
        folders = {"codec": codec, "semantic": keep(arguments.runs / f"{name}-semantic", bundle / "semantic")}
        for stage in ("semantic", "coarse", "fine"):
            run = arguments.runs / f"{name}-{stage}-stage"
            folders[f"{stage}_stage"] = keep(run, bundle / f"{stage}_stage")
        if (arguments.runs / f"{name}-parallel").is_dir():
            folders["parallel"] = keep(arguments.runs / f"{name}-parallel", bundle / "parallel")
        save_bundle(bundle, name, folders, MANNER[name])
        size = sum(path.stat().st_size for path in bundle.rglob("*.safetensors")) / 1e6
        shared = (codec / "weights.safetensors").stat().st_size / 1e6
        print(f"{bundle}: {size:.1f} MB beside the codec's {shared:.1f}")


def keep(run: Path, target: Path) -> Path:
    """Copy a run's artifact and its curve; returns `target`."""
    part = load_part(artifact_folder(run))
    if not (target / "part.json").is_file() or load_part(target).fingerprint != part.fingerprint:
        save_part(part, target)
    lines = curve((run / "log.jsonl").read_text().splitlines())
    (target / "log.jsonl").write_text("".join(line + "\n" for line in lines))
    return target


def curve(lines: list[str]) -> list[str]:
    """A run's log with some two hundred of its training steps, the last among them, and everything else."""
    steps = [line for line in lines if json.loads(line)["kind"] == "train"]
    kept = set(steps[:: -max(1, len(steps) // 200)])
    return [line for line in lines if line in kept or json.loads(line)["kind"] != "train"]


if __name__ == "__main__":
    main()
