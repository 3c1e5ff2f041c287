"""A listening test in a real browser, from the first page to the score; from a file, and served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chromium
import pytest
import raters
from test_listen_server import running

from segue.listen.answers import collect
from segue.listen.key import ANSWERS, read_key
from segue.listen.plan import form_of
from segue.listen.score import score

pytestmark = pytest.mark.skipif(
    chromium.executable() is None, reason=f"no browser: none of {', '.join(chromium.NAMES)} is installed"
)
READY = "document.querySelector('[data-answer]') && !document.querySelector('[data-answer]').disabled"
OPEN = "document.querySelector('[data-answer]')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def folder(real_test, tmp_path):
    return shutil.copytree(real_test, tmp_path / "test", ignore=shutil.ignore_patterns("cache"))


def enter(browser, mouse: bool = True) -> str:
    """Agree, pass the sound check; the session's id."""
    browser.click("#begin")
    browser.wait("document.querySelector('[data-ears]')")
    assert browser.run("document.querySelector('[data-ears]').disabled"), "not before the beeps were heard"
    browser.click(".play") if mouse else browser.press(" ")
    browser.wait("!document.querySelector('[data-ears]').disabled")
    browser.click("[data-ears=right-left]")
    browser.wait(OPEN)
    return kept(browser)["session"]


def kept(browser) -> dict:
    """What the browser remembers."""
    return json.loads(browser.run("localStorage.getItem(Object.keys(localStorage)[0])"))


def current(browser, key):
    """The trial that is on the page, known by its sounds as the key has them."""
    names = browser.run("[...document.querySelectorAll('audio')].map((a) => a.src.split('/').pop().slice(0, -4))")
    return next(trial for trial in key.trials if [heard.id for heard in trial.sounds] == names)


def answer(browser, key, rule, mouse: bool = False):
    """Listen to a trial and answer it; the trial."""
    trial = current(browser, key)
    chosen = rule(trial)
    for number in range(len(trial.sounds)):
        assert not browser.run(READY)
        browser.press(str(chosen))  # too early, so it does nothing
        assert current(browser, key) == trial
        browser.click(f".numbered:nth-of-type({number + 1}) .play, main > .player .play") if mouse else browser.press(
            " "
        )
        browser.wait(f"document.querySelectorAll('audio')[{number}].ended")
    browser.wait(READY)
    if mouse:
        browser.click(f"[data-answer='{chosen}']")
    else:
        browser.press({1: "ArrowLeft", 2: "ArrowRight"}[chosen] if trial.part == "check" else str(chosen))
    src = trial.sounds[0].id
    browser.wait(f"!document.querySelector('audio') || !document.querySelector('audio').src.includes('{src}')")
    return trial


def rate(browser, key, rule, mouse: bool = False):
    """All that is left; the trials in their order."""
    heard = []
    while browser.run(OPEN + " !== null"):
        heard.append(answer(browser, key, rule, mouse))
    browser.wait("document.getElementById('message')")
    return heard


