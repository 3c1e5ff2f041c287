"""Bundles: parts that belong together, or a line that says why not; and continuations that a seed decides."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import segue
from segue.artifact import load_part, save_part
from segue.bundle import ROLES, bundled_names, load, locate, save_bundle
from segue.errors import SegueError
from segue.generate.manner import Manner
from segue.generate.sampling import Sampling
from segue.lm.parallel import ParallelModel
from segue.lm.stage import acoustic_stage

PROMPT = tiny.sound(1.0, 3)


@pytest.fixture
def copied(bundle_folder, tmp_path):
    """A bundle to spoil."""
    return shutil.copytree(bundle_folder, tmp_path / "copied")


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory):
    """Another bundle, of other random weights."""
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "other", seed=1)


def edit(folder, change) -> None:
    description = json.loads((folder / "bundle.json").read_text())
    change(description)
    (folder / "bundle.json").write_text(json.dumps(description))


def test_a_bundle_is_loaded_by_its_folder(bundle, bundle_folder):
    assert bundle.name == "tiny" and bundle.folder == bundle_folder and bundle.sample_rate == 16_000
    assert set(bundle.fingerprints) == set(bundle.cards) == set(ROLES)
    assert bundle.fingerprints["codec"] == bundle.codec.fingerprint == load_part(bundle_folder / "codec").fingerprint
    assert bundle.fingerprints["semantic"] == bundle.semantic.fingerprint
    assert len(bundle.fingerprint) == 16
    assert load(str(bundle_folder)).fingerprint == bundle.fingerprint
    assert not bundle.codec.training and not bundle.stages.fine.training
    assert segue.load is load


def test_a_bundle_may_be_moved(copied, tmp_path, bundle):
    moved = copied.rename(tmp_path / "elsewhere")
    assert load(moved).fingerprint == bundle.fingerprint


def test_what_is_no_bundle_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", "speach"):
        with pytest.raises(SegueError, match=r"neither a folder with bundle\.json nor one of"):
            locate(place)


def test_a_stage_goes_with_any_codec_that_it_has_no_tokens_of(copied):
    requires = {role: load_part(copied / role).requires for role in ROLES[2:]}
    assert {role: set(names) for role, names in requires.items()} == {
        "semantic_stage": {"semantic"},
        "coarse_stage": {"semantic", "codec"},
        "fine_stage": {"semantic", "codec"},
    }
    codec = load_part(copied / "codec")
    other = {name: tensor + 1 if name == "decoder.embed.bias" else tensor for name, tensor in codec.tensors.items()}
    save_part(replace(codec, tensors=other), copied / "codec")
    found = load_part(copied / "codec").fingerprint
    assert found != codec.fingerprint
    for role in ("coarse_stage", "fine_stage"):
        part = load_part(copied / role)
        save_part(replace(part, requires=part.requires | {"codec": found}), copied / role)
    save_bundle(copied, "tiny", {role: copied / role for role in ROLES})
    assert load(copied).fingerprints["codec"] == found


@pytest.mark.parametrize("role", ["semantic_stage", "coarse_stage", "fine_stage", "codec", "semantic"])
def test_a_part_of_another_bundle_is_refused(copied, other_folder, role):
    shutil.rmtree(copied / role)
    shutil.copytree(other_folder / role, copied / role)
    with pytest.raises(SegueError, match=f"{role} has fingerprint .* put that part back"):
        load(copied)
    stated = load_part(copied / role).fingerprint
    edit(copied, lambda d: d["parts"][role].update(fingerprint=stated))
    with pytest.raises(SegueError, match=r"was trained on .* parts of different bundles don't mix"):
        load(copied)
    with pytest.raises(SegueError, match="don't mix"):
        save_bundle(copied, "mixed", {name: copied / name for name in ROLES})


def test_stages_in_each_others_place_are_refused(copied):
    def exchange(description) -> None:
        parts = description["parts"]
        parts["coarse_stage"], parts["fine_stage"] = parts["fine_stage"], parts["coarse_stage"]

    edit(copied, exchange)
    with pytest.raises(SegueError, match="stands in the"):
        load(copied)


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_part_is_named(copied, role):
    shutil.rmtree(copied / role)
    with pytest.raises(SegueError, match=f"{role}/part.json: not found"):
        load(copied)
    edit(copied, lambda d: d["parts"].pop(role))
    with pytest.raises(SegueError, match=f"the part {role} is missing"):
        load(copied)


@pytest.fixture
def with_parallel(tmp_path):
    """A bundle with the optional part, to spoil."""
    return tiny.make_bundle(tmp_path / "with", parallel=True)


def test_a_parallel_decoder_may_come_along(with_parallel, bundle, cli):
    loaded = load(with_parallel)
    assert bundle.parallel is None and loaded.parallel is not None and not loaded.parallel.training
    assert set(loaded.fingerprints) == {*ROLES, "parallel"} and loaded.fingerprint != bundle.fingerprint
    assert {role: loaded.fingerprints[role] for role in ROLES} == bundle.fingerprints
    told = cli("info", with_parallel)
    assert told.code == 0 and f"parallel       | {loaded.fingerprints['parallel']}" in told.out.replace("│", "|")
    edit(with_parallel, lambda d: d["parts"].pop("parallel"))
    assert load(with_parallel).fingerprint == bundle.fingerprint


def test_a_bundle_says_which_decoder_it_prefers(with_parallel, copied):
    folders = {role: with_parallel / role for role in ROLES}
    save_bundle(with_parallel, "tiny", {**folders, "parallel": with_parallel / "parallel"}, Manner(decoder="parallel"))
    assert load(with_parallel).manner.decoder == "parallel"
    save_bundle(with_parallel, "tiny", {**folders, "parallel": with_parallel / "parallel"})
    assert load(with_parallel).manner.decoder == load(copied).manner.decoder == "ar"
    edit(copied, lambda d: d.pop("decoder"))
    assert load(copied).manner.decoder == "ar"  # as bundles made before there was a choice
    with pytest.raises(SegueError, match="no parallel decoder is among the parts"):
        save_bundle(with_parallel, "tiny", folders, Manner(decoder="parallel"))


def test_a_parallel_decoder_that_does_not_belong_is_refused(with_parallel, other_folder, tmp_path):
    other = tiny.make_bundle(tmp_path / "other", seed=1, parallel=True)
    shutil.rmtree(with_parallel / "parallel")
    with pytest.raises(SegueError, match=r"parallel/part\.json: not found"):
        load(with_parallel)
    shutil.copytree(other / "parallel", with_parallel / "parallel")
    with pytest.raises(SegueError, match=r"parallel has fingerprint .* put that part back"):
        load(with_parallel)
    edit(with_parallel, lambda d: d["parts"]["parallel"].update(fingerprint=load_part(other / "parallel").fingerprint))
    with pytest.raises(SegueError, match=r"parallel was trained on .* parts of different bundles don't mix"):
        load(with_parallel)
    stage = load_part(with_parallel / "fine_stage").fingerprint
    edit(with_parallel, lambda d: d["parts"].update(parallel={"folder": "fine_stage", "fingerprint": stage}))
    with pytest.raises(SegueError, match="a parallel was asked for"):
        load(with_parallel)


def test_a_parallel_decoder_makes_the_codes_that_the_stages_make(with_parallel):
    part = load_part(with_parallel / "parallel")
    few = ParallelModel(acoustic_stage(tiny.VOCAB, 3, tiny.CODES, crop_seconds=1.0), tiny.PARALLEL, tiny.rng())
    save_part(few.to_part(part.requires, {}), with_parallel / "parallel")
    save_bundle(with_parallel, "few", {role: with_parallel / role for role in (*ROLES, "parallel")})
    with pytest.raises(SegueError, match="not what the stages beside it do"):
        load(with_parallel)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format_version=2),
        lambda d: d.pop("parts"),
        lambda d: d.update(parts=[]),
        lambda d: d["parts"].update(codec="codec"),
        lambda d: d["parts"]["codec"].pop("fingerprint"),
        lambda d: d["parts"]["codec"].update(folder=3),
        lambda d: d["parts"]["codec"].update(folder="semantic"),
    ],
)
def test_a_damaged_description_is_refused(copied, change):
    edit(copied, change)
    with pytest.raises(SegueError):
        load(copied)


def test_a_corrupt_part_is_refused(copied):
    weights = copied / "coarse_stage" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(SegueError, match=r"coarse_stage.*damaged"):
        load(copied)


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.237])
def test_a_continuation_is_prompt_and_the_seconds_asked_for(bundle, seconds):
    made = bundle.continue_audio(PROMPT, 16_000, seconds, seed=4)
    assert made.wave.shape == (1, 16_000 + round(16_000 * seconds)) and made.samples == (made.wave.shape[1],)
    assert made.wave.dtype == torch.float32 and torch.isfinite(made.wave).all()
    assert made.sample_rate == 16_000 and made.prompt_seconds == 1.0 and made.seeds == (4,)
    assert np.array_equal(made.wave[0, :15_680].numpy(), PROMPT[:15_680])
    frames = 50 + -(-round(16_000 * seconds) // 640) * 2
    assert made.tokens.codes.shape == (1, 12, frames) and made.tokens.semantic.shape == (1, frames // 2)
    assert made.tokens.coarse.shape[1] == 4 and made.tokens.fine.shape[1] == 8


def test_a_seed_decides(bundle):
    first = bundle.continue_audio(PROMPT, 16_000, 0.8, seed=1)
    assert torch.equal(first.wave, bundle.continue_audio(PROMPT, 16_000, 0.8, seed=1).wave)
    torch.manual_seed(99)
    assert torch.equal(first.wave, bundle.continue_audio(PROMPT, 16_000, 0.8, seed=1).wave)
    other = bundle.continue_audio(PROMPT, 16_000, 0.8, seed=2)
    assert not torch.equal(first.tokens.semantic, other.tokens.semantic)
    assert (first.wave - other.wave)[0, 16_000:].abs().max() > 1e-3


def test_a_continuation_among_several_is_the_one_made_alone(bundle):
    together = bundle.continue_audio(PROMPT, 16_000, 0.8, seed=5, num=2)
    assert together.wave.shape[0] == 2 and together.seeds == (5, 6)
    for row in (0, 1):
        alone = bundle.continue_audio(PROMPT, 16_000, 0.8, seed=5 + row)
        assert torch.equal(together.tokens.codes[row], alone.tokens.codes[0])
        assert torch.equal(together.tokens.semantic[row], alone.tokens.semantic[0])
        assert torch.equal(together.wave[row], alone.wave[0])


def test_any_rate_and_channels_come_in(bundle):
    stereo = np.stack([tiny.sound(1.0, 3, 44_100)] * 2, axis=1)
    made = bundle.continue_audio(stereo, 44_100, 0.4)
    assert made.sample_rate == 16_000 and made.wave.shape == (1, 16_000 + 6400)
    integers = bundle.continue_audio(torch.from_numpy(PROMPT).double(), 16_000, 0.4)
    assert torch.equal(integers.wave, bundle.continue_audio(PROMPT, 16_000, 0.4).wave)


def test_no_temperature_no_chance(bundle):
    made = [bundle.continue_audio(PROMPT, 16_000, 0.4, seed=s, temperature=(0, 0, 0)) for s in (1, 2)]
    assert torch.equal(made[0].wave, made[1].wave)
    only = [bundle.continue_audio(PROMPT, 16_000, 0.4, seed=s, top_k=1) for s in (1, 2)]
    assert torch.equal(only[0].wave, only[1].wave)
    assert torch.equal(only[0].tokens.coarse, made[0].tokens.coarse)  # the fine stage takes the least error at 0
    assert Sampling(0.0).temperature == 0


def test_progress_is_told_for_every_stage(bundle):
    told = []
    bundle.continue_audio(PROMPT, 16_000, 0.4, on_progress=lambda *news: told.append(news))
    assert [name for name in dict.fromkeys(news[0] for news in told)] == ["semantic", "coarse", "fine"]
    assert all(done <= total for _, done, total in told)
    last = {name: (done, total) for name, done, total in told}
    assert all(done == total for done, total in last.values())


@pytest.mark.parametrize(
    ("wave", "rate", "options"),
    [
        (PROMPT[:1599], 16_000, {}),
        (PROMPT[:0], 16_000, {}),
        (0 * PROMPT, 16_000, {}),
        (PROMPT + np.nan, 16_000, {}),
        (PROMPT[None, None], 16_000, {}),
        ((PROMPT * 32767).astype(np.int16), 16_000, {}),
        (PROMPT, 0, {}),
        (PROMPT, 16_000, {"seconds": 0}),
        (PROMPT, 16_000, {"seconds": -1}),
        (PROMPT, 16_000, {"seconds": float("nan")}),
        (PROMPT, 16_000, {"seconds": float("inf")}),
        (PROMPT, 16_000, {"num": 0}),
        (PROMPT, 16_000, {"seed": -1}),
        (PROMPT, 16_000, {"temperature": (1.0, 1.0)}),
        (PROMPT, 16_000, {"temperature": (1.0, -1.0, 1.0)}),
        (PROMPT, 16_000, {"temperature": (1.0, float("nan"), 1.0)}),
        (PROMPT, 16_000, {"top_k": 0}),
        (PROMPT, 16_000, {"top_p": 0.0}),
        (PROMPT, 16_000, {"top_p": 1.5}),
    ],
)
def test_what_can_not_be_continued_is_refused(bundle, wave, rate, options):
    with pytest.raises(SegueError):
        bundle.continue_audio(wave, rate, **{"seconds": 0.4, **options})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_any_kind_of_float_comes_in(bundle, kind):
    wave = torch.as_tensor(PROMPT).to(kind)
    assert len(bundle.continue_audio(wave, 16_000, 0.1).wave[0]) > len(wave)
    assert bundle.reconstruct(wave).shape == wave.shape


def test_content_is_not_taken_from_a_recording_to_be_left_out(bundle):
    with pytest.raises(SegueError, match="leaves out the content that is to be taken"):
        bundle.acoustic_generation(PROMPT, 16_000, 0.4, system="acoustic-only")


def test_whole_numbers_in_a_description_are_temperatures(copied):
    description = json.loads((copied / "bundle.json").read_text()) | {"temperature": [1, 0.7, 0], "guidance": 2}
    (copied / "bundle.json").write_text(json.dumps(description))
    assert load(copied).manner.temperature == (1.0, 0.7, 0.0)
    (copied / "bundle.json").write_text(json.dumps(description | {"temperature": [1.0, -0.5, 0.0]}))
    with pytest.raises(SegueError, match="three numbers from 0 on"):
        load(copied)


def test_reconstruction_keeps_the_length(bundle):
    wave = torch.from_numpy(PROMPT[:12_345])
    full, one = bundle.reconstruct(wave), bundle.reconstruct(wave, 1)
    assert full.shape == one.shape == wave.shape
    assert torch.equal(full, bundle.reconstruct(wave, 12)) and not torch.equal(full, one)
    with pytest.raises(SegueError, match="this codec has 1 to 12"):
        bundle.reconstruct(wave, 13)


BARE = """
import sys
from dataclasses import replace

