"""Unix sockets: a dead server's is replaced, a living one's is not, and none is left behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from llorch.errors import InputError
from llorch.fields.hosts import socket_path
from llorch.server.listen import are_local, bind, urls_of
from llorch.server.unix_socket import removed_at_exit


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("/run/llorch.sock", "/run/llorch.sock"),
        ("unix:/run/llorch", "/run/llorch"),
        ("unix:llorch", "llorch"),
        ("llorch.sock", "llorch.sock"),
        ("./llorch", "./llorch"),
        ("127.0.0.1", None),
        ("::1", None),
        ("llorch.example", None),
    ],
)
def test_a_host_that_is_a_path_is_a_socket(host: str, path: str | None) -> None:
    assert socket_path(host) == path


@pytest.mark.parametrize(("mode", "bits"), [("600", 0o600), ("660", 0o660), ("666", 0o666)])
def test_only_those_of_its_mode_may_connect(tmp_path: Path, mode: str, bits: int) -> None:
    path = tmp_path / "a.sock"
    before = os.umask(0o022)
    try:
        with bind(str(path), 0, mode)[0] as listener:
            assert stat.S_IMODE(path.stat().st_mode) == bits
            assert urls_of([listener]) == [f"unix:{path}"]
            assert not are_local([listener])
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    bind(str(path), 0)[0].close()
    assert path.exists()
    with bind(str(path), 0)[0], socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_living_server_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with bind(path, 0)[0] as listener:
        for _ in range(2):
            with pytest.raises(InputError, match=r"a\.sock: another process listens there"):
                bind(path, 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            listener.accept()[0].close()


def test_a_server_whose_queue_is_full_lives(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen(0)
        client.connect(path)
        with pytest.raises(InputError, match="another process listens there"):
            bind(path, 0)


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.sock"
    path.write_text("mine")
    link = tmp_path / "link.sock"
    link.symlink_to(path)
    for taken in (path, link):
        with pytest.raises(InputError, match="something that is no socket is there"):
            bind(str(taken), 0)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere/at/all.sock", "No such file or directory"),
        ("/" + "x" * 200 + ".sock", "more than 107 bytes"),
        ("a\0.sock", "null"),
    ],
)
def test_a_path_where_no_socket_can_be_is_refused_in_one_line(path: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        bind(path, 0)


def test_the_socket_is_removed_at_the_end_unless_it_is_anothers(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listener = bind(str(path), 0)[0]
    with removed_at_exit([listener]):
        listener.close()  # as the server does before it ends
    assert not path.exists()
    old = bind(str(path), 0)[0]
    with removed_at_exit([old]):
        old.close()
        keeper = path.with_name("b.sock")
        path.rename(keeper)  # so that its inode is not used again
        new = bind(str(path), 0)[0]
    assert path.exists()
    new.close()
