"""What the house agreed on, checked by reading the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "segue").rglob("*.py"))
LAYERS = [
    {"errors"},
    {"units", "ogg", "waves"},
    {"config"},
    {"artifact"},
    {"audio", "published"},
    {"semantic", "codec"},
    {"lm"},
    {"data"},
    {"train", "generate"},
    {"recipes"},
    {"tokenizers"},
    {"clustering"},
    {"bundle", "parts"},
    {"fit"},
    {"safety", "doctor"},
    {"evaluate", "serve"},
    {"listen"},
    {"terminal"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
THIRD_PARTY = {"torch", "numpy", "soundfile", "soxr", "safetensors"}
VERBS = (
    "main", "codes", "options", "sound", "tokenize", "tokens", "training", "describe", "doctor", "evaluate", "compare",
    "listen", "pairs",
)  # fmt: skip
OPTIONAL = {
    "pyarrow": {"data/store.py"},
    "sklearn": {"semantic/kmeans.py", "evaluate/measures.py"},
    "hama": {"evaluate/phones.py"},
    "pocketsphinx": {"evaluate/phones.py"},
    "mido": {"evaluate/notes.py"},
    "matplotlib": {"evaluate/plots.py"},
    "resemblyzer": {"evaluate/scorers/voice.py"},
    "pesq": {"evaluate/scorers/pesq.py"},
    "pystoi": {"evaluate/scorers/stoi.py"},
    "torchmetrics": {"evaluate/scorers/si_sdr.py"},
    "visqol": {"evaluate/scorers/visqol.py"},
    "distillmos": {"evaluate/scorers/distillmos.py"},
    "speechmos": {"evaluate/scorers/dnsmos.py"},
    "onnxruntime": {"evaluate/scorers/dnsmos.py"},
    "faster_whisper": {"evaluate/scorers/words.py"},
    "jiwer": {"evaluate/scorers/words.py"},
    "basic_pitch": {"evaluate/scorers/notes.py"},
    "librosa": {"evaluate/scorers/tempo.py"},
    "hibari": {"evaluate/pairs/synthesis.py"},
    "transformers": {"published.py", "semantic/pretrained.py"},
    "huggingface_hub": {"published.py"},
    "silero_vad": {"data/voice.py"},
    "ray": {"data/engine_ray.py"},
    "lightning_fabric": {"train/fabric.py"},
    "wandb": {"train/logs.py"},
    "typer": {f"cli/{verb}.py" for verb in VERBS},
    "rich": {"cli/describe.py", "cli/doctor.py", "cli/sections.py", "cli/listen.py", "terminal.py"},
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "segue").as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "segue").parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" if node.module == "segue" else node.module for alias in node.names}
    return found


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST) -> set[str]:
    return {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.fixture(params=FILES, ids=name_of)
def source(request) -> tuple[Path, ast.Module]:
    return request.param, ast.parse(request.param.read_text())


def test_imports_point_one_way(source):
    path, tree = source
    if path.name == "__init__.py" and path.parent == ROOT / "segue":
        return
    own = package_of(path)
    assert own in LEVEL, f"{own}: give it a place among the layers"
    for name in imports(tree):
        if name.startswith("segue."):
            other = name.split(".")[1]
            allowed = other == own or LEVEL[other] < LEVEL[own]
            assert allowed, f"{name_of(path)} imports {name}"


def test_packages_beyond_the_five_stay_in_their_place(source):
    path, tree = source
    roots = {name.split(".")[0] for name in imports(tree)}
    for package, places in OPTIONAL.items():
        assert package not in roots or name_of(path) in places, f"{name_of(path)} imports {package}"
    at_the_top = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imports(ast.Module([node], []))
    }
    late = (OPTIONAL.keys() - {"typer", "rich"}) & at_the_top
    assert not late, f"{name_of(path)} imports {late} on being imported"


def test_sound_files_are_touched_in_one_place(source):
    path, tree = source
    roots = {name.split(".")[0] for name in imports(tree)}
    assert not {"soundfile", "soxr"} & roots or name_of(path) == "audio.py"


def test_every_file_says_what_it_is_for(source):
    path, tree = source
    assert path.read_text().strip() == "" or ast.get_docstring(tree), f"{name_of(path)} has no docstring"


def test_no_file_is_long(source):
    path, _ = source
    assert len(path.read_text().splitlines()) <= 400, name_of(path)


def test_nothing_loads_code_with_weights(source):
    path, tree = source
    roots = {name.split(".")[0] for name in imports(tree)}
    assert not {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & roots, name_of(path)
    assert not {"torch.load", "torch.save", "eval", "exec"} & calls(tree), name_of(path)
    assert "allow_pickle" not in path.read_text(), name_of(path)


def test_no_exception_is_swallowed_unnamed(source):
    path, tree = source
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name_of(path)}, line {node.lineno}: bare except"
            caught = {dotted(item) for item in getattr(node.type, "elts", [node.type])}
            assert "BaseException" not in caught, f"{name_of(path)}, line {node.lineno}"
            silent = all(isinstance(statement, ast.Pass) for statement in node.body)
            assert not silent, f"{name_of(path)}, line {node.lineno}: an exception is passed over in silence"


WORLD = {
    "torch.manual_seed",
    "torch.seed",
    "torch.set_num_threads",
    "torch.set_num_interop_threads",
    "torch.set_default_dtype",
    "torch.use_deterministic_algorithms",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
    "logging.basicConfig",
    "warnings.filterwarnings",
    "warnings.simplefilter",
}


def test_importing_does_nothing(source):
    path, tree = source
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            continue
        assert not WORLD & calls(node), f"{name_of(path)}, line {node.lineno}"
        assert isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr), f"{name_of(path)}, line {node.lineno}"


def test_nothing_global_is_seeded(source):
    """torch.manual_seed is called under torch.random.fork_rng alone, which puts back what was there."""
    path, tree = source
    assert not {"np.random.seed", "numpy.random.seed", "random.seed"} & calls(tree), name_of(path)
    seeded = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and dotted(node.func) == "torch.manual_seed"
    ]
    forked = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    ]
    assert all(node in forked for node in seeded), name_of(path)


def test_public_functions_are_documented(source):
    path, tree = source
    if path.name == "__init__.py":
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}: {node.name} has no docstring"


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="no README yet")
def test_the_readme_names_every_verb():
    from segue.cli import app, train_app

    readme = (ROOT / "README.md").read_text()
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    names += [f"train {command.name}" for command in train_app.registered_commands]
    missing = [name for name in names if f"segue {name}" not in readme]
    assert missing == []


def test_tests_have_names_of_their_own():
    """No __init__.py among the tests, so two files of one name would shadow each other."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    assert list((ROOT / "tests").rglob("__init__.py")) == []
