"""The report as a page: it stands alone, shows every figure and reason, plays, and escapes what it is told."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import chromium
import numpy as np
import pytest
import soundfile
import tiny
import tiny_report
import torch

from segue import audio
from segue.errors import SegueError
from segue.evaluate import headlines, markup, page, players, report, section
from segue.evaluate.headlines import in_short
from segue.evaluate.measures import Figure
from segue.evaluate.report import Entry, Report
from segue.evaluate.section import Column, Player, Plot, Section, Table
from segue.evaluate.suites import SUITES

SETTINGS = replace(tiny_report.SETTINGS, bundle="a <b>bundle</b>")
ENTRY = Entry({}, {"segue": "0.1.0", "torch": "2"}, "2026-01-02T03:04:05+00:00", 1.5, 1)
EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)> ' & javascript:"
COLUMNS = (Column("wer", f"WER {EVIL}", "lower", 3), Column("mos", "MOS", "higher"), Column("rms", "RMS"))
ROWS = {
    f"full {EVIL}": {"wer": Figure(0.5, 0.25, 0.75), "mos": Figure(3.14159), "rms": Figure(math.nan)},
    "semantic-only": {"wer": None, "mos": Figure(2.0, math.nan, math.nan)},
}


def make_report(folder: Path, **changes) -> Path:
    """A report of one measured suite and one that failed, with two rows of sounds and a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = []
    for number, (row, title, seconds) in enumerate((("one", "real", 1.0), ("one", "made", 2.0), ("two", EVIL, 1.5))):
        (folder / "sounds").mkdir(exist_ok=True)
        audio.write(folder / f"sounds/{number}.wav", torch.from_numpy(tiny.sound(seconds, number)), tiny.RATE)
        sounds.append(Player(title, row, f"sounds/{number}.wav"))
    (folder / "plot.png").write_bytes(players.png(np.zeros((4, 6), np.uint8)))
    found = Section(
        suite="baselines",
        title="Baselines",
        about=f"About {EVIL}",
        tables=(Table("b", "Systems", COLUMNS, ROWS), Table("none", "Empty", COLUMNS, {})),
        players=tuple(sounds),
        plots=(Plot(f"A plot {EVIL}", "plot.png"),),
        notes=(f"a note {EVIL}",),
        versions={"jiwer": f"4 {EVIL}"},
        not_measured={"wer": f'no recogniser; pip install "segue[eval]" {EVIL}', "other": "not here"},
        seconds=1.5,
    )
    section.save(replace(found, **changes), folder / "baselines.json")
    failed = replace(ENTRY, failed=f"no speakers {EVIL}")
    told = Report(SETTINGS, (f"x.wav: left out {EVIL}",), {"baselines": ENTRY, "detector": failed})
    report.save(told, folder)
    return folder


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return page.write(make_report(tmp_path_factory.mktemp("page") / "report"))


@pytest.fixture(scope="module")
def reader(made) -> Reader:
    return Reader(made.read_text())


