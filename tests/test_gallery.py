"""`scripts/bundled/gallery.py`: what it chooses, makes, tells and refuses, and that its page plays."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import benchmark
import chromium
import numpy as np
import pytest
import soundfile
import tiny

from segue.bundle import load

SCRIPT = benchmark.BUNDLED / "gallery.py"
MADE = ("codec-3", "codec-12", "full", "acoustic-only")
OPTIONS = ["--prompts", "2", "--seconds", "1", "--seed", "5"]


def recordings(folder: Path, speakers: dict[str, str], seconds: float) -> Path:
    """Sound files by name, each of its speaker, with a manifest."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(speakers):
        soundfile.write(folder / name, tiny.sound(seconds, seed), tiny.RATE)
    rows = [{"path": name, "speaker": speaker} for name, speaker in speakers.items()]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """speech/ and piano/: two readers and somebody else; two songs, one of them with both fonts."""
    folder = tmp_path_factory.mktemp("data")
    speech = {f"ls_dev_clean__{reader}-9-000{k}.wav": f"r{reader}" for reader in (7, 8) for k in range(3)}
    recordings(folder / "speech", {**speech, "other__a.wav": "a"}, 3.2)
    fonts = {"880-fluid.wav": "fluid", "880-musescore.wav": "musescore", "881-fluid.wav": "fluid"}
    recordings(folder / "piano", fonts, 23.1)
    return folder


@pytest.fixture(scope="module")
def able(tmp_path_factory) -> Path:
    """A tiny bundle that can do without semantic tokens, too."""
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "able", semantic_optional=True)


def command(data: Path, out: Path, bundle: Path, *more: str) -> list[str]:
    places = [data / "speech", data / "piano", out, "--speech-bundle", bundle, "--piano-bundle", bundle]
    return [str(part) for part in (SCRIPT, *places, *OPTIONS, *more)]


