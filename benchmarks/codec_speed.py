"""How fast a codec is beside published ones, and how near to what this machine's arithmetic allows.

    python benchmarks/codec_speed.py --seconds 10 --repeats 9 --json speed.json

wave (1, N) -> codes -> wave, the same seconds of noise for everyone, each at its own sample rate. Peers are built from
`transformers` (extra `pretrained`) at their published sizes with random weights: time does not depend on the weights.
Files are coded as `segue encode` does it, with a search and refinement, which streams and stages do without.
After a warm-up, every repeat runs every codec once, so that a busy moment hits all; ratios are taken within a repeat.
Weight normalisation is folded into the weights everywhere, and denormal numbers are flushed to zero, in the peers'
favour.

`--clock cpu` counts this process's own time instead of wall time.

The floor is the time the multiply-adds alone would take: those of linear layers, convolutions and attention, counted by
torch's FLOP counter (two operations each), and FFTs of n real points at 2.5 n log2 n, over the GFLOP/s of a float32
matrix product measured in the same run. Activations, norms and moving memory are not in it.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from command import begin, write_json
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from segue.artifact import check_writable, load_part
from segue.bundle import BUNDLED
from segue.codec import file
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError

Clock = Literal["wall", "cpu"]

PEERS = ("encodec", "dac", "mimi")
STREAM_SECONDS = 0.02
FILED = (12, 3)
"""Codebooks of the files that are written."""
PRODUCTS = {"as in the codec": (1000, 256, 768), "square": (1024, 1024, 1024)}
"""Matrix products (rows, inner, columns) of which the faster one sets the floor."""


@dataclass(frozen=True)
class Subject:
    """A codec at work.

    Attributes:
        name: as shown.
        sample_rate: in Hz.
        kbit_s: bitrate of its codes here.
        parameters: weights in number, codebooks left out.
        encode: the whole wave to codes.
        decode: these codes to a wave.
    """

    name: str
    sample_rate: int
    kbit_s: float
    parameters: int
    encode: Callable[[], Any]
    decode: Callable[[], Any]


def noise(seconds: float, rate: int) -> Tensor:
    """(1, N)."""
    return 0.1 * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(0))


def folded(model: nn.Module) -> nn.Module:
    """The model with weight normalisation folded into its weights, ready for use."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return model.eval()


def size(model: nn.Module) -> int:
    """Weights in number, codebooks left out."""
    return sum(weight.numel() for weight in model.parameters())


def ours(codec: SoundStream, seconds: float) -> Subject:
    """The codec with all its codebooks."""
    wave = noise(seconds, codec.sample_rate)
    codes = codec.encode(wave)
    kbit_s = codec.num_codebooks * math.log2(codec.codebook_size) * codec.frame_rate / 1000
    encode, decode = (lambda: codec.encode(wave)), (lambda: codec.decode(codes))
    return Subject("segue", codec.sample_rate, kbit_s, size(codec), encode, decode)


def streamed(codec: SoundStream, seconds: float) -> Subject | None:
    """The codec in frames of 20 ms, the state carried along; None where it can't."""
    if not hasattr(codec, "streaming"):
        return None
    whole = ours(codec, seconds)
    frames = max(1, round(STREAM_SECONDS * codec.frame_rate))
    pieces = noise(seconds, codec.sample_rate).split(frames * codec.hop_length, dim=-1)
    codes = whole.encode().split(frames, dim=-1)

    def encode() -> None:
        with codec.streaming():
            for piece in pieces:
                codec.encode(piece)

    def decode() -> None:
        with codec.streaming() as stream:
            for frame in codes:
                codec.decode(frame)
            stream.flush()

    return Subject("segue, 20 ms at a time", codec.sample_rate, whole.kbit_s, whole.parameters, encode, decode)


def filed(codec: SoundStream, seconds: float, count: int) -> Subject:
    """The codec as it writes files: codes searched for where they are few, and refined."""
    wave = noise(seconds, codec.sample_rate)[0]
    coded = file.encode(codec, wave, count)
    name = f"segue, file of {count} codebook{'s' if count > 1 else ''}"
    encode, decode = (lambda: file.encode(codec, wave, count)), (lambda: file.decode(codec, coded))
    return Subject(name, codec.sample_rate, coded.bit_rate / 1000, size(codec), encode, decode)


