"""A real server that speaks TLS: streams, clients that leave or send too much, and what SIGHUP renews."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import Pair, make_pair
from tests.support.live_server import WAIT_S, LiveServer, events
from tests.support.raw_http import body_of, generation, read_to_end, request, status_of

LONG = {"prompt": "Hello", "max_tokens": 60_000, "ignore_eos": True}
KEYS = "alice: sesame\nbob: tahini\n"


@dataclass(frozen=True)
class Secured:
    live: LiveServer
    keys: Path
    pair: Pair
    folder: Path

    def hang_up(self, expected: str) -> None:
        """Have files read again, and wait for a line of the log."""
        after = len(self.live.log)
        self.live.process.send_signal(signal.SIGHUP)
        self.live.wait_for_log(expected, after=after)


@pytest.fixture(scope="module")
def secured(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    keys = folder / "keys"
    keys.write_text(KEYS)
    pair = make_pair(folder, "first")
    live = LiveServer(long_model, folder / "log", "-np", "2", "--api-key-file", str(keys), *pair.flags)
    yield Secured(live.wait_until_ready(), keys, pair, folder)
    assert live.stop() == 0


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def connect(secured: Secured) -> ssl.SSLSocket:
    """A connection that trusts the first certificate alone."""
    context = ssl.create_default_context(cafile=str(secured.pair.cert))
    plain = socket.create_connection(("127.0.0.1", secured.live.port), timeout=WAIT_S)
    return context.wrap_socket(plain, server_hostname="localhost")


def answer_from(client: socket.socket) -> bytes:
    """An answer whose body comes in one piece, on a connection that stays open."""
    answer = client.recv(65536)
    while not body_of(answer):
        answer += client.recv(65536)
    return answer


def subject_now(secured: Secured) -> str:
    """Who a new connection is answered by."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", secured.live.port), timeout=WAIT_S)
    with context.wrap_socket(plain) as client:
        certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return next(name for name in ("first", "second") if name.encode() in certificate)


def test_the_url_says_https_and_a_client_that_trusts_the_certificate_streams(secured: Secured) -> None:
    assert secured.live.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(secured.pair.cert))
    with httpx.Client(
        verify=context, base_url=f"https://localhost:{secured.live.port}", timeout=WAIT_S
    ) as client:
        body = {"prompt": "Hello", "max_tokens": 3}
        with client.stream("POST", "/generate", json=body, headers=bearer("sesame")) as answer:
            assert [name for name, _ in events(answer.iter_lines())][-1] == "end"


def test_a_connection_serves_several_requests_over_a_modern_protocol(secured: Secured) -> None:
    with connect(secured) as client:
        assert client.version() in ("TLSv1.2", "TLSv1.3")
        for _ in range(2):
            client.sendall(request("GET", "/health"))
            assert status_of(answer_from(client)) == 200


def test_plain_http_is_no_request_and_leaves_no_trace(secured: Secured) -> None:
    before = len(secured.live.log)
    with socket.create_connection(("127.0.0.1", secured.live.port), timeout=WAIT_S) as client:
        client.sendall(request("GET", "/health"))
        with contextlib.suppress(ConnectionResetError):
            assert not client.recv(65536).startswith(b"HTTP/")
    secured.live.assert_alive()
    assert "Traceback" not in secured.live.log[before:]


def test_clients_that_never_finish_the_handshake_keep_nobody_out(secured: Secured) -> None:
    with contextlib.ExitStack() as stack:
        for i in range(40):
            silent = socket.create_connection(("127.0.0.1", secured.live.port), timeout=WAIT_S)
            stack.enter_context(silent)
            if i % 2:
                silent.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # the beginning of a ClientHello
        secured.live.assert_alive()
    secured.live.assert_alive()


@pytest.mark.parametrize("is_polite", [True, False], ids=["close_notify", "half-closed"])
def test_a_client_that_leaves_ends_its_generation(secured: Secured, is_polite: bool) -> None:
    before = len(secured.live.log)
    client = connect(secured)
    body = json.dumps(LONG).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}", "X-Api-Key: sesame")
    client.sendall(request("POST", "/generate", *head, body=body))
    assert b"200" in client.recv(65536)
    if is_polite:
        client.close()
    else:
        client.shutdown(socket.SHUT_WR)
    secured.live.wait_for_log(r"of alice: (client left|abort)", after=before)
    client.close()
    assert "eof_received" not in secured.live.log[before:]


def test_an_answer_before_the_whole_body_can_be_read_by_a_client_that_sends_all_first(
    secured: Secured,
) -> None:
    size = 4 << 20
    head = ("Content-Type: application/json", f"Content-Length: {size}", "X-Api-Key: sesame")
    with connect(secured) as client:
        client.sendall(request("POST", "/generate", *head))
        chunk = b" " * 65536
        for _ in range(size // len(chunk)):
            client.sendall(chunk)
        answer = answer_from(client)
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()


def test_a_connection_that_ends_is_closed_by_the_server(secured: Secured) -> None:
    with connect(secured) as client:
        client.sendall(generation("1.0", prompt="Hello"))  # without a key
        assert status_of(read_to_end(client)) == 401


def test_keys_are_read_again_and_running_requests_stay(secured: Secured) -> None:
    live = secured.live
    body = {"prompt": "Hello", "max_tokens": 1, "stream": False}
    with live.stream("/generate", json={**LONG, "job_id": "kept"}, headers=bearer("tahini")) as answer:
        stream = events(answer.iter_lines())
        assert next(stream)[0] == "started"
        secured.keys.write_text("alice: poppy\ncarol: almond\n")
        secured.hang_up("replaced: alice; added: carol; removed: bob")
        status = {
            key: live.post("/generate", json=body, headers=bearer(key)).status_code
            for key in ("sesame", "poppy", "almond", "tahini")
        }
        assert status == {"sesame": 401, "poppy": 200, "almond": 200, "tahini": 401}
        assert next(stream)[0] == "token"  # whoever began may finish
        secured.keys.write_text("")
        secured.hang_up(r"ERROR what was read before stays in use: api_key_file .*the key is empty")
        assert live.post("/generate", json=body, headers=bearer("poppy")).status_code == 200
        assert next(stream)[0] == "token"
    secured.keys.write_text(KEYS)
    secured.hang_up("2 API keys read")
    assert not any(key in live.log for key in ("sesame", "poppy", "almond", "tahini"))


def test_a_renewed_certificate_is_used_for_new_connections(secured: Secured) -> None:
    renewed = make_pair(secured.folder, "second")
    kept = {path: path.read_bytes() for path in (secured.pair.cert, secured.pair.key)}
    with connect(secured) as client:
        assert subject_now(secured) == "first"
        shutil.copy(renewed.cert, secured.pair.cert)
        secured.hang_up("ERROR what was read before stays in use: .*does not belong to the certificate")
        assert subject_now(secured) == "first"
        shutil.copy(renewed.key, secured.pair.key)
        secured.hang_up("the certificate was read again")
        assert subject_now(secured) == "second"
        client.sendall(request("GET", "/health"))  # an open connection goes on
        assert status_of(answer_from(client)) == 200
    for path, content in kept.items():
        path.write_bytes(content)
    secured.hang_up("the certificate was read again")
