"""The chat page over HTTP: what `GET /` and the files below `/page/` answer, with and without a key, on and off."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.server.routes.page import page_files
from tests.conftest import REPOSITORY
from tests.support.live_server import LiveServer
from tests.support.raw_http import body_of, exchange, headers_of, request, status_of

PAGE = REPOSITORY / "llorch" / "server" / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
MAX_LINES = 300
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
}  # fmt: skip


def path_of(file: Path) -> str:
    return "/" if file.name == "index.html" else f"/page/{file.name}"


@pytest.fixture(scope="module")
def guarded(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a key and a page."""
    log = tmp_path_factory.mktemp("page") / "log"
    live = LiveServer(long_model, log, LLORCH_API_KEY="sesame").wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.fixture(scope="module")
def without_page(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("no-page") / "log"
    live = LiveServer(long_model, log, "--no-webui").wait_until_ready()
    yield live
    assert live.stop() == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_opens_without_a_key_as_what_it_is(guarded: LiveServer, file: Path) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    answer = guarded.get(path_of(file))
    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["content-type"].split(";")[0] == kinds[file.suffix]
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


def test_the_page_needs_no_key_and_everything_that_it_asks_for_does(guarded: LiveServer) -> None:
    for path in (
        "/v1/models",
        "/props",
        "/slots",
        "/docs",
        "/page/",
        "/page",
        "/page/nothing.js",
        "/index.html",
    ):
        assert guarded.get(path).status_code == 401, path
    assert guarded.post("/v1/chat/completions", json={}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_head_says_what_get_would_and_sends_no_body(server: LiveServer, path: str) -> None:
    whole = exchange(server.port, request("GET", path, "Connection: close"))
    head = exchange(server.port, request("HEAD", path, "Connection: close"))
    assert status_of(whole) == status_of(head) == 200
    assert body_of(head) == b""
    differing = {"date", "x-request-id"}
    assert {k: v for k, v in headers_of(head).items() if k not in differing} == {
        k: v for k, v in headers_of(whole).items() if k not in differing
    }


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/base.css"])
def test_a_file_that_the_browser_has_is_not_sent_again(server: LiveServer, path: str) -> None:
    etag = server.get(path).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = server.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "no-cache"
    assert server.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page",
        "/page/../main.js",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/main.js/",
        "/page/x.js",
    ],
)
def test_there_is_nothing_else_below_the_page(server: LiveServer, path: str) -> None:
    assert status_of(exchange(server.port, request("GET", path, "Connection: close"))) == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_page_is_only_read(server: LiveServer, method: str) -> None:
    answer = exchange(server.port, request(method, "/", "Connection: close"))
    assert status_of(answer) == 405
    assert set(headers_of(answer)["allow"].split(", ")) == {"GET", "HEAD"}


def test_a_server_without_page_has_none(without_page: LiveServer) -> None:
    for file in FILES:
        assert without_page.get(path_of(file)).status_code == 404
    assert without_page.get("/props").json()["ui"] is False
    assert without_page.get("/v1/models").status_code == 200


def test_the_page_is_in_no_api_description(server: LiveServer) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/page")]
    assert server.get("/props").json()["ui"] is True


def test_a_foreign_host_name_does_not_get_the_page(server: LiveServer) -> None:
    answer = exchange(server.port, request("GET", "/", "Connection: close", host="evil.example"))
    assert status_of(answer) == 403


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_names_another_host_or_brings_inline_code(file: Path) -> None:
    text = file.read_text("utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"'`)]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name of a language, not an address
    assert "@import" not in text
    assert not re.search(
        r"\binnerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    if file.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_are_short_and_say_what_they_are_for(file: Path) -> None:
    lines = file.read_text("utf-8").splitlines()
    assert len(lines) < MAX_LINES
    if file.suffix in (".js", ".css"):
        assert lines[0].startswith(("// ", "/* "))


def test_every_file_is_used_and_every_file_used_is_there() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    used = set(re.findall(r"(?:href|src)=\"page/([\w.]+)\"", html)) | {"index.html"}
    scripts = [name for name in used if name.endswith(".js")]
    while scripts:
        source = (PAGE / scripts.pop()).read_text("utf-8")
        new = set(re.findall(r"from \"\./([\w.]+)\"", source)) - used
        used |= new
        scripts += new
    assert used == {file.name for file in FILES}
    assert set(page_files()) == {path_of(file) for file in FILES}
    symbols = set(re.findall(r"<symbol id=\"([\w-]+)\"", html))
    asked = set(re.findall(r"\"(i-[\w]+)\"", "".join(file.read_text("utf-8") for file in FILES)))
    assert asked == symbols


@pytest.mark.slow
def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(REPOSITORY)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("llorch/server/page/")}
        assert packed == {f"llorch/server/page/{file.name}" for file in FILES}