def peer(name: str, seconds: float) -> Subject:
    """A published codec at its published size, of random weights.

    Raises:
        SegueError: if it is unknown or transformers is missing.
    """
    if name not in PEERS:
        raise SegueError(f"peer {name}: there are {', '.join(PEERS)}")
    try:
        import transformers
    except ImportError as error:
        raise SegueError(f"the peers need transformers ({error}); pip install -e '.[pretrained]'") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "encodec":
            model = transformers.EncodecModel(transformers.EncodecConfig())
        elif name == "dac":
            config = transformers.DacConfig(
                encoder_hidden_size=64,
                downsampling_ratios=[2, 4, 5, 8],
                decoder_hidden_size=1536,
                n_codebooks=12,
                codebook_size=1024,
                codebook_dim=8,
                sampling_rate=16_000,
            )
            model = transformers.DacModel(config)
        else:
            model = transformers.MimiModel(transformers.MimiConfig())
        for path, buffer in model.named_buffers():
            if path.endswith((".embed", ".embed_sum")):
                buffer.normal_()  # they start as zeros
    weights, rate = size(model), model.config.sampling_rate
    folded(model)
    wave = noise(seconds, rate)[:, None]
    if name == "encodec":
        coded = model.encode(wave, bandwidth=6.0)
        encode = lambda: model.encode(wave, bandwidth=6.0)  # noqa: E731
        decode = lambda: model.decode(coded.audio_codes, coded.audio_scales)  # noqa: E731
        return Subject("EnCodec 24 kHz", rate, 6.0, weights, encode, decode)
    if name == "dac":
        codes = model.encode(wave).audio_codes
        encode, decode = (lambda: model.encode(wave)), (lambda: model.decode(audio_codes=codes))
        return Subject("DAC 16 kHz", rate, 6.0, weights, encode, decode)
    codes = model.encode(wave, num_quantizers=8).audio_codes
    encode, decode = (lambda: model.encode(wave, num_quantizers=8)), (lambda: model.decode(codes))
    return Subject("Mimi, 8 codebooks", rate, 1.1, weights, encode, decode)


def product(shape: tuple[int, int, int]) -> Callable[[], Any]:
    """About 2 GFLOP of matrix products of one shape."""
    rows, inner, columns = shape
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=rng), torch.randn(inner, columns, generator=rng)
    out, times = torch.empty(rows, columns), product_times(shape)

    def work() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return work


def product_times(shape: tuple[int, int, int]) -> int:
    """How often `product` multiplies."""
    return max(1, round(1e9 / math.prod(shape)))


def fft_flops(shape: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any) -> int:
    """Of real FFTs over the last dimension, there or back."""
    points = max(shape[-1], out_shape[-1])  # the real side is the longer one
    return round(math.prod(out_shape[:-1]) * 2.5 * points * math.log2(points))


