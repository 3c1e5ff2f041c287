"""Two tiny listening tests, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from segue.bundle import Bundle
from segue.listen.key import Key, read_key
from segue.listen.make import Options, make, makers
from segue.listen.plan import Kind


@pytest.fixture(scope="session")
def held_out_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.corpus(tmp_path_factory.mktemp("listening") / "sound", 9, 2.4)


def small(kind: Kind = "real", **changes: float) -> Options:
    """Clips of 0.4 s."""
    return Options(kind, **{"trials": 4, "prompt_seconds": 0.2, "seconds": 0.2, "seed": 3, **changes})


@pytest.fixture(scope="session")
def real_test(bundle: Bundle, held_out_sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of kind real; don't write into it."""
    out = tmp_path_factory.mktemp("listening") / "real"
    make(makers(bundle, None, "real"), [held_out_sound], out, small())
    return out


@pytest.fixture(scope="session")
def preference_test(bundle: Bundle, held_out_sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of kind preference; don't write into it."""
    out = tmp_path_factory.mktemp("listening") / "preference"
    make(makers(bundle, "semantic-only", "preference"), [held_out_sound], out, small("preference"))
    return out


@pytest.fixture
def key(real_test: Path) -> Key:
    return read_key(real_test)
