"""A model hub on this machine: the part of huggingface.co's protocol that fetching files needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


@dataclass
class Hub:
    """Repositories by name, each with its files, and how the server misbehaves.

    Attributes:
        url: for `HF_ENDPOINT`.
        files: content by file, by repository.
        gated: repositories that want a token.
        revisions: that every repository has, beside the newest.
        cut_after: a transfer ends after so many bytes, and so do those that continue it.
        hashes: SHA-256 that is stated for a file in place of its own.
        sizes: number of bytes that is stated for a file in place of its own.
        small: files that git keeps itself, which have no SHA-256.
        ranges: the `Range` headers of downloads, in order; empty where there was none.
        downloads: files that were asked for, in order.
    """

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=lambda: {"main", COMMIT})
    cut_after: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    small: set[str] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)

    def sibling(self, name: str, content: bytes) -> dict[str, Any]:
        """What the hub says about a file."""
        n_bytes = self.sizes.get(name, len(content))
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": n_bytes, "blobId": blob_id}
        if name not in self.small:
            digest = self.hashes.get(name, hashlib.sha256(content).hexdigest())
            entry["lfs"] = {"sha256": digest, "size": n_bytes, "pointerSize": 130}
        return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        else:
            self._refuse(404, "EntryNotFound")

    def _may_see(self, repository: str, revision: str) -> bool:
        if repository not in self.hub.files:
            self._refuse(401, "RepoNotFound")
        elif repository in self.hub.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._refuse(401, "GatedRepo")
        elif revision not in self.hub.revisions:
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _info(self, repository: str, revision: str) -> None:
        if not self._may_see(repository, revision):
            return
        siblings = [self.hub.sibling(*item) for item in self.hub.files[repository].items()]
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _file(self, repository: str, revision: str, name: str) -> None:
        if not self._may_see(repository, revision):
            return
        content = self.hub.files[repository].get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        asked = self.headers["Range"] or ""
        self.hub.ranges.append(asked)
        self.hub.downloads.append(name)
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(match[1]) if match else 0
        headers = {"ETag": f'"{self.hub.sibling(name, content)["blobId"]}"', "X-Repo-Commit": COMMIT}
        if match:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if match else 200, content[start:], headers, self.hub.cut_after)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b'{"error": "no"}', {"X-Error-Code": code, "Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:limit])
        if limit is not None and limit < len(body):
            self.close_connection = True


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A running hub without repositories."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