def test_the_page_stands_alone(reader, made):
    assert reader.open == [], "every element is closed"
    addresses = [
        value for _, own in reader.tags for name, value in own.items() if name in ("src", "href", "data", "action")
    ]
    assert addresses and all(value.startswith(("data:", "#")) for value in addresses)
    styles = re.search(r"<style>(.*?)</style>", made.read_text(), re.S).group(1)
    assert "url(" not in styles and "@import" not in styles
    policy = next(own["content"] for own in reader.named("meta") if own.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    anchors = {own["id"] for _, own in reader.tags if "id" in own}
    assert {value[1:] for value in addresses if value.startswith("#")} <= anchors
    assert len(anchors) == sum("id" in own for _, own in reader.tags)


def test_what_it_is_told_is_shown_and_never_done(reader):
    assert len(reader.named("script")) == 1
    assert all(own.get("src", "").startswith("data:") for own in reader.named("img"))
    assert not [name for _, own in reader.tags for name in own if name.startswith("on")]
    text = "".join(reader.words)
    assert text.count("<script>alert(1)</script>") >= 8 and "a <b>bundle</b>" in text


def test_every_figure_and_reason_is_there(reader, made):
    text = " ".join(" ".join(reader.words).split())
    for words in ("0.500 0.250 to 0.750", "3.14", "2.00", "pip install", "no speakers", "left out", "WER", "1.5 s"):
        assert words in text, words
    cells = re.findall(r"<td>(.*?)</td>", made.read_text())
    assert sum("not measured" in cell for cell in cells) >= 3 and not [cell for cell in cells if "nan" in cell]
    assert "(lower is better)" in text and "(higher is better)" in text
    assert "Empty" not in text
    assert f'href="#{re.search(r"id=.(baselines-why-0)", made.read_text()).group(1)}"' in made.read_text()


def test_it_can_be_read_by_everybody(reader):
    assert reader.named("html")[0]["lang"] == "en" and reader.named("main") and reader.named("nav")
    assert all(own.get("alt") for own in reader.named("img"))
    assert all(own.get("aria-label") for own in reader.named("audio") + reader.named("svg"))
    assert all(own.get("scope") in ("row", "col") for own in reader.named("th"))
    assert len(reader.named("caption")) == len(reader.named("table")) and len(reader.named("h1")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_darker_or_lighter_than_its_ground(scheme):
    """The contrast that WCAG asks of text, 4.5 to 1, between every pair of colours that meet."""
    style = markup.web("report.css")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    colours = light if scheme == "light" else light | dark

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * letter for letter in colour[1:])
        parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = [(ink, ground) for ink in ("ink", "soft", "accent", "good", "bad") for ground in ("ground", "card")]
    for ink, ground in [*pairs, ("warn-ink", "warn-ground")]:
        high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_sounds_are_small_and_themselves(reader):
    sources = [own["src"] for own in reader.named("audio")]
    assert len(sources) == 3 and all(source.startswith("data:audio/ogg; codecs=opus;base64,") for source in sources)
    data = base64.b64decode(sources[1].split(",")[1])
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == tiny.RATE and abs(len(samples) - 2 * rate) < 0.05 * rate and len(data) < 2 * 8000
    told = tiny.sound(2.0, 1)
    count = min(len(told), len(samples))
    assert np.corrcoef(told[:count], samples[:count])[0, 1] > 0.9


@pytest.mark.parametrize("rate, kind", [(24_000, "opus"), (44_100, "vorbis"), (22_050, "vorbis")])
def test_sounds_of_any_rate_are_compressed(rate, kind):
    data, media = audio.compressed(torch.from_numpy(tiny.sound(1.0, 0, rate)), rate)
    assert media == f"audio/ogg; codecs={kind}"
    samples, found = soundfile.read(io.BytesIO(data))
    assert found == rate and abs(len(samples) - rate) < 0.05 * rate


def test_a_report_shows_files_of_its_own_alone(tmp_path):
    secret = tmp_path / "secret.wav"
    audio.write(secret, torch.from_numpy(tiny.sound(1.0)), tiny.RATE)
    for name in ("../secret.wav", str(secret)):
        folder = make_report(tmp_path / "report", players=(Player("x", "x", name),))
        with pytest.raises(SegueError, match="files of its own folder only"):
            page.write(folder)
        make_report(tmp_path / "report", plots=(Plot("x", name),), players=())
        with pytest.raises(SegueError, match="files of its own folder only"):
            page.write(folder)
    make_report(tmp_path / "report", players=(Player("x", "x", "sounds/gone.wav"),))
    with pytest.raises(SegueError, match=r"gone\.wav"):
        page.write(folder)
    make_report(tmp_path / "report", plots=(Plot("x", "gone.png"),), players=())
    with pytest.raises(SegueError, match=r"gone\.png.*can't be read"):
        page.write(folder)
    assert not (folder / "report.html").exists()
    with pytest.raises(SegueError, match="no report of segue evaluate"):
        page.write(tmp_path / "nowhere")


def test_versions_that_disagree_are_told_loudly(tmp_path):
    folder = make_report(tmp_path / "report")
    section.save(Section("lm", "LM", "", versions={"jiwer": "3"}), folder / "lm.json")
    told = report.read(folder).told("lm", ENTRY)
    report.save(told, folder)
    text = page.write(folder).read_text()
    assert "measured with different versions" in text and "jiwer: 3 (lm)" in text


@pytest.mark.skipif(chromium.executable() is None, reason="no Chromium here: apt install chromium")
def test_it_plays_in_a_browser(made, tmp_path):
    with chromium.browser(tmp_path / "profile", 1200, 900) as browser:
        browser.call("Page.navigate", url=made.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelectorAll('audio').length === 3")
        browser.wait("[...document.querySelectorAll('audio')].every(sound => sound.readyState >= 1)")
        lengths = browser.run("[...document.querySelectorAll('audio')].map(sound => sound.duration)")
        assert lengths == pytest.approx([1.0, 2.0, 1.5], abs=0.05)
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        browser.call("Emulation.setEmulatedMedia", features=[still])  # no smooth scrolling
        browser.click(".player svg")  # the middle of the axis of time, 2 s long in this row: where this sound ends
        assert browser.run("document.querySelector('audio').currentTime") > 0.9
        browser.run("const sounds = document.querySelectorAll('audio'); sounds[0].currentTime = 0; sounds[1].play()")
        browser.wait("sounds[1].currentTime > 0.1")
        browser.run("sounds[0].play()")
        browser.wait("sounds[1].paused && sounds[0].currentTime > 0.1")
        heads = browser.run("[...document.querySelectorAll('.head')].map(head => Number(head.getAttribute('x1')) || 0)")
        assert max(heads) > 34
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("window.evil === undefined") and browser.complaints() == []
        browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
        assert browser.run("document.documentElement.scrollWidth <= 360"), "nothing but tables is wider than a phone"
        outside = [url for url in browser.requested() if not url.startswith(("data:", "file:"))]
        assert outside == []


def test_many_measures_stand_under_each_other():
    columns = tuple(Column(f"c{number}", f"measure {number}", "higher") for number in range(9))
    few = Table("t", "Wide", columns, {"a": {"c3": Figure(3.0)}, "b": {"c3": Figure(4.0)}})
    text = Reader(markup.table(few, lambda key: "why" if key == "c4" else None))
    assert len(text.named("tr")) == 10 and len(text.named("th")) == 3 + 9
    words = " ".join(" ".join(text.words).split())
    assert re.search(r"measure 3 \S+ \(higher is better\) 3\.00 4\.00", words)
    assert sum(own.get("href") == "#why" for own in text.named("a")) == 2
    narrow = Table("t", "Narrow", columns[:8], few.rows)
    assert len(Reader(markup.table(narrow)).named("tr")) == 3


def test_the_summary_says_what_there_is_to_say(tmp_path):
    columns = (Column("nearer_random", "nearer", "higher", 3),)
    rows = {"full": {"nearer_random": Figure(0.9, 0.8, 1.0)}, "other": {"nearer_random": None}, "third": {}}
    found = Section("baselines", "B", "", (Table("baselines", "B", columns, rows),))
    assert in_short(found) == ["full: nearer 0.900 (0.800, 1.000)"]
    assert in_short(replace(found, suite="detector")) == [] and in_short(replace(found, tables=())) == []
    assert headlines.HEADLINES.keys() == set(SUITES)
