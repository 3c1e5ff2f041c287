"""Every engine that decodes gives the logits of the whole model, whatever the batch, the prompt's length or padding."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from segue.errors import SegueError
from segue.lm.cache import CachedDecoder
from segue.lm.decoder import Decoder, choose_engine, make_decoder
from segue.lm.native import build
from segue.lm.native.decoder import NativeDecoder
from segue.lm.quantise import quantise_rows
from segue.lm.transformer import Transformer, TransformerConfig

IDS = 70
CONFIGS = {
    "own heads": TransformerConfig(width=32, depth=2, heads=4, feedforward=48, embedding_width=16),
    "one shared head": TransformerConfig(width=64, depth=2, heads=4, feedforward=96, kv_heads=1, embedding_width=32),
    "paper": TransformerConfig(
        width=64, depth=2, heads=4, feedforward=64, positions="index", encoding="t5", activation="relu"
    ),
    "odd widths": TransformerConfig(
        width=36,
        depth=1,
        heads=6,
        feedforward=50,
        kv_heads=2,
        embedding_width=20,
        positions="index",
        encoding="t5",
        activation="swiglu",
    ),
}
CONFIGS["windows"] = replace(CONFIGS["one shared head"], depth=3, window_frames=3, global_every=3)
CONFIGS["windows alone"] = replace(CONFIGS["own heads"], window_frames=9, global_every=0)
EXACT = ("torch", "native", "static")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def a_model(config: TransformerConfig) -> Transformer:
    """Gains and biases away from where they start, so that one left out or folded in twice is seen."""
    model = Transformer(IDS, config, seeded())
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=seeded(5))
        if "relative" in name:
            parameter.data.normal_(generator=seeded(6))
    return model.eval()


def a_decoder(model: Transformer, batch: int, length: int, engine: str, weights: str = "float32") -> Decoder:
    if engine == "native" and build.library()[0] is None:
        pytest.skip(build.library()[1])
    return make_decoder(model, batch, length, engine=engine, weights=weights)


def some_tokens(batch: int, length: int, name: str = "") -> tuple[Tensor, Tensor]:
    """With positions of one stream, or where there are windows of two that describe the same time."""
    positions = torch.arange(length)[None].float()
    if "windows" in name:
        prefix = length // 3
        positions = torch.cat([positions[:, :prefix] * 2 - 2, positions[:, : length - prefix] - 1], dim=1)
    return torch.randint(0, IDS, (batch, length), generator=seeded(1)), positions


def stepped(
    decoder: Decoder, model: Transformer, tokens: Tensor, positions: Tensor, prompt: int, mask: Tensor | None = None
) -> Tensor:
    """Logits (B, L - prompt + 1, 30) from the prompt's last token on."""
    state = decoder.prefill(tokens[:, :prompt], positions, None if mask is None else mask[:, :prompt])
    found = [decoder.logits(state, 21, 30)]
    for place in range(prompt, tokens.shape[1]):
        state = decoder.step(tokens[:, place])
        found.append(decoder.logits(state, 21, 30))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch", [1, 7])
def test_cached_is_uncached(engine, name, batch):
    model = a_model(CONFIGS[name])
    tokens, positions = some_tokens(batch, 40, name)
    expected = model.logits(model(tokens, positions), 21, 30)
    decoder = a_decoder(model, batch, 40, engine)
    for prompt in (1, 15, 16, 17, 33):  # one decoder, used again
        found = stepped(decoder, model, tokens, positions, prompt)
        assert torch.allclose(found, expected[:, prompt - 1 :], atol=1e-4), prompt


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("name", ["own heads", "paper", "windows", "windows alone"])
def test_a_long_past_is_seen_whole(engine, name):
    """Beyond one chunk of the native engine's attention, and the last bucket of distances."""
    model = a_model(CONFIGS[name])
    tokens, positions = some_tokens(1, 537, name)
    expected = model.logits(model(tokens, positions), 21, 30)
    decoder = a_decoder(model, 1, 600, engine)
    for prompt in (250, 511):
        found = stepped(decoder, model, tokens[:, : prompt + 26], positions[:, : prompt + 26], prompt)
        assert torch.allclose(found, expected[:, prompt - 1 : prompt + 26], atol=1e-4)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("name", ["own heads", "paper", "windows", "windows alone"])