def flops(work: Callable[[], Any]) -> dict[str, int]:
    """Operations of one call, two a multiply-add: `fft` by formula, `rest` counted."""
    mapping = {torch.ops.aten._fft_r2c: fft_flops, torch.ops.aten._fft_c2r: fft_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    found = counter.get_flop_counts().get("Global", {})
    fft = sum(found.get(op, 0) for op in mapping)
    return {"fft": fft, "rest": counter.get_total_flops() - fft}


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(works: dict[Any, Callable[[], Any]], repeats: int, clock: Clock) -> dict[Any, list[float]]:
    """Seconds of every work in turn, `repeats` times over, after one round that does not count."""
    now = time.perf_counter if clock == "wall" else time.process_time
    times: dict[Any, list[float]] = {key: [] for key in works}
    for repeat in range(repeats + 1):
        for key, work in works.items():
            start = now()
            work()
            if repeat:
                times[key].append(now() - start)
    return times


def shown(values: dict[str, float], unit: str = "") -> str:
    """Median and spread for a table."""
    digits = 1 if values["median"] >= 10 else 2
    return f"{values['median']:.{digits}f}{unit} ({values['low']:.{digits}f}-{values['high']:.{digits}f})"


def compare(subjects: list[Subject], seconds: float, repeats: int, clock: Clock) -> dict[str, Any]:
    """Times, ratios and floor; subjects[0] is ours."""
    works: dict[Any, Callable[[], Any]] = {("product", name): product(shape) for name, shape in PRODUCTS.items()}
    for subject in subjects:
        works |= {("encode", subject.name): subject.encode, ("decode", subject.name): subject.decode}
    times = measure(works, repeats, clock)
    rows = []
    for subject in subjects:
        row: dict[str, Any] = {
            "name": subject.name,
            "sample_rate": subject.sample_rate,
            "kbit_s": round(subject.kbit_s, 3),
            "parameters": subject.parameters,
        }
        for part in ("encode", "decode"):
            taken = times[part, subject.name]
            base = times[part, subjects[0].name]
            row[part] = {
                "times_real_time": spread([seconds / value for value in taken]),
                "ours_is_faster_by": spread([value / own for value, own in zip(taken, base, strict=True)]),
                "seconds": taken,
            }
        rows.append(row)
    products = {
        name: spread([2e-9 * math.prod(shape) * product_times(shape) / taken for taken in times["product", name]])
        for name, shape in PRODUCTS.items()
    }
    rate = max(values["median"] for values in products.values())
    floor: dict[str, Any] = {"product_gflop_s": products, "gflop_s": rate}
    for part, work in (("encode", subjects[0].encode), ("decode", subjects[0].decode)):
        counted = flops(work)
        least = sum(counted.values()) / rate / 1e9
        reached = least / statistics.median(times[part, subjects[0].name])
        floor[part] = {"flops": counted, "floor_seconds": least, "fraction_reached": reached}
    return {"rows": rows, "floor": floor}


def show(figures: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    settings = figures["settings"]
    run = f"{settings['seconds']:g} s of audio, {settings['repeats']} repeats, {settings['threads']} CPU thread(s)"
    title = f"{run}, {settings['clock']} time: median (low-high)"
    table = Table(title=title, box=box.MARKDOWN)
    columns = ("codec", "kHz", "kbit/s", "M weights", "encode, x real time", "decode, x real time")
    for column in (*columns, "encode: ours is faster by", "decode: ours is faster by"):
        table.add_column(column)
    for index, row in enumerate(figures["rows"]):
        speeds = [shown(row[part]["times_real_time"]) for part in ("encode", "decode")]
        ratios = [shown(row[part]["ours_is_faster_by"], "x") if index else "1" for part in ("encode", "decode")]
        facts = [row["name"], f"{row['sample_rate'] / 1000:g}", f"{row['kbit_s']:g}", f"{row['parameters'] / 1e6:.1f}"]
        table.add_row(*facts, *speeds, *ratios)
    console.print(table)
    floor = figures["floor"]
    table = Table(title=f"the floor at {floor['gflop_s']:.1f} GFLOP/s of float32 matrix product", box=box.MARKDOWN)
    for column in ("ours", "GFLOP", "of which FFT", "floor, s", "fraction of the floor reached"):
        table.add_column(column)
    for part in ("encode", "decode"):
        found, counted = floor[part], floor[part]["flops"]
        whole = sum(counted.values())
        cells = [f"{whole / 1e9:.2f}", f"{counted['fft'] / max(whole, 1):.1%}", f"{found['floor_seconds']:.3f}"]
        table.add_row(part, *cells, f"{found['fraction_reached']:.2f}")
    console.print(table)


def main(
    codec_path: Annotated[Path, typer.Option("--codec", help="A codec artifact.")] = BUNDLED / "codec",
    peers: Annotated[list[str] | None, typer.Option("--peer", help="encodec, dac or mimi; all by default.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of audio.")] = 10.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    clock: Annotated[Clock, typer.Option(help="cpu: this process's own time, for a machine that others use.")] = "wall",
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Time a codec and its peers side by side."""
    if clock == "cpu" and threads > 1:
        raise SegueError(f"clock cpu with {threads} threads: it adds up their times; take --threads 1 or --clock wall")
    if json_out:
        check_writable(json_out)
    codec = SoundStream.from_part(load_part(codec_path, "codec"))
    folded(codec)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    flushed = torch.set_flush_denormal(True)
    try:
        with torch.inference_mode():
            files = [filed(codec, seconds, count) for count in FILED if count <= codec.num_codebooks]
            maybe = [ours(codec, seconds), streamed(codec, seconds), *files]
            maybe += [peer(name, seconds) for name in peers or PEERS]
            measured = compare([subject for subject in maybe if subject], seconds, repeats, clock)
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
    versions = {name: importlib.metadata.version(name) for name in ("segue", "torch")}
    if "transformers" in sys.modules:
        versions["transformers"] = importlib.metadata.version("transformers")
    figures = {
        "codec": codec.fingerprint,
        "latency_seconds": getattr(codec, "latency_seconds", None),
        "settings": {"seconds": seconds, "repeats": repeats, "threads": threads, "clock": clock},
        "denormals_flushed": flushed,
        **measured,
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": versions,
    }
    console = Console(width=max(Console().width, 170), highlight=False)
    show(figures, console)
    if maybe[1] is None:
        console.print("Not measured: 20 ms at a time; this codec has no streaming().")
    if json_out:
        write_json(json_out, figures)


if __name__ == "__main__":
    begin(main)
