"""The rater's page: one HTML file with style, program, texts and the list of trials in it, and a folder of sounds.

The page holds no right answer and loads nothing from elsewhere: a content security policy with the hashes of its own
program and style forbids it. Its English is web/text.json, and another language is another such file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from segue.artifact import read_json
from segue.errors import SegueError
from segue.listen.plan import FORMS, Kind, Trial

SOUNDS = "sounds"


def page(
    test: str, kind: Kind, trials: list[Trial], ears: str, seconds: tuple[float, float], texts: dict[str, str]
) -> str:
    """The HTML.

    Args:
        test: its id.
        kind: what is asked.
        trials: of both forms.
        ears: name of the sound check's sound.
        seconds: of the prompt, and of what follows.
        texts: see `read_texts`.
    """
    shown = {
        "test": test,
        "kind": kind,
        "prompt_seconds": seconds[0],
        "seconds": seconds[1],
        "ears": _file(ears),
        "forms": [[_shown(trial) for trial in trials if trial.form == form] for form in range(FORMS)],
    }
    style, program = _asset("page.css"), _asset("page.js")
    parts = {
        "LANGUAGE": _escaped(texts["language"]),
        "TITLE": _escaped(texts["title"]),
        "NEEDS_SCRIPT": _escaped(texts["needs_script"]),
        "POLICY": "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"media-src 'self' file:; connect-src 'self'; style-src {_hash(style)}; script-src {_hash(program)}",
        "STYLE": style,
        "PROGRAM": program,
        "TEST": _data(shown),
        "TEXTS": _data(texts),
    }
    whole = _asset("page.html")
    for name, content in parts.items():
        before, mark, after = whole.partition(f"@{name}@")
        assert mark, name
        whole = before + content + after
    return whole


def read_texts(path: Path | None) -> dict[str, str]:
    """Everything the page says.

    Args:
        path: JSON with the keys of web/text.json, in another language; None for English.

    Raises:
        SegueError: if it has other keys, or values that are no text.
    """
    english: dict[str, str] = json.loads(_asset("text.json"))
    if path is None:
        return english
    given = read_json(path, "texts of a page")
    missing, unknown = sorted(english.keys() - given.keys()), sorted(given.keys() - english.keys())
    if missing or unknown:
        raise SegueError(
            f"{path}: texts missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    wrong = [name for name, text in given.items() if not isinstance(text, str)]
    if wrong:
        raise SegueError(f"{path}: {wrong[0]}: no text")
    return given


def _shown(trial: Trial) -> dict[str, Any]:
    """What a page may know of a trial."""
    known = {"id": trial.id, "sounds": [_file(heard.id) for heard in trial.sounds]}
    return known | ({"after": trial.of} if trial.of else {})


def _file(name: str) -> str:
    return f"{SOUNDS}/{name}.wav"


def _asset(name: str) -> str:
    return (resources.files("segue.listen") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(values: Any) -> str:
    """JSON that can stand in an HTML element."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
