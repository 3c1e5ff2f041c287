"""How fast the language models decode: beside published ones, beside this machine's memory, and from a file to a file.

    python benchmarks/decode.py --json benchmarks/results/decode.json
    python benchmarks/decode.py --audiolm FOLDER        # a folder with audiolm-pytorch and what it imports
    python benchmarks/decode.py --device cuda           # adds paper-size stages and 30 s at once on the GPU

Tokens a second: a prompt of 25 tokens, then 100, 400, ... tokens of a coarse stage (classes of 1024), each drawn at
temperature 1: read, logits and draw included, the prompt too. All models are of random weights, which time doesn't
depend on, and of one size: width 384, depth 8 and about 23 M parameters, ours once with as many key/value heads as
query heads, as Llama here, and once with a single one, as audiolm-pytorch; the native engine with full attention, and
with windows as `small` has them (a row's `config`). Every repeat runs every model once, so that a busy moment hits all;
ratios are taken within a repeat.

The floor is the time that reading the weights of a step once would take at the speed at which a buffer of 256 MB,
larger than any cache, is summed up by as many threads in the same run. Weights that fit into the cache can beat it.

Flatness: the time of a token after 100 and after 4000 tokens of context, which is a coarse stage's: semantic tokens of
the whole stretch, then its codes. From a file to a file: `segue continue` in a
fresh process, model load included, and its peak memory (ru_maxrss) with --stream.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from command import begin, write_json
from decode_peers import CODES, IDS, PROMPT, SEMANTIC, Size, Subject, audiolm, llama, parameters, times
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segue.artifact import check_writable
from segue.config import to_dict
from segue.errors import SegueError
from segue.generate.parallel import Parallel
from segue.generate.sampling import Sampling, choose
from segue.lm.decoder import Decoder, choose_engine, make_decoder
from segue.lm.parallel import ParallelModel
from segue.lm.stage import acoustic_stage
from segue.lm.transformer import Transformer, TransformerConfig
from segue.recipes import paper, small

ROOT = Path(__file__).parents[1]
STEPS, BLOCKS = 16, 4
"""Tokens over which the time of one token is taken, and how often in a row."""
SIZE = "384,8,6,1792,2048"
ENGINES = ("native int8", "native float32", "torch int8", "torch float32")


def draw_tokens(decoder: Decoder, state: Tensor, draws: Sequence[Tensor]) -> None:
    """One token after the other, from the state on."""
    for draw in draws:
        classes = choose(decoder.logits(state, SEMANTIC, CODES), Sampling(), draw)
        state = decoder.step(classes + SEMANTIC)


def run(decoder: Decoder, prompt: Tensor, count: int) -> None:
    """Read a prompt (1, L) and make `count` tokens."""
    state = decoder.prefill(prompt, times(prompt.shape[1] + count))
    draw_tokens(decoder, state, torch.rand(count, 1, 1).unbind())


def ours(size: Size, kv_heads: int, engine: str, weights: str, longest: int, windows: bool = False) -> Subject:
    """One of our engines."""
    feedforward = size.feedforward if kv_heads == size.heads else size.feedforward_shared
    config = TransformerConfig(size.width, size.depth, size.heads, feedforward, kv_heads, embedding_width=size.width)
    if windows:
        like = small().coarse_stage.model
        config = replace(config, window_frames=like.window_frames, global_every=like.global_every)
    model = Transformer(IDS, config, torch.Generator().manual_seed(0)).eval()
    decoder = make_decoder(model, 1, PROMPT + longest, engine=engine, weights=weights)
    prompt = torch.randint(0, SEMANTIC, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    name = f"segue {engine} {weights}" + " windows" * windows
    generate = lambda count: run(decoder, prompt, count)  # noqa: E731
    return Subject(name, f"{size.heads}/{kv_heads}", parameters(model), generate, None, model, (engine, weights))


def timed(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds that a call takes."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def read_bandwidth(repeats: int, device: str = "cpu", megabytes: int = 256) -> float:
    """Bytes a second at which a large buffer is read, at best."""
    buffer = torch.ones(megabytes * 2**18, device=device)
    buffer.sum()
    return max(megabytes * 2**20 / timed(buffer.sum, device) for _ in range(3 * repeats))


def step_bytes(model: Transformer, weights: str) -> int:
    """Of weights that a token reads: all matrices, the table's rows of one codebook, and in eight bits their scales."""
    matrices = [weight for weight in model.blocks.parameters() if weight.ndim == 2] + [model.embed_down.weight]
    numbers = sum(weight.numel() for weight in matrices) + CODES * model.table.shape[1]
    rows = sum(weight.shape[0] for weight in matrices) + CODES
    return numbers + 4 * rows if weights == "int8" else numbers * (2 if weights == "bfloat16" else 4)