@pytest.fixture(scope="module")
def made(data, able, child_environment) -> Path:
    """A gallery of two prompts of each kind, made by a real process."""
    out = data / "gallery"
    run = [sys.executable, *command(data, out, able)]
    done = subprocess.run(run, env=child_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 22 files, ") and "more than" not in done.stderr
    return out


@pytest.fixture
def script() -> types.ModuleType:
    return benchmark.load("gallery", benchmark.BUNDLED)


class Page(HTMLParser):
    """Every tag's attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, attribute: str) -> list[str]:
        return [own[attribute] or "" for name, own in self.tags if name == tag and attribute in own]


def test_all_sounds_are_there_and_small(made):
    names = [f"{kind}-{number}" for kind in ("speech", "piano") for number in (1, 2)]
    wanted = {f"{name}-prompt.flac" for name in names} | {f"{name}-{what}.ogg" for name in names for what in MADE}
    assert {path.name for path in (made / "sounds").iterdir()} == wanted
    assert {path.name for path in made.iterdir()} == {"sounds", "index.html", "README.md"}
    for path in (made / "sounds").iterdir():
        header = soundfile.info(path)
        assert header.samplerate == tiny.RATE and header.channels == 1
        assert header.duration == pytest.approx(4.0 if path.stem.endswith(("full", "only")) else 3.0, abs=1e-3)
    assert sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) < 2e6


def test_a_prompt_is_the_recording_and_a_continuation_begins_with_it(made, data):
    text = (made / "README.md").read_text()
    number = re.search(r"piano-1 \| POP909, song (\d+), (\w+)", text)
    source = data / "piano" / f"{number[1]}-{'fluid' if number[2] == 'FluidR3' else 'musescore'}.wav"
    recording = soundfile.read(source)[0][20 * tiny.RATE : 23 * tiny.RATE]
    prompt = soundfile.read(made / "sounds" / "piano-1-prompt.flac")[0]
    assert np.abs(prompt - recording).max() < 2**-14
    full, alone = (soundfile.read(made / "sounds" / f"piano-1-{system}.ogg")[0] for system in ("full", "acoustic-only"))
    begins = slice(0, round(2.9 * tiny.RATE))
    for wave in (full, alone):
        assert np.corrcoef(wave[begins], prompt[begins])[0, 1] > 0.95
    assert np.abs(full - alone)[3 * tiny.RATE :].max() > 1e-3


def test_pages_show_every_sound_with_its_credit_and_ask_nobody(made, able):
    bundle = load(able)
    text, html = (made / "README.md").read_text(), (made / "index.html").read_text()
    page = Page(html)
    assert len(page.all("audio", "src")) == len(page.all("image", "href")) == 20
    for source in (*page.all("audio", "src"), *page.all("image", "href")):
        assert source.startswith("data:")
    assert len(set(page.all("audio", "aria-label"))) == 20
    files = {f"sounds/{path.name}" for path in (made / "sounds").iterdir()}
    anchors = {own["id"] for _, own in page.tags if "id" in own}
    links = page.all("a", "href")
    assert {link for link in links if not link.startswith("#")} == files
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert set(re.findall(r"\]\((sounds/[^)]+)\)", text)) == files
    for told in (text, html):
        assert {"reader 7", "reader 8", "song 880", "song 881"} <= set(re.findall(r"(?:reader|song) \d+", told))
        for words in ("LibriSpeech dev-clean", "CC BY 4.0", "Panayotov", "FluidR3 GM", "MIT", bundle.fingerprint):
            assert words in told
        assert bundle.fingerprints["codec"] in told and "--seed 5" in told and "0.6 kbit/s" in html


def test_the_commands_that_are_shown_make_the_same_bytes(made, cli, monkeypatch, tmp_path):
    text = (made / "README.md").read_text()
    lines = re.findall(r"^segue .*$", text, re.M)
    assert len(lines) == 4
    monkeypatch.chdir(made)
    for line in lines:
        _, *arguments, file = shlex.split(line)
        assert arguments[-1] == "--out" and cli(*arguments, tmp_path / "again.ogg").code == 0
        assert (tmp_path / "again.ogg").read_bytes() == (made / file).read_bytes()


def run(script, monkeypatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        script.main()
    except SystemExit as stop:
        return stop.code
    return 0


def test_again_is_the_same_to_the_byte_and_takes_the_place_of_the_old(made, data, able, script, monkeypatch, tmp_path):
    out = tmp_path / "gallery"
    (out / "sounds").mkdir(parents=True)
    (out / "sounds" / "old.ogg").write_bytes(b"old")
    assert run(script, monkeypatch, command(data, out, able)) == 0
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (made, out)
    )
    assert one == two
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "speech" / "manifest.jsonl").unlink(), r"speech/manifest\.jsonl.*No such file"),
        (lambda data: (data / "piano" / "881-fluid.wav").unlink(), r"881-fluid\.wav: the manifest names it"),
        (lambda data: None, r"speech: 2 ls_\* recordings of at least 3 s, 7 are needed"),
    ],
)
def test_missing_recordings_cost_one_line(change, message, bundle_folder, script, monkeypatch, tmp_path, capsys):
    speech = {f"ls_dev_clean__{reader}-9-0000.wav": f"r{reader}" for reader in (7, 8)}
    recordings(tmp_path / "speech", speech, 3.2)
    recordings(tmp_path / "piano", {"880-fluid.wav": "fluid", "881-fluid.wav": "fluid"}, 23.1)
    change(tmp_path)
    more = ["--prompts", "7"] if "7 are" in message else []
    assert run(script, monkeypatch, command(tmp_path, tmp_path / "gallery", bundle_folder, *more)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("gallery: ") and re.search(message, err)
    assert not (tmp_path / "gallery").exists()


def test_what_cannot_be_credited_or_is_no_gallery_is_refused(
    data, bundle_folder, script, monkeypatch, tmp_path, capsys
):
    places = {}
    for name, speakers in (("speech", {"ls_test_other__1-2-0000.wav": "1"}), ("piano", {"880.wav": "grand"})):
        places[name] = recordings(tmp_path / name, speakers, 23.1)
    for kind, message in zip(script.KINDS, ("no credit is known", "sound font 'grand'"), strict=True):
        with pytest.raises(script.SegueError, match=message):
            script.choose(kind, places[kind.name], 1, 0)
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(script, monkeypatch, command(data, tmp_path, bundle_folder)) == 2
    assert "would be replaced" in capsys.readouterr().err and (tmp_path / "thesis.txt").exists()
    assert run(script, monkeypatch, command(data, tmp_path / "new", tmp_path / "none")) == 2
    assert run(script, monkeypatch, command(data, tmp_path / "new", bundle_folder, "--prompts", "0")) == 2
    assert not (tmp_path / "new").exists()


def test_readers_fonts_and_songs_are_spread(data, script):
    speech, piano = script.KINDS
    for draw in range(5):
        readers = [origin.told.split(",")[1] for _, origin in script.choose(speech, data / "speech", 4, draw)]
        assert sorted(readers[:2]) == sorted(readers[2:]) == [" reader 7", " reader 8"]
        songs = script.choose(piano, data / "piano", 2, draw)
        assert [origin.piece for _, origin in songs].count("880") == 1
        chosen = script.choose(speech, data / "speech", 4, draw)
        assert chosen == script.choose(speech, data / "speech", 4, draw)
    with pytest.raises(script.SegueError, match="2 recordings of at least 23 s, 3 are needed"):
        script.choose(piano, data / "piano", 3, 0)
    drawn = {tuple(path for path, _ in script.choose(speech, data / "speech", 4, draw)) for draw in range(5)}
    assert len(drawn) > 1


@pytest.mark.skipif(chromium.executable() is None, reason="no Chromium here: apt install chromium")
def test_the_page_plays_from_a_file_by_keyboard(made, tmp_path):
    with chromium.browser(tmp_path / "profile", 1200, 900) as browser:
        browser.call("Page.navigate", url=(made / "index.html").as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelectorAll('audio').length === 20")
        browser.wait("[...document.querySelectorAll('audio')].every(sound => sound.readyState >= 1)")
        lengths = browser.run("[...document.querySelectorAll('audio')].map(sound => sound.duration)")
        assert lengths == pytest.approx([3.0, 3.0, 3.0, 4.0, 4.0] * 4, abs=0.05)
        browser.run("const sounds = document.querySelectorAll('audio'); sounds[3].focus()")
        browser.press(" ")
        browser.wait("!sounds[3].paused && sounds[3].currentTime > 0.1")
        browser.run("sounds[4].play()")
        browser.wait("sounds[3].paused && sounds[4].currentTime > 0.1")
        browser.run("sounds[4].currentTime = 3.9")
        browser.wait("sounds[4].ended")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth") and browser.complaints() == []
        browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
        assert browser.run("document.documentElement.scrollWidth <= 360"), "nothing but tables is wider than a phone"
        assert [url for url in browser.requested() if not url.startswith(("data:", "file:"))] == []
