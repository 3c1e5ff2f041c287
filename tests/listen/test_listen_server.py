"""The server: what it gives, what it refuses, and that it loses nothing. Real sockets, real processes."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import raters

from segue.errors import SegueError
from segue.listen import server as served
from segue.listen.answers import collect, read_store
from segue.listen.key import ANSWERS, read_key
from segue.listen.plan import form_of
from segue.listen.server import Store, serving


@pytest.fixture
def folder(real_test, tmp_path):
    """A test of its own, without what it was made of."""
    return shutil.copytree(real_test, tmp_path / "test", ignore=shutil.ignore_patterns("cache"))


@contextmanager
def running(folder) -> Iterator[int]:
    with serving(folder, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str):
    """A request of its own connection: status, headers, content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if body is not None and "Content-Length" not in headers:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def an_answer(key, number: int = 1, which: int = 0, **changes):
    session = raters.name(number)
    trial = [trial for trial in key.trials if trial.form == form_of(session)][which]
    about = {"test": key.test, "session": session, "ears": "neither"}
    return {**about, "trial": trial.id, "answer": 2, "plays": 1} | changes


def post(port: int, values, kind: str = "application/json", **headers: str):
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    status, _, content = ask(port, "POST", "/answers", body, Content_Type=kind, **headers)
    return status, json.loads(content)


def test_it_gives_the_page_and_its_sounds_and_nothing_else(folder):
    key = read_key(folder)
    sound = f"/sounds/{key.trials[0].sounds[0].id}.wav"
    whole = (folder / "page" / sound[1:]).read_bytes()
    with running(folder) as port:
        status, headers, content = ask(port, "GET", "/")
        assert status == 200 and content == (folder / "page/index.html").read_bytes()
        assert headers["Content-Type"].startswith("text/html") and headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers and headers["Server"].strip() == "segue"
        assert ask(port, "GET", sound)[2] == whole
        status, headers, content = ask(port, "HEAD", sound)
        assert (status, headers["Content-Length"], content) == (200, str(len(whole)), b"")
        for path in (
            "/key.json",
            "/../key.json",
            "/sounds/../../key.json",
            "/%2e%2e/key.json",
            "/sounds/..%2f..%2fkey.json",
            "//etc/passwd",
            "/answers",
            "/answers.jsonl",
            "/sounds/",
            "/sounds",
        ):
            status, _, content = ask(port, "GET", path)
            assert status == 404 and b"right" not in content, path
        assert ask(port, "PUT", "/answers")[0] == 501 and ask(port, "POST", "/", b"{}")[0] == 404


def test_parts_of_a_sound_can_be_asked_for(folder):
    """As phones do, which play nothing from a server that knows no ranges."""
    name = f"/sounds/{read_key(folder).trials[0].sounds[0].id}.wav"
    whole = (folder / "page" / name[1:]).read_bytes()
    with running(folder) as port:
        for asked, part in (
            ("0-1", whole[:2]),
            ("100-", whole[100:]),
            ("-10", whole[-10:]),
            ("5-999999999", whole[5:]),
        ):
            status, headers, content = ask(port, "GET", name, Range=f"bytes={asked}")
            assert status == 206 and content == part, asked
            start = len(whole) - len(part) if asked != "0-1" else 0
            assert headers["Content-Range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
        for beyond in ("999999999-", "-0", "9-3"):
            assert ask(port, "GET", name, Range=f"bytes={beyond}")[0] == 416, beyond
        for nonsense in ("bytes=a-b", "bytes=-", "bytes=0-1,3-4", "lines=0-1"):
            assert ask(port, "GET", name, Range=nonsense)[2] == whole


def test_an_answer_is_on_the_disk_once_before_it_is_confirmed(folder):
    key = read_key(folder)
    with running(folder) as port:
        assert post(port, an_answer(key)) == (200, {"new": True})
        assert len(read_store(folder / ANSWERS, key)[0]) == 1
        assert post(port, an_answer(key, answer=1)) == (200, {"new": False}), "the first counts"
        assert post(port, an_answer(key, which=1)) == (200, {"new": True})
    lines = [json.loads(line) for line in (folder / ANSWERS).read_text().splitlines()]
    assert [line["answer"] for line in lines] == [2, 2]
    assert all(line.keys() == {"test", "session", "ears", "day", "trial", "answer", "plays"} for line in lines)
    assert all(len(line["day"]) == 10 for line in lines), "a day, no time"
    with running(folder) as port:
        assert post(port, an_answer(key)) == (200, {"new": False}), "known after a restart"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"answer": 3}, 400),
        ({"answer": "2"}, 400),
        ({"test": "0" * 16}, 400),
        ({"trial": "nothing"}, 400),
        ({"session": "../x"}, 400),
        ({"session": raters.name(1, 1)}, 400),
        ({"plays": 0}, 400),
        ({"day": "2020-01-01"}, 400),
        ({"name": "Ada"}, 400),
        ({"ears": "x" * 3000}, 413),
    ],
)
def test_what_is_no_answer_is_refused(folder, change, status):
    key = read_key(folder)
    with running(folder) as port:
        told, content = post(port, an_answer(key) | change)
        assert told == status and content["error"]
    assert not (folder / ANSWERS).exists()