def speeds(subjects: list[Subject], lengths: list[int], repeats: int) -> dict[tuple[str, int], list[float]]:
    """Tokens a second of every subject at every length that it is asked for, all in turn, `repeats` times over."""
    found: dict[tuple[str, int], list[float]] = {}
    for repeat in range(repeats + 1):
        for count in lengths if repeat else lengths[:1]:
            for subject in subjects:
                if subject.most is not None and count > subject.most:
                    continue
                seconds = timed(lambda subject=subject, count=count: subject.generate(count))
                if repeat:
                    found.setdefault((subject.label, count), []).append(count / seconds)
    return found


def token_times(subject: Subject, contexts: list[int], repeats: int, device: str = "cpu") -> dict[int, float]:
    """Seconds a token after so much context, the best of repeats."""
    model = subject.model
    assert model is not None and subject.engine is not None
    engine, weights = subject.engine
    best = dict.fromkeys(contexts, float("inf"))
    decoder = make_decoder(model, 1, max(contexts) + BLOCKS * STEPS, engine=engine, weights=weights)
    at = model.table.device
    for context in contexts:
        prompt = torch.randint(0, IDS, (1, context), generator=torch.Generator().manual_seed(0)).to(at)
        places = times(context + BLOCKS * STEPS).to(at)
        draws = torch.rand(BLOCKS * STEPS, 1, 1, device=at).unbind()
        for _ in range(repeats):
            state = decoder.prefill(prompt, places)
            for first in range(0, len(draws), STEPS):
                some = draws[first : first + STEPS]
                seconds = timed(functools.partial(draw_tokens, decoder, state, some), device)
                best[context] = min(best[context], seconds / STEPS)
    return best


LAUNCH = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""
"""Starts a process from a small one: what is started counts the memory of what starts it as its own."""


def fresh_process(arguments: list[str], threads: int) -> tuple[float, float]:
    """Wall seconds and peak megabytes of a `segue` command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", LAUNCH, sys.executable, "-m", "segue.cli", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SegueError(f"segue {' '.join(arguments)}: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - start, int(done.stdout) / 1024


def from_file_to_file(bundle: str, prompt: Path, threads: int, repeats: int, lasting: list[float]) -> dict[str, Any]:
    """Wall time of 3 s of prompt and 7 s more, and peak memory by seconds of output."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "continue",
            str(prompt),
            "--bundle",
            bundle,
            "--out",
            f"{folder}/made.wav",
            "--threads",
            str(threads),
            "--tries",
            "1",
        ]
        walls = [fresh_process([*command, "--seconds", "7"], threads)[0] for _ in range(repeats + 1)][1:]
        memory = {
            f"{seconds:g}": fresh_process([*command, "--stream", "--seconds", f"{seconds:g}"], threads)[1]
            for seconds in lasting
        }
    return {"wall_seconds": walls, "times_real_time": [7 / wall for wall in walls], "peak_megabytes": memory}


def on_gpu(repeats: int) -> dict[str, Any]:
    """Paper-size stages at batch 1 against the GPU's memory, and 30 s of codes filled in parallel."""
    recipe = paper()
    model = Transformer(IDS, recipe.coarse_stage.model).cuda().eval()
    bandwidth = read_bandwidth(repeats, "cuda", 4096)
    rows = {}
    for engine in ("static", "compiled"):
        subject = Subject(
            f"paper {engine}", "16/16", parameters(model), lambda n: None, None, model, (engine, "bfloat16")
        )
        best = token_times(subject, [500, 2000], repeats, "cuda")
        floor = step_bytes(model, "bfloat16") / bandwidth
        rows[engine] = {"seconds_a_token": best, "share_of_floor": {n: floor / taken for n, taken in best.items()}}
    stage = acoustic_stage(1024, 12, CODES, 25.0, 50.0, 31.0)
    filler = Parallel(ParallelModel(stage, recipe.parallel.model).cuda().eval(), [0], new_share=0.98)
    semantic, none = torch.zeros(1, 750, dtype=torch.long), torch.zeros(1, 12, 0, dtype=torch.long)
    fill = [timed(lambda: filler.extend(semantic, none, 1500), "cuda") for _ in range(repeats + 1)][1:]
    return {"bytes_a_second": bandwidth, "stages": rows, "parallel_30_seconds": fill}