def download(browser, folder: Path) -> Path:
    """The file that a rater gets at the end."""
    folder.mkdir()
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click("#download")
    browser.wait("document.getElementById('message').textContent.startsWith('Downloaded')")
    for _ in range(500):
        found = [path for path in folder.iterdir() if path.suffix == ".json"]
        if found:
            return found[0]
        browser.run("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError("nothing was downloaded")


def test_from_a_file_to_the_score(browser, folder, tmp_path, cli):
    key, files, orders = read_key(folder), [], []
    browser.go((folder / "page/index.html").as_uri())
    for number, rule in enumerate((raters.knows, raters.always(2))):
        session = enter(browser, mouse=number == 0)
        heard = rate(browser, key, rule, mouse=number == 0)
        own = [trial for trial in key.trials if trial.form == form_of(session)]
        assert {trial.id for trial in heard} == {trial.id for trial in own} and len(heard) == len(own)
        repeat = next(index for index, trial in enumerate(heard) if trial.of)
        assert [trial.id for trial in heard].index(heard[repeat].of) < repeat - 1, "not twice in a row"
        orders.append([trial.id for trial in heard])
        files.append(download(browser, tmp_path / f"downloads{number}"))
        whole = json.loads(files[-1].read_text())
        assert whole["session"] == session and [one["trial"] for one in whole["answers"]] == orders[-1]
        assert whole["ears"] == "right-left" and all(one["plays"] == 1 for one in whole["answers"])
        browser.click("#discard")
        browser.wait("document.getElementById('begin')")
        assert browser.run("localStorage.length") == 0, "nothing is left"
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    outcome = cli("listen", "score", folder, *files, "--json")
    told = json.loads(outcome.out)
    assert told["kept"]["share"]["share"] == 1 and told["kept"]["raters"] == 1, "who knows the key"
    assert told["failed"] == 1 and told["finished"]["share"]["count"] == 6, "who always says the same: half"
    assert {address.split(":")[0] for address in browser.requested()} <= {"file", "data", "blob", "about"}
    assert browser.complaints() == []


def test_served_with_a_break_and_a_killed_server(browser, folder, child_environment):
    key = read_key(folder)
    environment = child_environment | {"PYTHONUNBUFFERED": "1"}

    def start(port: int):
        command = [sys.executable, "-m", "segue.cli", "listen", "serve", str(folder), "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        return process, process.stderr.readline().split()[0]

    before = len(browser.events)
    process, address = start(0)
    try:
        browser.go(address)
        session = enter(browser)
        heard = [answer(browser, key, raters.knows) for _ in range(2)]
        browser.wait("JSON.parse(localStorage.getItem(localStorage.key(0))).answers.every((one) => one.sent)")
        assert len(collect(folder, key, [])[0][0].answers) == 2, "sent as they are given"
        browser.go(address)  # a break: the page is loaded anew
        browser.click("#begin")
        browser.wait(OPEN)
        assert kept(browser)["session"] == session, "the same visit"
        heard.append(answer(browser, key, raters.knows))
        browser.wait("JSON.parse(localStorage.getItem(localStorage.key(0))).answers.every((one) => one.sent)")
        browser.wait("document.querySelector('audio').readyState === 4")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(collect(folder, key, [])[0][0].answers) == 3, "a killed server has all that it was sent"
        heard.append(answer(browser, key, raters.knows))  # its sound was there already
        assert sum(not one["sent"] for one in kept(browser)["answers"]) == 1
        process.stderr.close()
        process, again = start(int(address.rstrip("/").rsplit(":", 1)[1]))
        assert again == address
        heard += rate(browser, key, raters.knows)
        browser.wait("document.getElementById('message').dataset.sent === 'yes'")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()
    assert process.returncode == 130, "stopped by its own rules"
    assert len({trial.id for trial in heard}) == len(heard) == key.length
    found, notes = collect(folder, key, [])
    assert len(found) == 1 and found[0].id == session and notes == []
    result = score(key, found)
    assert result.kept.share.share == 1 and result.kept.raters == 1 and result.unfinished == 0
    asked = [
        e["params"]["request"]["url"] for e in browser.events[before:] if e.get("method") == "Network.requestWillBeSent"
    ]
    assert asked and all(one.startswith((address, "data:")) for one in asked), "no request to anyone else"
    assert browser.call("Network.getCookies")["cookies"] == []
    assert session not in (folder / "page/index.html").read_text()


def test_a_narrow_phone_shows_everything(browser, real_test, preference_test):
    wide = "document.scrollingElement.scrollWidth - innerWidth"
    outside = (
        "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
        " || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline').map((e) => e.outerHTML)"
    )
    browser.call("Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=2, mobile=True)
    try:
        for test in (real_test, preference_test):
            browser.go((test / "page/index.html").as_uri())
            assert browser.run(wide) <= 0 and browser.run(outside) == []
            browser.click("#begin")
            browser.wait("document.querySelector('[data-ears]')")
            assert browser.run(wide) <= 0 and browser.run(outside) == []
            browser.press(" ")
            browser.wait("!document.querySelector('[data-ears]').disabled")
            browser.click("[data-ears=neither]")
            browser.wait(OPEN)
            assert browser.run(wide) <= 0 and browser.run(outside) == []
            names = "[...document.querySelectorAll('button')].every((e) => e.ariaLabel || e.textContent.trim())"
            assert browser.run(names) and browser.run("document.activeElement.className") == "play"
            browser.run("localStorage.clear()")
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_two_sounds_are_compared_by_keys_alone(browser, preference_test, tmp_path):
    folder = shutil.copytree(preference_test, tmp_path / "test", ignore=shutil.ignore_patterns("cache"))
    key = read_key(folder)
    with running(folder) as port:
        browser.go(f"http://127.0.0.1:{port}/")
        enter(browser, mouse=False)
        rate(browser, key, raters.knows)
        browser.wait("document.getElementById('message').dataset.sent === 'yes'")
    result = score(key, collect(folder, key, [])[0])
    assert result.kept.share.share == 1 and result.kept.raters == 1
    assert result.kept.first_answer.share == 0.5, "the first system is as often on the left as on the right"


def test_a_host_that_takes_no_answers_lets_them_be_downloaded(browser, folder, tmp_path):
    key = read_key(folder)
    with running(folder) as port:
        browser.go(f"http://127.0.0.1:{port}/")
        browser.run("window.fetch = () => Promise.reject(new TypeError('no network'))")
        enter(browser)
        rate(browser, key, raters.knows)
        browser.wait("document.getElementById('message').dataset.sent === 'no'")
        assert "could not be sent" in browser.run("document.getElementById('message').textContent")
        path = download(browser, tmp_path / "downloads")
    assert not (folder / ANSWERS).exists()
    assert score(key, collect(folder, key, [path])[0]).kept.share.share == 1
