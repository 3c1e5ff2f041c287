"""Make the tokenizer `phonetic`: turn recordings around, put two encoders side by side, keep what comes of them packed.

    python scripts/bundled/phonetic.py turn speech/train turned/train      # and train a recurrent tokenizer on turned/
    python scripts/bundled/phonetic.py join segue/bundled/speech/semantic runs/turned runs/joined
    segue train semantic --encoder runs/joined --data speech/train --out runs/phonetic --licence ... \\
        --set model.tokenizer.axes=60 --set model.tokenizer.interleaved=true --set model.tokenizer.angular=true \\
        --set train.crop_seconds=10
    python scripts/bundled/phonetic.py keep runs/phonetic runs/turned segue/bundled

The shipped one learnt to hear sound from its end with the weights of the speech tokenizer to begin with, which no
command does. `model.tokenizer.recurrent={"width": 384, "both_ways": true}` trains both halves at once, from scratch.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import soundfile
import torch

from segue.artifact import artifact_folder, load_part, save_part
from segue.config import from_dict, to_disk
from segue.semantic.packed import BACK, ONWARD, half_of, pack
from segue.semantic.tokenizer import TokenizerConfig
from segue.tokenizers import PHONETIC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("turn", "join", "keep"))
    parser.add_argument("places", type=Path, nargs="+")
    arguments = parser.parse_args()
    {"turn": turn, "join": join, "keep": keep}[arguments.what](*arguments.places)


def turn(sound: Path, out: Path) -> None:
    """Write each WAV of a folder from its end to its beginning."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(sound.glob("*.wav")):
        wave, rate = soundfile.read(path, dtype="int16")
        soundfile.write(out / path.name, wave[::-1], rate, subtype="PCM_16")


def join(onward: Path, back: Path, out: Path) -> None:
    """A tokenizer that goes on as the one and back as the other, with the log-mel of the first; to be clustered yet."""
    first, second = (load_part(artifact_folder(place), "semantic") for place in (onward, back))
    config = from_dict(TokenizerConfig, first.config, "semantic", complete=True)
    assert config.recurrent is not None, f"{onward}: no recurrent encoder"
    config = replace(config, recurrent=replace(config.recurrent, both_ways=True), axes=0)
    tensors = {name: tensor for name, tensor in first.tensors.items() if name.startswith("features.")}
    tensors |= half_of(first, ONWARD) | half_of(second, BACK)
    width = config.hidden_width
    empty = {"mean": torch.zeros(width), "std": torch.ones(width), "centroids": torch.zeros(config.vocab_size, width)}
    tensors |= {name: tensor.half() for name, tensor in empty.items()}
    card = second.card | {"licence": first.card.get("licence", "")}
    save_part(replace(first, config=to_disk(config), tensors=tensors, card=card), out / "artifact")


def keep(run: Path, back: Path, bundled: Path) -> None:
    """Pack a run's tokenizer beside the bundles, with the curve of its half that goes back."""
    onward, out = bundled / "speech" / "semantic", bundled / PHONETIC
    save_part(pack(load_part(artifact_folder(run), "semantic"), load_part(onward, "semantic")), out)
    shutil.copyfile(back / "log.jsonl", out / "log.jsonl")


if __name__ == "__main__":
    main()