def table_of(subjects: list[Subject], lengths: list[int], repeats: int, bandwidth: float) -> list[dict[str, Any]]:
    """A row a subject: tokens a second, times as fast as each peer, and ours beside the floor and at every context."""
    found = speeds(subjects, lengths, repeats)
    rows = []
    for subject in subjects:
        fast = {count: values for (label, count), values in found.items() if label == subject.label}
        row: dict[str, Any] = {
            "name": subject.label,
            "parameters": subject.parameters,
            "tokens_a_second": {count: statistics.median(values) for count, values in fast.items()},
            "tokens_a_second_each": fast,
        }
        if subject.model is not None and subject.engine is not None:
            row["ratios"] = {
                f"{peer.name}, {count}": statistics.median(
                    a / b for a, b in zip(values, found[peer.label, count], strict=True)
                )
                for peer in subjects
                if peer.model is None
                for count, values in fast.items()
                if (peer.label, count) in found
            }
            read = step_bytes(subject.model, subject.engine[1])
            at = token_times(subject, lengths, repeats)
            row |= {
                "config": to_dict(subject.model.config),
                "seconds_a_token_at": at,
                "bytes_a_token": read,
                "share_of_floor": read / bandwidth / at[lengths[0]],
                "flatness": at[lengths[-1]] / at[lengths[0]],
            }
        rows.append(row)
    return rows


def targets(figures: dict[str, Any], heads: int, lengths: list[int]) -> list[dict[str, Any]]:
    """What is aimed at, what was measured (None where it wasn't), and whether that is enough."""
    rows = {row["name"]: row for row in figures["rows"]}
    own, shared = (rows.get(f"segue native int8, {heads}/{kv_heads} heads", {}) for kv_heads in (heads, 1))
    exact = rows.get(f"segue native float32, {heads}/1 heads", {})
    narrow = rows.get(f"segue native int8 windows, {heads}/1 heads", {})
    narrow_exact = rows.get(f"segue native float32 windows, {heads}/1 heads", {})
    walls = figures["continue"].get("times_real_time")
    span = f"{lengths[-1]} over {lengths[0]} tokens"
    aims = [
        (
            "x audiolm-pytorch at 400 tokens; keys and values of each head",
            8.0,
            own.get("ratios", {}).get("audiolm-pytorch, 400"),
        ),
        (
            "x audiolm-pytorch at 400 tokens; shared, as there",
            8.0,
            shared.get("ratios", {}).get("audiolm-pytorch, 400"),
        ),
        ("x transformers' Llama at 400 tokens; of each head, as there", 5.0, own.get("ratios", {}).get("Llama, 400")),
        ("share of the memory's floor, int8", 0.6, shared.get("share_of_floor")),
        ("share of the memory's floor, float32", 0.6, exact.get("share_of_floor")),
        ("x real time, segue continue, 3 s and 7 s more", 1.0, statistics.median(walls) if walls else None),
        (f"time of a token at {span}, at most; windows, int8", 1.2, narrow.get("flatness")),
        (f"time of a token at {span}, at most; windows, float32", 1.2, narrow_exact.get("flatness")),
        (f"time of a token at {span}, at most; full attention, int8", 1.2, shared.get("flatness")),
    ]
    return [
        {
            "target": text,
            "aim": aim,
            "measured": value,
            "met": value and (value <= aim if "at most" in text else value >= aim),
        }
        for text, aim, value in aims
    ]


