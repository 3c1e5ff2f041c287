"""A listening test over HTTP: its page, its sounds, and one address that takes answers.

It needs no web framework: what can be asked for is a list of files made at the start, an answer is one small JSON
object, and it is on the disk before it is confirmed. Nobody's address, device or time of day is written down. There is
no encryption: beyond one's own machine or network, put it behind a web server that has it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from segue.data.lock import locked
from segue.errors import SegueError
from segue.listen.answers import Answer, checked, read_store
from segue.listen.key import ANSWERS, PAGE, Key, read_key

MOST_BYTES = 2048
"""Of an answer."""

MOST_SESSIONS = 10_000
"""Beyond them nothing is stored, so that nobody can fill the disk."""

_TIMEOUT_SECONDS = 30.0
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_TYPES = {".html": "text/html; charset=utf-8", ".wav": "audio/wav"}


class Store:
    """Answers on disk, each once: the first to a trial counts.

    Args:
        folder: of the test.
        key: its key.

    Raises:
        SegueError: if what is there can't be read.
    """

    def __init__(self, folder: Path, key: Key) -> None:
        self._path, self._key, self._lock = folder / ANSWERS, key, threading.Lock()
        known, torn = read_store(self._path, key)
        self._seen = {(one.session, one.trial) for one in known}
        self._sessions = {one.session for one in known}
        if torn:  # its sender was never told that it had arrived
            try:
                os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)
            except OSError as error:
                raise SegueError(
                    f"{self._path}: can't be written ({error.strerror}); check folder and space"
                ) from error

    @property
    def count(self) -> int:
        """Answers that are kept."""
        return len(self._seen)

    def add(self, answer: Answer) -> bool:
        """Keep an answer; on return it is on the disk.

        Returns:
            whether it is new.

        Raises:
            OSError: if it can't be written; then nothing of it is left.
            SegueError: if there are too many sessions.
        """
        line = json.dumps({"test": self._key.test, **asdict(answer)}).encode() + b"\n"
        with self._lock:
            if (answer.session, answer.trial) in self._seen:
                return False
            if answer.session not in self._sessions and len(self._sessions) >= MOST_SESSIONS:
                raise SegueError(f"{MOST_SESSIONS} sessions are kept, and no more")
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                before = os.fstat(file).st_size
                try:
                    if os.write(file, line) != len(line):
                        raise OSError(errno.ENOSPC, "no space left")
                    os.fsync(file)
                except OSError:
                    os.ftruncate(file, before)
                    raise
            finally:
                os.close(file)
            self._seen.add((answer.session, answer.trial))
            self._sessions.add(answer.session)
            return True


class _Server(ThreadingHTTPServer):
    """Carries what the handler needs."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path, key: Key, store: Store) -> None:
        self.key, self.store = key, store
        page = folder / PAGE
        self.files = {f"/{path.relative_to(page).as_posix()}": path for path in page.rglob("*") if path.is_file()}
        self.files["/"] = page / "index.html"
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault of ours is told, without who asked; a rater who goes away in the middle is none."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_SECONDS
    server_version, sys_version = "segue", ""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written down about who asks."""

    def do_GET(self) -> None:
        self._give(body=True)

    def do_HEAD(self) -> None:
        self._give(body=False)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/answers":
            return self._refuse(HTTPStatus.NOT_FOUND, "no such address")
        if not length.isascii() or not length.isdigit():
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if int(length) > MOST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an answer has at most {MOST_BYTES} bytes")
        if self.headers.get_content_type() != "application/json":  # so that no other site's form can post here
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "application/json is expected")
        body = self.rfile.read(int(length))
        try:
            given = json.loads(body)
            day = datetime.now(UTC).date().isoformat()
            answer = checked(
                given | {"day": day} if isinstance(given, dict) and "day" not in given else None, self.server.key
            )
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, SegueError) else "no JSON"
            return self._refuse(HTTPStatus.BAD_REQUEST, reason)
        try:
            new = self.server.store.add(answer)
        except SegueError as error:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except OSError as error:
            return self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"can't be kept ({error.strerror})")
        self._reply(HTTPStatus.OK, {"new": new})

    def _give(self, body: bool) -> None:
        path = self.server.files.get(self.path.partition("?")[0])
        if path is None:
            return self._refuse(HTTPStatus.NOT_FOUND, "no such address")
        try:
            content = path.read_bytes()
        except OSError:
            return self._refuse(HTTPStatus.NOT_FOUND, "no such file any more")
        part = self._part(len(content))
        if part is None:
            self.send_response(HTTPStatus.OK)
            start, end = 0, len(content)
        elif part[0] >= part[1]:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            start = end = 0
        else:
            start, end = part
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Type", _TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Accept-Ranges", "bytes")
        self._finish(content[start:end] if body else b"", end - start)

    def _part(self, size: int) -> tuple[int, int] | None:
        """The bytes asked for, from and to; None for all of them, an empty range for what isn't there."""
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or asked[1] == asked[2] == "":
            return None
        if asked[1] == "":
            return max(0, size - int(asked[2])), size if int(asked[2]) else 0
        return int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what is left of the request is not read
        self._reply(status, {"error": reason})

    def _reply(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        content = json.dumps(values).encode()
        self.send_response(status)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", "application/json")
        self._finish(content, len(content))

    def _finish(self, content: bytes, length: int) -> None:
        for name, value in (
            ("Content-Length", str(length)),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(folder: Path, host: str, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server that listens; `serve_forever` answers.

    Args:
        folder: of a test; one server at a time may have it.
        host: address to listen on.
        port: 0 for any that is free.

    Raises:
        SegueError: if there is no test, its answers are damaged, another server has it, or the port can't be had.
    """
    key = read_key(folder)
    if not (folder / PAGE / "index.html").is_file():
        raise SegueError(f"{folder}: the page is missing; make the test anew")
    with locked(folder):
        store = Store(folder, key)
        try:
            server = _Server((host, port), folder, key, store)
        except (OSError, OverflowError) as error:
            busy = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "another program has it" if busy else getattr(error, "strerror", None) or error
            raise SegueError(f"{host}, port {port}: {reason}; give another --port or --host") from error
        try:
            yield server
        finally:
            server.server_close()
