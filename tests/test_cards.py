"""Model cards are made of the records of what they describe, show no figure of other weights, aren't edited by hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_report

from segue.artifact import load_part, save_part
from segue.bundle import BUNDLED, load_parts, save_bundle
from segue.errors import SegueError
from segue.evaluate import report as reports
from segue.evaluate import section as sections
from segue.evaluate.measures import Figure
from segue.evaluate.report import Entry, Report
from segue.evaluate.section import Column, Section, Table
from segue.generate.manner import Manner
from segue.tokenizers import load_semantic

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts" / "bundled"
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(SCRIPTS))
import card_readme  # noqa: E402
import cards  # noqa: E402
from card_parts import AVERAGES  # noqa: E402
from card_results import NOT_YET  # noqa: E402

sys.path.remove(str(SCRIPTS))

FED = {"hours": 3.25, "hours_seen": 7.75, "steps": 40, "training_seconds": 180, "licence": "CC0"}
LOG = [
    {"step": 20, "kind": "valid", "seconds": 90.0, "loss": 4.321},
    {"step": 30, "kind": "valid", "seconds": 130.0, "loss": 2.987},
    {"step": 40, "kind": "train", "seconds": 180.0, "loss": 1.111},
    {"step": 40, "kind": "valid", "seconds": 180.0, "loss": 3.123},
]
REPORT = "report-speech"


@dataclass(frozen=True)
class World:
    """Everything that cards are made of, for a tiny codec and a bundle named speech."""

    root: Path

    @property
    def bundled(self) -> Path:
        return self.root / "bundled"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def codec(self) -> str:
        return load_part(self.bundled / "codec").fingerprint

    @property
    def bundle(self) -> str:
        parts = load_parts(self.bundled / "speech")
        return cards.joint_fingerprint({role: part.fingerprint for role, part in parts.items()})

    def make(self) -> tuple[dict[str, str], str]:
        """Cards by folder, and what was told."""
        made, told = cards.make(self.bundled, self.results, self.root / "texts", self.root / "earlier")
        return {path.parent.name: text for path, text in made.items()}, "\n".join(told)

    def command(self) -> list[str]:
        options = {"bundled": self.bundled, "results": self.results, "readme": self.root / "README.md"}
        options |= {"texts": self.root / "texts", "earlier": self.root / "earlier"}
        given = [word for name, path in options.items() for word in (f"--{name}", str(path))]
        return [str(SCRIPTS / "cards.py"), *given]


def change(path: Path, **values) -> None:
    """Other values in a JSON object on disk."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def tell(folder: Path, **card) -> None:
    """What a part was trained on, which is not in its fingerprint, and its log."""
    change(folder / "part.json", card=FED | card)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Weights once for all tests."""
    root = tmp_path_factory.mktemp("cards")
    folder = tiny.make_bundle(root / "bundled" / "speech", parallel=True)
    shutil.move(folder / "codec", root / "bundled" / "codec")
    roles = ("semantic", "semantic_stage", "coarse_stage", "fine_stage", "parallel")
    places = {"codec": root / "bundled" / "codec"} | {role: folder / role for role in roles}
    save_bundle(folder, "speech", places)
    for place in places.values():
        tell(place)
    return root


@pytest.fixture
def world(made, tmp_path) -> World:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    for name in ("results", "texts", "earlier"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text(f"before\n{card_readme.MARKS[0]}\nold 1.23\n{card_readme.MARKS[1]}\nafter\n")
    found = World(tmp_path)
    for name, fingerprint in {"codec": found.codec, "speech": found.bundle}.items():
        (tmp_path / "texts" / f"{name}.md").write_text(f"of: {fingerprint}\n\nThe {name} hums.\n")
    return found


def quality(world: World, name: str = "codec-speech.json") -> Path:
    """A result of benchmarks/codec.py."""
    row = {"codebooks": 12, "kbit_s": 2.4, "pesq_wb": 2.345, "stoi": None, "ci95": {"pesq_wb": [2.113, 2.557]}}
    lyra = {"name": "Lyra v2", "what": "as released", "rows": [{"kbit_s": 6.0, "pesq_wb": 2.81}]}
    figures = {
        "codec": world.codec,
        "settings": {"seconds": 20.0},
        "data": "speech/valid",
        "files": ["a", "b"],
        "rows": [row, row | {"refinement": 6, "pesq_wb": 2.5}],
        "original": {"distillmos": 4.04},
        "references": [lyra],
        "not_measured": {"stoi": "no package"},
        "health": [{"use": 0.5, "perplexity": 7.0, "frames": 99}],
    }
    (world.results / name).write_text(json.dumps(figures))
    return world.results / name


def report(world: World, seconds: float = 1.5, **manner: Any) -> Path:
    """A report of `segue evaluate` with one suite that was measured and one that failed."""
    folder = world.results / REPORT
    drawn = {"recordings": 17, "limit": 17, "speakers": 5, "sound_seconds": 60.0, "seed": 3}
    drawn |= {"temperature": Manner().temperature} | manner
    settings = replace(
        tiny_report.SETTINGS, bundle="speech", bundle_fingerprint=world.bundle, prompt_seconds=3.0, seconds=7.0, **drawn
    )
    measured, failed = (Entry({}, {}, "now", 1.5, 1, why) for why in (None, "no scorer"))
    reports.save(Report(settings, (), {"baselines": measured, "detector": failed}), folder)
    columns = (Column("distillmos", "DistillMOS"), Column("wer", "WER"))
    rows = {"full": {"distillmos": Figure(1.264, 1.24, 1.29), "wer": None}, "acoustic-only": {"distillmos": None}}
    tables = (Table("baselines", "Three | systems", columns, rows),)
    section = Section("baselines", "Baselines", "17 recordings. Much <more>.", tables, seconds=seconds)
    sections.save(section, reports.place(folder, "baselines"))
    return folder


def test_a_card_tells_sizes_training_and_losses_of_every_part(world):
    made, _ = world.make()
    codec = load_part(world.bundled / "codec")
    weights = sum(tensor.numel() for name, tensor in codec.tensors.items() if not name.endswith(AVERAGES))
    assert f"| {weights / 1e6:.2f} |" in made["codec"] and world.codec in made["codec"]
    assert world.bundle in made["speech"] and "../codec/MODEL_CARD.md" in made["speech"]
    for text, parts in ((made["codec"], 1), (made["speech"], 5)):
        assert text.count("| 3.2 | 40 | 7.8 | 3 |") == parts
        assert text.count("| 4.321 at step 20 | 3.123 at step 40 | 2.987 at step 30 |") == parts
        assert "CC0" in text and "imitate a person who has not agreed to it" in text
    assert made["speech"].count("| 2.77 | 4.321") == 4, "a guess among 16 tokens costs ln 16"


def test_figures_stand_with_their_source(world):
    quality(world), report(world)
    made, told = world.make()
    assert "| 12 | 2.4 | 2.35 (2.11, 2.56) |" in made["codec"] and "| Lyra v2 [1] | 6 | 2.81 |" in made["codec"]
    assert "(../../results/codec-speech.json)" in made["codec"] and "codec-speech.json" not in told
    assert "| 12, refined | 2.4 | 2.50 (2.11, 2.56) |" in made["codec"]
    notes = " ".join(made["codec"].split())  # as they are before lines are broken
    assert "2 files of speech/valid" in notes and "STOI was not measured: no package." in notes
    assert "Refined, as files are: fitted to the sound" in notes
    assert "| full | 1.26 (1.24, 1.29) |" in made["speech"] and "acoustic-only" not in made["speech"]
    assert "WER" not in made["speech"], "a column without any figure is left out"
    assert f"(../../results/{REPORT}/baselines.json)" in made["speech"] and "17 recordings of" in made["speech"]
    assert "Not measured: no scorer." in made["speech"] and "&lt;more>" in made["speech"]


def test_links_lead_somewhere(world):
    for name in ("codec-speech.json", "codec-piano.json"):
        quality(world, name)
    report(world)
    cards_here = {world.bundled / name: text for name, text in world.make()[0].items()}
    for folder, text in cards_here.items():
        targets = re.findall(r"\]\(([^)]+)\)", text)
        assert len(targets) > 6
        for target in targets:
            assert (folder / target).exists() or target.endswith(cards.CARD), target


def test_what_is_not_there_is_not_measured_yet(world):
    made, told = world.make()
    assert made["codec"].count(NOT_YET) == 4 and made["speech"].count(NOT_YET) == 2
    for name in ("codec-speech.json", "codec-speed.json", f"{REPORT}/report.json", "acoustic-speech.json"):
        assert f"{name}: not there" in told


@pytest.mark.parametrize("manner", [{"temperature": (1.0, 0.8, 0.6)}, {"guidance": 3.0}, {"tries": 8}])
def test_figures_of_another_manner_are_not_shown(world, manner):
    report(world)
    assert "1.26" in world.make()[0]["speech"]
    report(world, **manner)
    made, told = world.make()
    assert "1.26" not in made["speech"] and f"made in another manner ({next(iter(manner))} " in told


@pytest.mark.parametrize("stale", ["codec", "report", "section"])
def test_figures_of_other_weights_are_not_shown(world, stale):
    path, folder = quality(world), report(world, seconds=2.5 if stale == "section" else 1.5)
    if stale == "codec":
        change(path, codec="0" * 16)
    if stale == "report":
        known = json.loads((folder / "report.json").read_text())["settings"]
        change(folder / "report.json", settings=known | {"bundle_fingerprint": "0" * 16})
    made, told = world.make()
    assert ("2.35" in made["codec"]) == (stale != "codec")
    assert ("1.26" in made["speech"]) == (stale == "codec")
    line = {"codec": f"{path}: of {'0' * 16}", "report": "report.json: of 0", "section": "of another run"}[stale]
    assert line in told


def test_what_was_said_of_other_weights_is_not_said_of_these(world):
    assert "The codec hums." in world.make()[0]["codec"]
    text = world.root / "texts" / "codec.md"
    text.write_text(f"of: {'0' * 16}\n\nIt buzzes.\n")
    made, told = world.make()
    assert "buzzes" not in made["codec"] and cards.NOT_TOLD in made["codec"] and f"{text}: of 0" in told
    text.write_text("It buzzes.\n")
    with pytest.raises(SegueError, match=r"first line says of which weights"):
        world.make()


def test_a_decoder_that_was_trained_alone_names_the_codec_it_comes_from(world):
    folder, first = world.bundled / "codec", world.root / "earlier" / "first"
    before = load_part(folder)
    changed = {name: tensor + 1 if name.startswith("decoder") else tensor for name, tensor in before.tensors.items()}
    later = type(before)("codec", before.config, changed, {"codec": before.fingerprint}, FED)
    save_part(later, folder)
    tell(folder, begun_from=before.fingerprint)
    stages = ("semantic", "semantic_stage", "coarse_stage", "fine_stage", "parallel")
    save_bundle(
        world.bundled / "speech",
        "speech",
        {"codec": folder} | {role: world.bundled / "speech" / role for role in stages},
    )
    unknown = " ".join(world.make()[0]["codec"].split())
    assert f"began with the weights of `{before.fingerprint}`; its decoder alone was trained on" in unknown
    assert f"Of the training of `{before.fingerprint}` no record is kept here." in unknown
    first.mkdir()
    shutil.copy(folder / "part.json", first)
    change(first / "part.json", fingerprint=before.fingerprint, card=FED | {"steps": 4711, "hours_seen": 99.5})
    known = world.make()[0]["codec"]
    assert "| 3.2 | 4711 | 99.5 | 3 |" in known and "../../earlier/first/part.json" in known
    assert "no record is kept" not in known


def test_new_tokens_and_teachers_are_told(world):
    tell(world.bundled / "speech" / "coarse_stage", begun_from="a" * 16, new_tokens_of=["codec"])
    tell(world.bundled / "speech" / "semantic", teacher="b" * 16)
    text = " ".join(world.make()[0]["speech"].split())
    assert f"The coarse stage began with the weights of `{'a' * 16}`, with new tables for the tokens of: codec." in text
    assert f"The semantic tokenizer had as its teacher `{'b' * 16}`." in text
    tell(world.bundled / "speech" / "fine_stage", begun_from="c" * 16, other_tokens_of=["codec"])
    text = " ".join(world.make()[0]["speech"].split())
    kept = "and its tables, though made for tokens of another one: codec."
    assert f"The fine stage began with the weights of `{'c' * 16}` {kept}" in text


def test_what_was_trained_on_a_gpu_says_so(world):
    assert " on a GPU" not in world.make()[0]["speech"]
    tell(world.bundled / "speech" / "coarse_stage", device="cuda")
    row = next(line for line in world.make()[0]["speech"].splitlines() if "coarse stage" in line and "7.8 |" in line)
    assert row.endswith("| 3 on a GPU |")


def test_weights_of_the_lowest_held_out_loss_are_told(world):
    assert "the lowest" not in world.make()[0]["speech"]
    tell(world.bundled / "speech" / "fine_stage", steps=30)
    assert "The fine stage has the weights of step 30, the lowest." in " ".join(world.make()[0]["speech"].split())


def test_an_encoder_that_hears_no_future_is_told_apart(world):
    assert "of the w2v-BERT kind" in world.make()[0]["speech"]
    folder, roles = world.bundled / "speech", ("semantic", "semantic_stage", "coarse_stage", "fine_stage", "parallel")
    tokenizer = tiny.make_semantic(config=tiny.PREDICTIVE)
    for role in roles:
        part, log = load_part(folder / role), (folder / role / "log.jsonl").read_text()
        new = replace(part, requires=part.requires | {"semantic": tokenizer.fingerprint})
        save_part(tokenizer.to_part(part.card) if role == "semantic" else new, folder / role)
        (folder / role / "log.jsonl").write_text(log)
    save_bundle(folder, "speech", {"codec": world.bundled / "codec"} | {role: folder / role for role in roles})
    text = " ".join(world.make()[0]["speech"].split())
    assert "by contrastive predictive coding" in text and "2 recurrent layers of 16" in text


@pytest.mark.parametrize("broken", ["log", "no log", "nothing held out", "result", "licence", "weights", "readme"])
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(world, broken, monkeypatch, capsys):
    stage, log = world.bundled / "speech" / "fine_stage", world.bundled / "speech" / "fine_stage" / "log.jsonl"
    match broken:
        case "log":
            tell(stage, steps=50)
        case "no log":
            log.unlink()
        case "nothing held out":
            log.write_text(json.dumps(LOG[2]) + "\n")
        case "result":
            change(quality(world), rows=[{}])
        case "licence":
            tell(stage, licence="")
        case "weights":
            change(stage / "part.json", fingerprint="0" * 16)
        case "readme":
            (world.root / "README.md").write_text("no marks\n")
    monkeypatch.setattr(sys, "argv", world.command())
    with pytest.raises(SystemExit) as stopped:
        cards.main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.startswith("cards: ") and told.count("\n") == 1
    assert not list(world.root.rglob(cards.CARD))


def test_the_command_writes_cards_and_readme_and_says_what_it_left_out(world):
    quality(world)
    done = subprocess.run([sys.executable, *world.command()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in world.root.rglob(cards.CARD)} == {"codec", "speech"}
    assert (world.bundled / "codec" / cards.CARD).read_text() == world.make()[0]["codec"]
    assert "codec-piano.json: not there" in done.stderr and "codec-speech.json" not in done.stderr
    readme = (world.root / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old 1.23" not in readme
    assert "| 2.4 kbit/s (12 codebooks) | 2.35 | - |" in readme
    assert "| 2.4 kbit/s (12 codebooks, refined) | 2.50 | - |" in readme and f"Speed of the codec: {NOT_YET}" in readme


def test_the_readme_quotes_the_baselines(world):
    report(world)
    text, _ = card_readme.quoted(world.bundled, world.results, world.root / "README.md")
    assert "| speech: DistillMOS | 1.26 (1.24, 1.29) | - | - | - |" in text


def test_cards_and_readme_are_those_of_the_bundled_models():
    wanted, _ = cards.make(BUNDLED, RESULTS, SCRIPTS / "cards", SCRIPTS)
    assert len(wanted) == 4
    wanted[ROOT / "README.md"], _ = card_readme.quoted(BUNDLED, RESULTS, ROOT / "README.md")
    for path, text in wanted.items():
        assert path.read_text() == text, f"{path}: run scripts/bundled/cards.py"


def test_the_tokenizer_beside_the_bundles_shows_figures_of_its_own_alone(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    where, path = BUNDLED / "phonetic" / "MODEL_CARD.md", tmp_path / "results" / "tokens-phonetic.json"
    card = cards.make(BUNDLED, tmp_path / "results", SCRIPTS / "cards", SCRIPTS)[0][where]
    told, packed = load_semantic("phonetic"), load_part(BUNDLED / "phonetic")
    named = {told.fingerprint, packed.fingerprint, packed.requires["onward"]}
    assert named <= set(re.findall(r"`([0-9a-f]{16})`", card))
    assert "axes of layer 2" in card and NOT_YET not in card
    path.write_text(path.read_text().replace(told.fingerprint, "0" * 16))
    found, left_out = cards.make(BUNDLED, tmp_path / "results", SCRIPTS / "cards", SCRIPTS)
    assert NOT_YET in found[where] and "axes of layer 2" not in found[where]
    assert any("tokens-phonetic.json" in line for line in left_out)
    path.unlink()
    assert NOT_YET in cards.make(BUNDLED, tmp_path / "results", SCRIPTS / "cards", SCRIPTS)[0][where]


def test_every_source_of_data_is_credited():
    credited = (ROOT / "LICENSE-MODELS").read_text().lower()
    for path in BUNDLED.rglob("part.json"):
        for source in json.loads(path.read_text())["card"]["licence"].split(";"):
            name = source.split()[0].lower()
            assert name in credited, f"{path}: {name} is not in LICENSE-MODELS"