def show(figures: dict[str, Any], lengths: list[int], console: Console) -> None:
    """The figures as tables."""
    settings = figures["settings"]
    title = f"{settings['threads']} CPU thread(s), {settings['repeats']} repeats, medians; read bandwidth "
    table = Table(title=title + f"{figures['bytes_a_second'] / 1e9:.0f} GB/s", box=box.MARKDOWN)
    for column in (
        "model",
        "M weights",
        *(f"tokens/s, {n}" for n in lengths),
        *(f"ms a token at {n}" for n in lengths),
        "floor",
    ):
        table.add_column(column)
    for row in figures["rows"]:
        fast, at = row["tokens_a_second"], row.get("seconds_a_token_at", {})
        cells = [f"{fast[n]:.0f}" if n in fast else "not asked" for n in lengths]
        cells += [f"{1e3 * at[n]:.2f}" if n in at else "" for n in lengths]
        table.add_row(
            row["name"], f"{row['parameters'] / 1e6:.1f}", *cells, f"{row.get('share_of_floor', 0):.0%}" if at else ""
        )
    console.print(table)
    table = Table(title="targets", box=box.MARKDOWN)
    for column in ("target", "aim", "measured", "met"):
        table.add_column(column)
    for row in figures["targets"]:
        value = row["measured"]
        table.add_row(
            row["target"],
            f"{row['aim']:g}",
            "not measured" if value is None else f"{value:.2f}",
            {True: "yes", False: "no"}.get(row["met"], ""),
        )
    console.print(table)
    for name, why in figures["not_measured"].items():
        console.print(f"Not measured: {name}: {why}.")
    for key in ("continue", "gpu"):
        console.print(f"{key}: {json.dumps(figures[key])}", soft_wrap=True)


def main(
    lengths: Annotated[list[int] | None, typer.Option("--tokens", help="To make, and of context.")] = None,
    engines: Annotated[list[str] | None, typer.Option("--engine", help="Ours, such as: native int8.")] = None,
    size: Annotated[str, typer.Option(help="Width, depth, heads, and both feed-forward widths.")] = SIZE,
    audiolm_folder: Annotated[Path | None, typer.Option("--audiolm", help="Folder with audiolm-pytorch.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    bundle: Annotated[str, typer.Option(help="For segue continue; none leaves it out.")] = "speech",
    prompt: Annotated[Path, typer.Option(help="For segue continue.")] = ROOT / "examples" / "speech.wav",
    lasting: Annotated[list[float] | None, typer.Option("--memory-seconds", help="Of output, for its memory.")] = None,
    device: Annotated[str, typer.Option(help="cuda adds what a GPU does.")] = "cpu",
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Time decoding in every way that there is a target for."""
    if json_out:
        check_writable(json_out)
    sizes, lengths = Size(*map(int, size.split(","))), lengths or [100, 400, 1000, 4000]
    missing: dict[str, str] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            subjects = []
            for engine in engines or ENGINES:
                for kv_heads in (sizes.heads, 1):
                    for windows in (False, True) if engine.startswith("native") else (False,):
                        subjects.append(ours(sizes, kv_heads, *engine.split(), max(lengths), windows))
            for name, make in (
                ("Llama", lambda: llama(sizes)),
                ("audiolm-pytorch", lambda: audiolm(sizes, audiolm_folder)),
            ):
                try:
                    subjects.append(make())
                except SegueError as error:
                    missing[name] = str(error)
            bandwidth = read_bandwidth(repeats)
            rows = table_of(subjects, lengths, repeats, bandwidth)
            gpu = on_gpu(repeats) if device != "cpu" else {}
    finally:
        torch.set_num_threads(before)
    if not gpu:
        missing["a GPU"] = "give --device cuda where there is one"
    choice = choose_engine()
    figures: dict[str, Any] = {
        "settings": {"threads": threads, "repeats": repeats, "size": vars(sizes), "engine": vars(choice)},
        "bytes_a_second": bandwidth,
        "rows": rows,
        "continue": {}
        if bundle == "none"
        else from_file_to_file(bundle, prompt, threads, repeats, lasting or [10, 60, 600]),
        "gpu": gpu,
        "not_measured": missing,
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: importlib.metadata.version(name) for name in ("segue", "torch")},
    }
    figures["targets"] = targets(figures, sizes.heads, lengths)
    show(figures, lengths, Console(width=max(Console().width, 200), highlight=False))
    if json_out:
        write_json(json_out, figures)


if __name__ == "__main__":
    begin(main)
