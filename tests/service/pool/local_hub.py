"""A hub on this machine that speaks as much of the Hugging Face hub's protocol as fetching a model takes."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/name"
_PIECE = 1 << 14


class Hub:
    """A repository's files by their names, and what has been asked of them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.revisions = {"main", "v1"}
        self.sent: dict[str, int] = {}
        """Bytes of each file that were sent, whole or in part."""
        self.ranges: list[str] = []
        self.pause_s = 0.0
        """After each piece."""
        self.stop_after: int | None = None
        """Bytes of a file after which nothing more comes, until `go_on`."""
        self.cut_after: int | None = None
        """Bytes of a file after which its connection is closed."""
        self.status: int | None = None
        """What is answered in place of anything else."""
        self.body: bytes | None = None
        """What is answered in place of all that is about the repository."""
        self.go_on = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve a repository on a free port."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:  # the library's name
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        about = f"/api/models/{REPOSITORY}"
        if self.hub.status is not None:
            self._head(self.hub.status, 0)
        elif self.hub.body is not None and path.startswith(about):
            self._head(200, len(self.hub.body))
            self.wfile.write(self.hub.body)
        elif path == about or path.startswith(f"{about}/revision/"):
            revision = path.removeprefix(about).removeprefix("/revision/") or "main"
            known = revision in {*self.hub.revisions, COMMIT}
            content = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.hub.files]}
            self._json(content) if known else self._missing("RevisionNotFound")
        elif path.startswith(f"{about}/tree/{COMMIT}"):
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.hub.files.items()
                ]
            )
        elif path.startswith(file := f"/{REPOSITORY}/resolve/{COMMIT}/") and path.removeprefix(file) in self.hub.files:
            self._file(path.removeprefix(file), body=body)
        else:
            self._missing("RepoNotFound")

    def _json(self, content: object) -> None:
        data = json.dumps(content).encode()
        self._head(200, len(data))
        self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self._head(404, 0, {"X-Error-Code": code})

    def _file(self, name: str, *, body: bool) -> None:
        data = self.hub.files[name]
        begin, end = 0, len(data)
        if wanted := self.headers.get("Range"):
            self.hub.ranges.append(wanted)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1, end) if last else end
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        self._head(206 if wanted else 200, end - begin, headers)
        if body:
            self._send(name, data[begin:end])

    def _send(self, name: str, data: bytes) -> None:
        sent = 0
        for place in range(0, len(data), _PIECE):
            if self.hub.stop_after is not None and sent >= self.hub.stop_after:
                self.wfile.flush()
                self.hub.go_on.wait()
                self.close_connection = True
                return
            if self.hub.cut_after is not None and sent >= self.hub.cut_after:
                self.close_connection = True
                return
            piece = data[place : place + _PIECE]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            sent += len(piece)
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(piece)
            time.sleep(self.hub.pause_s)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
