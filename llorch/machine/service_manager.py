"""What a service manager is told about this process (systemd's `Type=notify`)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*lines: str) -> None:
    """Send lines such as ``"READY=1"`` to the service manager, if one has asked for them; it need not listen.

    A line stays one, whatever it holds: the name of a model may come from a stranger's file.

    Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # a name in the abstract namespace, which begins with NUL
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(" ".join(line.split()) for line in lines).encode(errors="replace"), address)