def test_padding_on_the_left_changes_nothing(engine, name):
    model = a_model(CONFIGS[name])
    tokens, positions = some_tokens(3, 30, name)
    mask = torch.arange(30) >= torch.tensor([[0], [9], [20]])
    decoder = a_decoder(model, 3, 30, engine)
    found = stepped(decoder, model, tokens, positions, 23, mask)
    for row, begin in enumerate((0, 9, 20)):
        alone = model.logits(model(tokens[row : row + 1, begin:], positions[:, begin:]), 21, 30)
        assert torch.allclose(found[row], alone[0, 22 - begin :], atol=1e-4), row


@pytest.fixture(params=[1, 2])
def threads(request) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("engine", "weights"), [("torch", "float32"), ("static", "float32"), ("native", "float32"), ("native", "int8")]
)
@pytest.mark.parametrize("name", ["one shared head", "windows"])
def test_batched_is_single(engine, weights, threads, name):
    """After the same prompt, read once; in the native engine to the bit."""
    model = a_model(CONFIGS[name])
    tokens, positions = some_tokens(6, 30, name)
    found = {}
    for rows in (range(6), *([row] for row in range(6))):
        decoder = a_decoder(model, len(rows), 30, engine, weights)
        decoder.prefill(tokens[:1, :5], positions)
        states = [decoder.step(tokens[rows, place]) for place in range(5, 30)]
        found[len(rows), rows[0]] = torch.stack([decoder.logits(state, 21, 30) for state in states], dim=1)
    for row in range(6):
        together, alone = found[6, 0][row], found[1, row][0]
        assert torch.equal(together, alone) if engine == "native" else torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("engine", "weights"), [("torch", "float32"), ("static", "float32"), ("native", "float32"), ("native", "int8")]
)
def test_a_prompt_that_all_share_is_read_once(engine, weights, monkeypatch):
    model = a_model(CONFIGS["paper"])
    tokens, positions = some_tokens(1, 20)
    tokens = torch.cat([tokens[:, :12].expand(4, -1), torch.randint(0, IDS, (4, 8), generator=seeded(2))], dim=1)
    decoder = a_decoder(model, 4, 20, engine, weights)
    rows = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda tokens, *rest: rows.append(tokens.shape[0]) or read(tokens, *rest))
    for mask in (None, torch.arange(12)[None] >= 3):
        states = [decoder.prefill(prompt, positions, mask) for prompt in (tokens[:, :12], tokens[:1, :12])]
        after = []
        for state in states:
            decoder.prefill(tokens[:, :12] if state is states[0] else tokens[:1, :12], positions, mask)
            for place in range(12, 20):
                state = decoder.step(tokens[:, place])
            after.append(decoder.logits(state, 0, IDS))
        assert torch.allclose(*states, atol=1e-5) and torch.allclose(*after, atol=1e-4 if weights == "float32" else 0.1)
    assert set(rows) == {4, 1}


@pytest.mark.parametrize(
    ("target", "needs", "lanes", "dot"),
    [
        ("x86-64", "sse2", 4, 1),
        ("x86-64-v3", "avx2", 8, 1),
        ("x86-64-v4", "avx512bw", 16, 1),
        ("alderlake", "avx_vnni", 8, 2),
    ],
)
def test_other_processors_decode_alike(target, needs, lanes, dot, tmp_path):
    """With vectors of any length, and without the instruction made for eight bits integers still come out the same."""
    found, reason = build.library()
    info = Path("/proc/cpuinfo")
    if found is None or not info.is_file() or needs not in info.read_text().split():
        pytest.skip(reason or f"no {needs}")
    other = build.build(tmp_path, target=target)
    assert (other.lanes, other.dot) == (lanes, dot)
    for name in CONFIGS:
        model = a_model(CONFIGS[name])
        tokens, positions = some_tokens(7, 40, name)
        expected = model.logits(model(tokens, positions), 21, 30)[:, 8:]
        exact, rounded, native = (
            stepped(NativeDecoder(each, model, 7, 40, eight_bits=bits), model, tokens, positions, 9)
            for each, bits in ((other, False), (other, True), (found, True))
        )
        assert torch.allclose(exact, expected, atol=1e-4), name
        near = 0.05 if "windows" in name else 0.02  # activations round to a neighbour, a window's in other company
        assert torch.allclose(rounded, native, atol=near), name
        for bits in (False, True):  # a row alone, to the bit
            states = []
            for rows in (range(7), [3]):
                decoder = NativeDecoder(other, model, len(rows), 40, eight_bits=bits)
                decoder.prefill(tokens[:1, :9], positions)
                states.append(torch.stack([decoder.step(tokens[rows, place]) for place in range(9, 40)]))
            assert torch.equal(states[0][:, 3:4], states[1]), name