WANTED = {"torch", "numpy", "soundfile", "soxr", "safetensors", "segue"}
UNWANTED = {"typer", "click", "rich", "pyarrow", "sklearn", "scipy", "hypothesis", "pytest", "pandas", "matplotlib"}
UNWANTED |= {"transformers", "huggingface_hub"}

class Only:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in UNWANTED:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Only())

import logging, os, random, warnings
import numpy, torch
torch.manual_seed(7); random.seed(7); numpy.random.seed(7)
def world():
    return (torch.get_num_threads(), torch.get_num_interop_threads(), torch.initial_seed(),
            torch.get_rng_state().sum().item(), random.getstate(), numpy.random.get_state()[1].tolist(),
            logging.root.level, list(logging.root.handlers), warnings.showwarning, warnings.warn,
            list(warnings.filters), dict(os.environ), torch.is_grad_enabled(), torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(), sys.excepthook)
before = world()
import segue
assert world() == before, "importing segue changed the world"
import soundfile
bundle = segue.load(sys.argv[1])
wave, rate = soundfile.read(sys.argv[2])
made = bundle.continue_audio(wave, rate, seconds=0.4, seed=3)
soundfile.write(sys.argv[3], made.wave[0].numpy(), made.sample_rate)
assert not UNWANTED & {name.split(".")[0] for name in sys.modules}
after = world()
assert after[:-1] == before[:-1], "continuing changed the world"
print(made.wave.shape[1])
"""


def test_five_packages_are_enough_and_importing_changes_nothing(bundle_folder, speech, tmp_path, child_environment):
    command = [sys.executable, "-c", BARE, bundle_folder, speech, tmp_path / "out.wav"]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(24_000 + 6400) and (tmp_path / "out.wav").is_file()


def test_loading_and_continuing_leave_the_compiler_alone(child_environment):
    """Importing torch._dynamo takes a second; a tensor made on the meta device is enough to need it."""
    code = "import segue, sys; segue.load('speech').generation(0.1).run(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=child_environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_bundle_continues(name):
    bundle = load(name)
    made = bundle.continue_audio(PROMPT, 16_000, 0.2, seed=0)
    assert made.wave.shape == (1, 16_000 + 3200)
    assert torch.equal(made.wave, bundle.continue_audio(PROMPT, 16_000, 0.2, seed=0).wave)
    assert all({"hours", "steps", "licence"} <= card.keys() for card in bundle.cards.values())
