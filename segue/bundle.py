"""A bundle: a codec, a semantic tokenizer and three stages that belong together, in a folder with `bundle.json`.

A parallel acoustic decoder may stand beside the stages.

wave (N,) -> prompt -> the three stages -> wave (B, N'). `bundle.json` names each part's folder, so that bundles
may share a codec, or the reference of a published codec (`hf:facebook/encodec_24khz@8`); it also states each
fingerprint, and a part that was trained on other tokens is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from segue import audio
from segue.artifact import Part, artifact_folder, joint_fingerprint, load_part, read_json, written_file
from segue.codec.pretrained import KEY, PretrainedCodec, read_part
from segue.codec.seam import Codec, frames_a_cut
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.generate.continuation import (
    Continuation,
    Generation,
    Models,
    no_prompt,
    tokenize_prompt,
)
from segue.generate.manner import Manner
from segue.generate.options import Options, settings_of
from segue.generate.stages import Stages
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.published import Reference, is_reference
from segue.semantic.pretrained import PretrainedTokenizer
from segue.semantic.tokenizer import SemanticTokenizer
from segue.tokenizers import BUNDLED as BUNDLED
from segue.tokenizers import load_unpacked, semantic_from_part

FORMAT_VERSION = 1
ROLES = ("codec", "semantic", "semantic_stage", "coarse_stage", "fine_stage")
OPTIONAL_ROLES = ("parallel",)
_KINDS = {"codec": "codec", "semantic": "semantic", "parallel": "parallel"}
DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """Everything needed to continue a recording.

    Attributes:
        name: of the bundle.
        folder: where it was read from.
        codec: wave <-> codes.
        semantic: wave -> semantic tokens.
        stages: the three language models.
        cards: role -> what the part was trained on.
        fingerprints: role -> fingerprint.
        manner: how it makes sound unless something else is asked for.
        parallel: makes all codes of a stretch at once, in place of the coarse and the fine stage; None where there is
            none.
    """

    name: str
    folder: Path
    codec: Codec
    semantic: SemanticTokenizer | PretrainedTokenizer
    stages: Stages
    cards: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    manner: Manner = Manner()  # noqa: RUF009
    parallel: ParallelModel | None = None

    @property
    def fingerprint(self) -> str:
        """Of all parts together, as 16 hex digits."""
        return joint_fingerprint(self.fingerprints)

    @property
    def sample_rate(self) -> int:
        """Of the waves it makes, in Hz."""
        return self.codec.sample_rate

    @property
    def models(self) -> Models:
        """What sound is made with."""
        return Models(self.codec, self.semantic, self.stages, self.parallel)

    def continue_audio(
        self, wave: Tensor | np.ndarray, sample_rate: int, seconds: float = 7.0, **options: Unpack[Options]
    ) -> Continuation:
        """Go on with a recording: all of it at once.

        Of up to 30 s the bundle's own number of tries are made (`Manner.tries`; piano 8) and the most fitting one is
        kept, unless `tries` says otherwise; of more, one.

        Args:
            wave: the prompt, (N,) or (N, channels); all of it is used.
            sample_rate: of `wave`, in Hz.
            seconds: to make.
            options: see `segue.generate.options.Options`.

        Returns:
            waves (B, N'), prompt first, and the tokens of every stage.

        Raises:
            SegueError: if the prompt is empty, too short, silent or not finite, or an option is out of range.
        """
        if options.get("tries") is None:
            options["tries"] = self.manner.tries_for(seconds, options.get("num", 1))
        return self.continuation(wave, sample_rate, seconds, **options).run()

    @torch.no_grad()
    def continuation(
        self, wave: Tensor | np.ndarray, sample_rate: int, seconds: float = 7.0, **options: Unpack[Options]
    ) -> Generation:
        """As `continue_audio`, not yet made, and one try unless `tries` asks for more: iterate over its `stream()`."""
        prompt = tokenize_prompt(self.models, *self.both_rates(wave, sample_rate))
        return Generation(self.models, prompt, seconds, settings_of(options, self.manner))

    def generation(self, seconds: float = 10.0, **options: Unpack[Options]) -> Generation:
        """Sound out of nothing (the paper's unconditional generation); `run` or `stream` it.

        Args:
            seconds: to make.
            options: see `segue.generate.options.Options`.

        Raises:
            SegueError: if an option is out of range.
        """
        return Generation(self.models, no_prompt(self.models), seconds, settings_of(options, self.manner))

    @torch.no_grad()
    def acoustic_generation(
        self,
        wave: Tensor | np.ndarray,
        sample_rate: int,
        seconds: float | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """The semantic tokens of a recording in a voice of its own (the paper's acoustic generation).

        Args:
            wave: the recording, (N,) or (N, channels).
            sample_rate: of `wave`, in Hz.
            seconds: to make, from its beginning; all of it by default.
            options: see `segue.generate.options.Options`.

        Raises:
            SegueError: if the recording is empty, too short, silent or not finite, shorter than `seconds`, or an option
                is out of range or leaves out what is to be taken from the recording.
        """
        if options.get("system") == "acoustic-only":
            raise SegueError("system acoustic-only: it leaves out the content that is to be taken from the recording")
        models = self.models
        heard = tokenize_prompt(models, *self.both_rates(wave, sample_rate))
        whole = heard.codes.shape[1] / models.codec.frame_rate
        settings = settings_of(options, self.manner)
        return Generation(models, no_prompt(models), whole if seconds is None else seconds, settings, heard.semantic)

    def both_rates(self, wave: Tensor | np.ndarray, sample_rate: int) -> tuple[Tensor, Tensor]:
        """A recording as waves (1, N) at the rates of codec and semantic tokenizer, on their device."""
        if isinstance(wave, Tensor):
            wave = wave.detach().cpu()
            wave = (wave.float() if wave.is_floating_point() else wave).numpy()
        samples = np.asarray(wave)
        if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
            raise SegueError(f"prompt {samples.shape} {samples.dtype}: floating (N,) or (N, channels) is wanted")
        audio.check(samples, sample_rate, "prompt")
        rates, device = (self.sample_rate, self.semantic.sample_rate), self.stages.semantic.device
        ours, theirs = (torch.from_numpy(audio.to_mono(samples, sample_rate, rate))[None] for rate in rates)
        return ours.to(device), theirs.to(device)

    def reconstruct(self, wave: Tensor, num_codebooks: int | None = None) -> Tensor:
        """A wave (N,) at `sample_rate` through the codec and back: (N,). Its codes are the encoder's own, taken one by
        one, as stages know them; those of a file are refined, and may be searched for (`segue.codec.file`)."""
        codes = self.codec.encode(wave[None], num_codebooks=num_codebooks)
        return self.codec.decode(codes)[0, : wave.shape[-1]]


def load(name: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """Load a bundled bundle by name (`speech`, `piano`) or any bundle by its folder.

    Args:
        name: of the bundle, or its folder.
        device: where its models work.

    Raises:
        SegueError: if there is none, a part is missing or damaged, or parts don't belong together.
    """
    folder = locate(name)
    parts = load_parts(folder)
    with torch.random.fork_rng(devices=[]):  # modules draw first weights before they get their own
        codec, semantic = codec_from_part(parts["codec"]), semantic_from_part(parts["semantic"])
        stages = Stages(*(StageModel.from_part(parts[role]) for role in ROLES[2:]))
        parallel = _parallel(parts["parallel"], stages) if "parallel" in parts else None
    for model in (codec, semantic, stages.semantic, stages.coarse, stages.fine, *([parallel] if parallel else [])):
        assert isinstance(model, nn.Module)
        model.to(device)
    frames_a_cut(codec.frame_rate, semantic.frame_rate)
    description = read_json(folder / DESCRIPTION, "bundle")
    return Bundle(
        name=str(description.get("name", folder.name)),
        folder=folder,
        codec=codec,
        semantic=semantic,
        stages=stages,
        cards={role: part.card for role, part in parts.items()},
        fingerprints={role: part.fingerprint for role, part in parts.items()},
        manner=Manner.read(description, folder / DESCRIPTION, parallel is not None),
        parallel=parallel,
    )


def _parallel(part: Part, stages: Stages) -> ParallelModel:
    """The parallel decoder, for codes such as the coarse and the fine stage make.

    Raises:
        SegueError: if it makes others.
    """
    model = ParallelModel.from_part(part)
    ours, coarse, fine = (m.stage for m in (model, stages.coarse, stages.fine))
    books = coarse.target.num_codebooks + fine.target.num_codebooks
    wanted = stages.semantic.stage.target, books, coarse.target.size, coarse.target.ratio, coarse.frame_rate
    found = ours.prefix[0], ours.target.num_codebooks, ours.target.size, ours.target.ratio, ours.frame_rate
    if found != wanted:
        raise SegueError(
            f"the parallel decoder expects {ours.prefix[0]} and makes {ours.target}, which is not what the stages "
            "beside it do; train it on their token store"
        )
    return model


def locate(name: str | Path) -> Path:
    """The folder of a bundle, bundled or not.

    Raises:
        SegueError: if there is none.
    """
    if str(name) in bundled_names():
        return BUNDLED / str(name)
    folder = Path(name)
    if (folder / DESCRIPTION).is_file():
        return folder
    raise SegueError(f"bundle {name}: neither a folder with {DESCRIPTION} nor one of {', '.join(bundled_names())}")


def bundled_names() -> list[str]:
    """Bundles that come with Segue."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{DESCRIPTION}"))


def load_parts(folder: Path) -> dict[str, Part]:
    """Every part of a bundle, checked against `bundle.json` and against each other.

    Raises:
        SegueError: if one is missing, damaged or made for other tokens.
    """
    description = read_json(folder / DESCRIPTION, "bundle")
    if description.get("format_version") != FORMAT_VERSION:
        raise SegueError(f"{folder}: bundle format {description.get('format_version')}, {FORMAT_VERSION} is read here")
    parts, entries = {}, description.get("parts")
    stated = entries if isinstance(entries, dict) else {}
    for role in (*ROLES, *(role for role in OPTIONAL_ROLES if role in stated)):
        parts[role] = _read_entry(folder, role, stated.get(role))
    check_parts(parts)
    return parts


def _read_entry(folder: Path, role: str, entry: object) -> Part:
    """The part that an entry of `bundle.json` names by folder, or a codec by reference, with the fingerprint stated."""
    place = next((key for key in ("folder", "reference") if isinstance(entry, dict) and key in entry), None)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in (place, "fingerprint")):
        raise SegueError(f"{folder / DESCRIPTION}: the part {role} is missing or has no folder and fingerprint")
    if place == "reference" and role != "codec":
        raise SegueError(
            f"{folder / DESCRIPTION}: the part {role} has a reference; only a codec can be a published one"
        )
    part = (
        read_part(entry["reference"])
        if place == "reference"
        else load_unpacked(folder / entry["folder"], _KINDS.get(role, "stage"))
    )
    if part.fingerprint != entry["fingerprint"]:
        raise SegueError(
            f"{folder}: {role} has fingerprint {part.fingerprint}, the bundle was made with "
            f"{entry['fingerprint']}; put that part back or make the bundle again"
        )
    return part