def test_rows_in_eight_bits_are_within_half_a_step():
    weight = torch.randn(5, 40, generator=seeded())
    weight[2] = 0
    numbers, scales = quantise_rows(weight)
    assert numbers.dtype == torch.int8 and numbers.abs().max() == 127 and (numbers[2] == 0).all()
    assert ((numbers * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all()
    coarse_numbers, coarse_scales = quantise_rows(weight, torch.bfloat16)
    step = coarse_scales.float()[:, None]
    assert ((coarse_numbers * step - weight).abs() <= 1.01 * step).all()


def test_a_compiler_that_is_missing_or_fails_is_a_reason(monkeypatch, tmp_path):
    model = a_model(CONFIGS["own heads"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SEGUE_ENGINE", raising=False)
    for compiler, complaint in (("no-such-compiler", "no C\\+\\+ compiler"), ("false", "can't compile")):
        monkeypatch.setenv("CXX", compiler)
        choice = choose_engine()
        assert choice.engine == "torch" and choice.weights == "float32"
        assert isinstance(make_decoder(model, 1, 8), CachedDecoder)
        with pytest.raises(SegueError, match=complaint):
            make_decoder(model, 1, 8, engine="native")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cache_folder_that_can_not_be_written_is_a_reason(monkeypatch, tmp_path):
    if build.library()[0] is None:
        pytest.skip(build.library()[1])
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose_engine().engine == "torch" and "cache folder" in choose_engine().reason


def test_the_library_is_compiled_once(tmp_path):
    if build.library()[0] is None:
        pytest.skip(build.library()[1])
    build.build(tmp_path)
    (file,) = tmp_path.iterdir()
    made = file.stat().st_mtime_ns
    build.build(tmp_path)
    assert file.stat().st_mtime_ns == made


def test_engines_and_weights_have_names(monkeypatch):
    with pytest.raises(SegueError, match=r"^engine fast"):
        choose_engine(engine="fast")
    with monkeypatch.context() as patch, pytest.raises(SegueError, match=r"^SEGUE_ENGINE fast"):
        patch.setenv("SEGUE_ENGINE", "fast")
        choose_engine()
    with pytest.raises(SegueError, match="int4"):
        choose_engine(weights="int4")
    for engine, weights, device in (
        ("auto", "int8", "cuda"),
        ("native", "float32", "cuda"),
        ("torch", "bfloat16", "cpu"),
    ):
        with pytest.raises(SegueError, match=f"no {weights} weights on {device}"):
            choose_engine(device, engine, weights)
    monkeypatch.setenv("SEGUE_WEIGHTS", "auto")
    assert (choose_engine("cuda").engine, choose_engine("cuda").weights) == ("static", "bfloat16")
    monkeypatch.setenv("SEGUE_ENGINE", "torch")
    monkeypatch.setenv("SEGUE_WEIGHTS", "int8")
    assert (choose_engine().engine, choose_engine().weights) == ("torch", "int8")
    with pytest.raises(SegueError, match="multiple of 16"):
        make_decoder(a_model(CONFIGS["odd widths"]), 1, 8)


@pytest.mark.parametrize("kind", ["bfloat16"])
def test_a_model_of_another_precision_is_decoded_by_torch(kind):
    model = a_model(CONFIGS["own heads"]).to(getattr(torch, kind))
    assert isinstance(make_decoder(model, 1, 8), CachedDecoder)


def test_info_names_the_engine(cli, bundle_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGUE_ENGINE", "torch")
    assert "decoding on a CPU: engine torch, weights float32 (as asked for)" in cli("info", bundle_folder).out
    monkeypatch.setenv("SEGUE_ENGINE", "auto")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler: no-such-compiler found" in " ".join(cli("info", bundle_folder).out.split())


@pytest.mark.parametrize(("weights", "error"), [("float32", 1e-4), ("bfloat16", 0.15)])
def test_fixed_shapes_are_captured_whole(weights, error, monkeypatch):
    """Without what torch.compile would then make of it, which takes minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    model = a_model(CONFIGS["one shared head"])
    tokens, positions = some_tokens(2, 20)
    expected = model.logits(model(tokens, positions), 21, 30)[:, 13:]
    found = stepped(a_decoder(model, 2, 20, "compiled", weights), model, tokens, positions, 14)
    assert (found - expected).abs().max() < error
