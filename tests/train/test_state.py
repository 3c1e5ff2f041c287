"""Checkpoints: any nested state comes back, whole or not at all, and the newest that is whole."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SegueError
from segue.train import state

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.integers(0, 3).map(lambda n: torch.arange(n, dtype=torch.float32)),
)
KEYS = st.one_of(st.integers(0, 9), st.text(alphabet="ab/_.", min_size=1, max_size=4))
STATES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8
)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=20, deadline=None)
@given(STATES)
def test_any_nested_state_comes_back(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("run")
    state.save(folder, 3, {"it": value})
    step, back = state.load_newest(folder)
    assert step == 3 and same(back["it"], value), (value, back)
    shutil.rmtree(folder)


def test_an_optimiser_comes_back(tmp_path):
    def made():
        weight = torch.nn.Parameter(torch.ones(3))
        return weight, torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.9))

    def step(weight, optimiser) -> None:
        optimiser.zero_grad()
        (weight**3).sum().backward()
        optimiser.step()

    one, optimiser = made()
    for _ in range(3):
        step(one, optimiser)
    state.save(tmp_path, 3, {"weight": one, "optimiser": optimiser.state_dict()})
    kept = state.load_newest(tmp_path)[1]
    other, resumed = made()
    other.data.copy_(kept["weight"])
    resumed.load_state_dict(kept["optimiser"])
    step(one, optimiser)
    step(other, resumed)
    assert torch.equal(one, other)


def test_shared_and_strided_tensors_are_kept(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    state.save(tmp_path, 1, {"a": base, "again": base, "turned": base.T, "row": base[1]})
    back = state.load_newest(tmp_path)[1]
    assert torch.equal(back["a"], base) and torch.equal(back["again"], base)
    assert torch.equal(back["turned"], base.T) and torch.equal(back["row"], base[1])


def test_only_the_last_few_are_kept(tmp_path):
    for step in (5, 10, 100, 2000):
        state.save(tmp_path, step, {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000100", "step-00002000"]
    assert state.load_newest(tmp_path) == (2000, {"step": 2000})


def test_nothing_there_is_no_checkpoint(tmp_path):
    assert state.load_newest(tmp_path) is None
    assert state.load_newest(tmp_path / "nowhere") is None
    (tmp_path / "step-x").mkdir()
    (tmp_path / ".step-00000009.abc.part").mkdir()
    assert state.load_newest(tmp_path) is None


def spoil(folder, how: str) -> None:
    weights, meta = folder / "state.safetensors", folder / "state.json"
    if how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-3])
    elif how == "flipped bit":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif how == "no weights":
        weights.unlink()
    elif how == "cut description":
        meta.write_text(meta.read_text()[:-9])
    elif how == "no description":
        meta.unlink()
    elif how == "lacking description":
        meta.write_text('{"format_version": 1}')
    elif how == "newer format":
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "format_version": 9}))


SPOILT = ["cut weights", "flipped bit", "no weights", "cut description", "no description", "lacking description"]


@pytest.mark.parametrize("how", [*SPOILT, "newer format"])
def test_a_damaged_checkpoint_is_passed_over_and_never_taken_for_none(tmp_path, how):
    for step in (1, 2):
        state.save(tmp_path, step, {"a": torch.full((4,), float(step))})
    spoil(tmp_path / "step-00000002", how)
    with pytest.warns(UserWarning, match="step-00000002"):
        step, back = state.load_newest(tmp_path)
    assert step == 1 and torch.equal(back["a"], torch.ones(4))
    spoil(tmp_path / "step-00000001", how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SegueError, match=r"no checkpoint can be read.*remove the folder"):
            state.load_newest(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, small_disk):
    state.save(tmp_path, 1, {"a": torch.ones(3)})
    with small_disk(), pytest.raises(SegueError, match="can't be written"):
        state.save(tmp_path, 2, {"a": torch.ones(9000)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path):
    left = tmp_path / ".step-00000002.abc.part"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    state.save(tmp_path, 2, {"a": torch.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