def load_codec(reference: str | Path) -> Codec:
    """A codec, Segue's own or a published one.

    Args:
        reference: of a published codec (`hf:facebook/encodec_24khz`, `hf:/path/to/folder`, `@8` after it for its first
            8 codebooks), or the folder of an artifact, of the run that made it, or of a bundle.

    Raises:
        SegueError: if there is no codec, it can't be fetched, or is damaged.
    """
    return codec_from_part(codec_part(reference))


def codec_part(reference: str | Path) -> Part:
    """The part behind what `load_codec` takes.

    Raises:
        SegueError: if there is no codec, it can't be fetched, or is damaged.
    """
    if is_reference(reference):
        return read_part(str(reference))
    folder = Path(reference)
    if (folder / DESCRIPTION).is_file():
        entries = read_json(folder / DESCRIPTION, "bundle").get("parts")
        return _read_entry(folder, "codec", entries.get("codec") if isinstance(entries, dict) else None)
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        raise SegueError(f"{folder}: no artifact of Segue's; if a published codec was saved there, give hf:{folder}")
    return load_part(artifact_folder(folder), "codec")


def codec_from_part(part: Part) -> Codec:
    """The codec that a part holds.

    Raises:
        SegueError: if its config and weights do not fit each other, or it needs a package that is not installed.
    """
    return PretrainedCodec.from_part(part) if KEY in part.config else SoundStream.from_part(part)


