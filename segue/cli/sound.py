"""Verbs that make sound: `continue`, `generate` and `reconstruct`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from segue import audio, units
from segue.bundle import Bundle, load
from segue.cli.groups import spelt_out
from segue.cli.options import (
    BundleOption,
    CandidatesOption,
    DeviceOption,
    RefineOption,
    ThreadsOption,
    check_out,
    choose_device,
    notes_of,
    one_of,
    use_threads,
)
from segue.codec import file
from segue.errors import SegueError
from segue.generate.acoustic import StageProgress
from segue.generate.continuation import DECODERS, ITERATIONS, SYSTEMS, Generation
from segue.generate.options import Options, check_num
from segue.generate.repetition import LOOPS_FROM, Repetition
from segue.terminal import bars, count_bar, err, say, stage_bars

OutOption = Annotated[
    Path, typer.Option("--out", help="File to write; with --stream, - is standard output.", allow_dash=True)
]


@dataclass(frozen=True)
class Making:
    """The options of every verb that makes sound."""

    bundle: BundleOption = "speech"
    seed: Annotated[int, typer.Option(help="Same seed and options, same bytes.")] = 0
    num: Annotated[
        int, typer.Option(help="How many to make; beyond one, OUT is numbered. Times the tries, at most 1000.")
    ] = 1
    temperature: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Of the semantic, coarse and fine stage; the bundle's own by default."),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely voice and words follow prompt and semantic tokens: 1 as trained, 3 closer."),
    ] = None
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest tokens of this probability.")] = None
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="End early where the model ends.")] = False
    system: Annotated[
        str, typer.Option(help="full; or the paper's baselines: acoustic-only (no semantic tokens), semantic-only.")
    ] = "full"
    decoder: Annotated[
        str | None, typer.Option(help="ar (coarse stage, fine stage) or parallel; the bundle's own by default.")
    ] = None
    iterations: Annotated[int, typer.Option(help="Rounds of the parallel decoder's first codebook.")] = ITERATIONS
    engine: Annotated[
        str | None, typer.Option(help="That decodes the stages: native, torch, static, compiled; the fastest here.")
    ] = None
    weights: Annotated[str | None, typer.Option(help="Of the stages: float32, int8; what suits the engine.")] = None
    tries: Annotated[
        int | None,
        typer.Option(
            help="Make so many and keep the most fitting one: as loud as most, in the prompt's key. By default "
            "continue makes as many as the bundle says (piano 8) of up to 30 s and 64 in all, else and with --stream "
            "one; generate makes one."
        ),
    ] = None
    stream: Annotated[
        bool, typer.Option("--stream", help="Write sound (WAV) as it is made, to be played at once; one try.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="One line of figures on standard output.")] = False
    device: DeviceOption = "auto"
    threads: ThreadsOption = None

    def load(self) -> Bundle:
        """The bundle, on the device."""
        use_threads(self.threads)
        return load(self.bundle, choose_device(self.device))

    def options(self, on_progress: StageProgress) -> Options:
        """What the bundle is to be asked for.

        Raises:
            SegueError: if several tries are to be heard while they are made.
        """
        if self.stream and (self.tries or 1) > 1:
            raise SegueError(f"--tries {self.tries}: what is heard at once can't be chosen from; leave out --stream")
        return Options(
            seed=self.seed,
            num=self.num,
            temperature=self.temperature,
            guidance=self.guidance,
            top_k=self.top_k,
            top_p=self.top_p,
            stop_at_end=self.stop_at_end,
            system=one_of("--system", self.system, SYSTEMS),
            decoder=None if self.decoder is None else one_of("--decoder", self.decoder, DECODERS),
            iterations=self.iterations,
            engine=self.engine,
            weights=self.weights,
            tries=self.tries,
            on_progress=on_progress,
        )


@spelt_out
def continue_(
    prompt: Annotated[Path, typer.Argument(help="Sound file that begins with the prompt.")],
    out: OutOption,
    making: Making,
    prompt_seconds: Annotated[float, typer.Option(help="The prompt is so much of the file's beginning.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="To make.")] = 7.0,
) -> None:
    """Go on with a recording."""
    if not 0 < prompt_seconds < float("inf"):
        raise SegueError(f"--prompt-seconds {prompt_seconds}: ask for more than 0")

    def begin(bundle: Bundle, options: Options) -> Generation:
        wave = _beginning(prompt, prompt_seconds, bundle)
        if options["tries"] is None and not making.stream:
            options["tries"] = bundle.manner.tries_for(seconds, making.num)
        return bundle.continuation(wave.numpy(), bundle.sample_rate, seconds, **options)

    _make(begin, making, out, prompt)


@spelt_out
def generate(
    out: OutOption,
    making: Making,
    content: Annotated[Path | None, typer.Option(help="Recording to say again in another voice.")] = None,
    seconds: Annotated[float | None, typer.Option(help="To make; 10, or as long as --content.")] = None,
) -> None:
    """Make sound out of nothing, or out of the semantic tokens of a recording."""

    def begin(bundle: Bundle, options: Options) -> Generation:
        if content is None:
            return bundle.generation(10.0 if seconds is None else seconds, **options)
        recording = audio.read(content, bundle.sample_rate)
        notes_of(recording)
        return bundle.acoustic_generation(recording.wave.numpy(), bundle.sample_rate, seconds, **options)

    _make(begin, making, out, content)


def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Sound file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    codebooks: Annotated[int | None, typer.Option(help="1 to as many as the codec has; all by default.")] = None,
    candidates: CandidatesOption = None,
    refine: RefineOption = None,
    bundle: BundleOption = "speech",
    threads: ThreadsOption = None,
) -> None:
    """Send a recording through the codec and back."""
    check_out(out, source)
    use_threads(threads)
    loaded = load(bundle)
    recording = audio.read(source, loaded.sample_rate)
    notes_of(recording)
    with bars() as progress:
        told = count_bar(progress, "refining", "rounds")
        coded = file.encode(loaded.codec, recording.wave, codebooks, candidates, refine, told)
    audio.write(out, file.decode(loaded.codec, coded), loaded.sample_rate)
    rate = f"{coded.bit_rate / 1000:.1f} kbit/s ({coded.num_codebooks} codebooks)"
    err.print(f"{out}: {recording.seconds:.2f} s at {rate}")


def _outs(out: Path, making: Making, source: Path | None) -> list[Path]:
    """The files to write, found to be writable.

    Raises:
        SegueError: if they aren't, or standard output is asked for more than it can take.
    """
    if str(out) == "-":
        if not making.stream or making.num != 1 or making.as_json:
            raise SegueError("--out -: standard output takes one sound, with --stream and without --json")
        return [out]
    check_num(making.num, 1 if making.tries is None else making.tries)
    outs = [out] if making.num == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(making.num)]
    for path in outs:
        check_out(path, source)
    return outs


def _make(begin: Callable[[Bundle, Options], Generation], making: Making, out: Path, source: Path | None) -> None:
    """Make what `begin` begins, into files, and tell of it."""
    began = time.perf_counter()
    outs = _outs(out, making, source)
    bundle = making.load()
    with bars(quiet=making.as_json) as progress:
        made = begin(bundle, making.options(stage_bars(progress)))
        figures = _write(made, outs, making.stream, began)
    _tell(bundle, figures, making.as_json)


def _write(made: Generation, outs: list[Path], stream: bool, began: float) -> dict[str, Any]:
    """Make sound into files, chunk by chunk, and say what came of it."""
    rate, opened = made.models.codec.sample_rate, audio.growing if stream else audio.written
    prompt_samples, samples = made.prompt.wave.shape[0], [0] * len(outs)
    repetition = [Repetition() for _ in outs]
    first_audio = None
    chunks = made.stream()
    begun = list(islice(chunks, 2))  # what can't be made is refused here, before a file is touched
    with ExitStack() as files:
        put: list[Callable[[Tensor], None]] = [files.enter_context(opened(path, rate)) for path in outs]
        for index, chunk in enumerate(chain(begun, chunks)):
            for row, count in enumerate(chunk.samples):
                put[row](chunk.wave[row, :count])
                samples[row] += count
                own = chunk.tokens.frames[row] // made.models.clock.codec_frames * made.models.clock.semantic_frames
                if index:
                    repetition[row].add(chunk.tokens.semantic[row, :own])
            if first_audio is None and max(samples) > prompt_samples:
                first_audio = time.perf_counter() - began
    seconds_made = [round((count - prompt_samples) / rate, 3) for count in samples]
    wall = time.perf_counter() - began
    return {
        "out": [str(path) for path in outs],
        "prompt_seconds": round(prompt_samples / rate, 3),
        "seconds_made": seconds_made,
        "wall_seconds": round(wall, 3),
        "real_time_factor": round(sum(seconds_made) / wall, 3),
        "first_audio_seconds": None if first_audio is None else round(first_audio, 3),
        "repeated_4grams": [round(row.share, 3) for row in repetition],
        "seeds": list(made.settings.seeds),
        "tries": made.settings.tries,
    }


def _tell(bundle: Bundle, figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps({**figures, "bundle": bundle.name, "bundle_fingerprint": bundle.fingerprint}))
        return
    before = f"{figures['prompt_seconds']:.2f} s of prompt, " if figures["prompt_seconds"] else ""
    what = "continuation" if before else "sound"
    what += f", the most fitting of {figures['tries']} tries" if figures["tries"] > 1 else ""
    for path, length, repeated in zip(figures["out"], figures["seconds_made"], figures["repeated_4grams"], strict=True):
        err.print(f"{path}: {before}{length:.2f} s of {what}")
        if repeated > LOOPS_FROM:
            err.print(f"note: {path} repeats itself ({repeated:.0%} of its 4-grams); try a higher --temperature")
    err.print(
        f"{figures['wall_seconds']:.1f} s of work, {figures['real_time_factor']} times real time, "
        f"first sound after {figures['first_audio_seconds'] or 0:.1f} s"
    )


def _beginning(path: Path, seconds: float, bundle: Bundle) -> Tensor:
    """So many seconds of a file's beginning (N,) at the bundle's rate."""
    recording = audio.read(path, bundle.sample_rate)
    wanted = units.seconds_to_samples(seconds, bundle.sample_rate)
    if recording.wave.shape[-1] < wanted:
        raise SegueError(
            f"{path}: {recording.seconds:.2f} s long, but --prompt-seconds asks for {seconds:g}; "
            f"give --prompt-seconds {int(recording.seconds * 100) / 100:g} or less"
        )
    prompt = recording.wave[:wanted]
    audio.check(prompt.numpy(), bundle.sample_rate, f"{path}: the prompt, its first {seconds:g} s")
    notes_of(recording)
    return prompt