def test_requests_that_are_out_of_order_are_refused(folder):
    key = read_key(folder)
    good = json.dumps(an_answer(key)).encode()
    with running(folder) as port:
        assert post(port, b"{")[0] == post(port, b"[1, 2]")[0] == post(port, b"\xff\xfe")[0] == 400
        assert post(port, b"[" * 2000)[0] == 400
        assert post(port, good, kind="text/plain")[0] == 415, "so that no other page's form can post"
        assert post(port, good, Content_Length="-5")[0] == post(port, good, Content_Length="x")[0] == 411
        assert post(port, good, Content_Length="99999999999")[0] == 413
        assert ask(port, "POST", "/answers", Content_Type="application/json")[0] == 411
        assert post(port, good)[0] == 200
    assert len(read_store(folder / ANSWERS, key)[0]) == 1


def test_many_raters_at_once_lose_nothing(folder):
    key = read_key(folder)
    with running(folder) as port:

        def rate(number: int) -> None:
            for which in range(4):
                assert post(port, an_answer(key, number, which))[0] == 200

        threads = [threading.Thread(target=rate, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found, torn = read_store(folder / ANSWERS, key)
    assert len(found) == 32 and not torn


def test_a_full_disk_leaves_no_half_answer(folder, small_disk):
    key = read_key(folder)
    with running(folder) as port, small_disk():
        statuses = [post(port, an_answer(key, number))[0] for number in range(40)]
    assert statuses[0] == 200 and statuses[-1] == 507
    found, torn = read_store(folder / ANSWERS, key)
    assert len(found) == statuses.count(200) and not torn


def test_there_is_an_end_to_sessions(folder, monkeypatch):
    monkeypatch.setattr(served, "MOST_SESSIONS", 2)
    key = read_key(folder)
    with running(folder) as port:
        assert [post(port, an_answer(key, number))[0] for number in range(3)] == [200, 200, 503]
        assert post(port, an_answer(key, 1, 1))[0] == 200, "who has begun may go on"


def test_a_torn_line_is_taken_away_and_a_damaged_store_refused(folder):
    key = read_key(folder)
    with running(folder) as port:
        post(port, an_answer(key))
    whole = (folder / ANSWERS).read_bytes()
    (folder / ANSWERS).write_bytes(whole + whole[:50])
    assert Store(folder, key).count == 1 and (folder / ANSWERS).read_bytes() == whole
    (folder / ANSWERS).write_bytes(b"nonsense\n")
    with pytest.raises(SegueError, match="line 1: no JSON"), serving(folder, "127.0.0.1", 0):
        pass


def test_a_busy_port_and_a_busy_test_cost_one_line(folder, real_test, tmp_path, cli):
    other = shutil.copytree(folder, tmp_path / "other")
    with running(folder) as port:
        busy = cli("listen", "serve", other, "--port", port)
        assert busy.code == 2 and "another program has it; give another --port" in busy.err
        assert busy.err.count("\n") == 1
        twice = cli("listen", "serve", folder, "--port", 0)
        assert twice.code == 2 and "another run is writing there" in twice.err
    nowhere = cli("listen", "serve", folder, "--host", "not an address", "--port", 0)
    assert nowhere.code == 2 and nowhere.err.count("\n") == 1
    assert cli("listen", "serve", tmp_path).code == 2


def test_a_killed_server_has_every_answer_that_it_confirmed(folder, child_environment):
    key = read_key(folder)
    command = [sys.executable, "-m", "segue.cli", "listen", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, env=child_environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = process.stderr.readline()
            port = int(first.split("127.0.0.1:")[1].split("/")[0])
            for which in range(3):
                assert post(port, an_answer(key, which=which)) == (200, {"new": True})
        finally:
            os.kill(process.pid, signal.SIGKILL)
        told = process.stderr.read()
    assert "127.0.0.1" not in told, "no line about who asked"
    found, notes = collect(folder, key, [])
    assert len(found) == 1 and len(found[0].answers) == 3 and not notes
    with running(folder) as port:
        assert post(port, an_answer(key, which=0)) == (200, {"new": False})