def check_parts(parts: dict[str, Part]) -> None:
    """Refuse stages that were trained on other tokenizers than those beside them.

    Raises:
        SegueError: naming the stage and both fingerprints.
    """
    here = {tokenizer: parts[tokenizer].token_fingerprint for tokenizer in ROLES[:2]}
    for role in (role for role in (*ROLES[2:], *OPTIONAL_ROLES) if role in parts):
        for tokenizer, wanted in parts[role].requires.items():
            if here.get(tokenizer) != wanted:
                raise SegueError(
                    f"{role} was trained on {tokenizer} tokens of {wanted}, but the {tokenizer} here is "
                    f"{here.get(tokenizer, 'none')}; parts of different bundles don't mix"
                )


def save_bundle(
    folder: Path,
    name: str,
    part_folders: Mapping[str, str | Path],
    manner: Manner = Manner(),
) -> None:
    """Write `bundle.json` over parts that are on disk already.

    Args:
        folder: of the bundle.
        name: of the bundle.
        part_folders: role -> folder of the part, inside `folder` or beside it; for the codec also the reference of a
            published one. `parallel` may be left out.
        manner: how it makes sound unless a user asks for something else.

    Raises:
        SegueError: if parts are missing, damaged or don't belong together.
    """
    if manner.decoder == "parallel" and "parallel" not in part_folders:
        raise SegueError(
            f"{folder}: decoder parallel, but no parallel decoder is among the parts; give one, or take ar"
        )
    if missing := [role for role in ROLES if role not in part_folders]:
        raise SegueError(f"{folder}: a bundle needs {', '.join(ROLES)}; {missing[0]} is missing")
    parts, entries = {}, {}
    for role in (*ROLES, *(role for role in OPTIONAL_ROLES if role in part_folders)):
        place = part_folders[role]
        if role == "codec" and is_reference(place):
            parts[role] = read_part(str(place))
            entries[role] = {"reference": str(Reference.parse(str(place)))}
        else:
            parts[role] = load_unpacked(Path(place), _KINDS.get(role, "stage"))
            entries[role] = {"folder": Path(os.path.relpath(place, folder)).as_posix()}
        entries[role]["fingerprint"] = parts[role].fingerprint
    check_parts(parts)
    description = {
        "format_version": FORMAT_VERSION,
        "name": name,
        **manner.told(),
        "parts": entries,
    }
    with written_file(folder / DESCRIPTION) as beside:
        beside.write_text(json.dumps(description, indent=2) + "\n")
