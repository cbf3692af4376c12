"""Models of a hub that speaks the protocol of huggingface.co; `huggingface_hub` heeds `HF_ENDPOINT` and `HF_TOKEN`.

Its `http_get` is used below its caches, which in newer releases begin a file anew in each process.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llorch.errors import InputError, LlorchError, PullError, shown
from llorch.progress import Progress
from llorch.pulled.contents import MAX_SIDE_BYTES, is_side_file, main_file, other_files, stale_files
from llorch.pulled.folder import Pulled, digest_of, put_in_place, require_space, unfinished_folder
from llorch.pulled.names import DIRECTORY, HubName, check_file_name, choose_file

_DIGEST = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    """A file as the hub describes it; `digest` is its SHA-256, or git's SHA-1 of a small file."""

    name: str
    n_bytes: int
    digest: str

    @property
    def has_sha256(self) -> bool:
        """Whether `digest` is a SHA-256."""
        return len(self.digest) == 64

    def check(self, wanted: HubName) -> None:
        """Refuse a name that leads elsewhere, and what the hub does not describe.

        Raises:
            InputError: the name is no plain relative path.
            PullError: size or hash are missing, or the size cannot be.
        """
        check_file_name(self.name)
        if self.n_bytes <= 0 or _DIGEST.fullmatch(self.digest) is None:
            raise PullError(f"{wanted}: the hub says no size or no hash of {shown(self.name)}")
        if is_side_file(self.name) and self.n_bytes > MAX_SIDE_BYTES:
            raise PullError(
                f"{wanted}: {shown(self.name)} has {self.n_bytes:,} bytes; at most {MAX_SIDE_BYTES:,} are fetched"
            )

    def fault(self, path: Path, progress: Progress) -> str:
        """Why `path` is not this file, or nothing."""
        if path.stat().st_size != self.n_bytes:
            return f"{path.stat().st_size:,} bytes, expected {self.n_bytes:,}"
        digest = hashlib.sha256() if self.has_sha256 else hashlib.sha1(b"blob %d\0" % self.n_bytes)
        found = digest_of(path, digest, progress)
        return "" if found == self.digest else f"hash {found}, expected {self.digest}"


class _ReportingFile(io.BufferedRandom):
    """A file to append to that tells how far it is."""

    def __init__(self, path: Path, n_bytes: int, progress: Progress) -> None:
        super().__init__(io.FileIO(path, "r+" if path.exists() else "w+"))
        self.seek(0, os.SEEK_END)
        self._n_bytes, self._progress = n_bytes, progress

    def write(self, data: Any) -> int:
        """Append `data`, if it belongs to the file."""
        if self.tell() + len(data) > self._n_bytes:
            raise PullError(f"the hub sends more than the {self._n_bytes:,} bytes that it announced")
        n_bytes = super().write(data)
        self._progress("downloading", self.tell(), self._n_bytes)
        return n_bytes


def pull_from_hub(wanted: HubName, progress: Progress) -> Pulled:
    """Fetch a model, unless it is there; what an interrupted call has fetched is not fetched again.

    The file that makes a model of the others, such as the first part or an index, is put in place last.

    Raises:
        InputError: the hub has no such model, or not for this user; or the folder of the models cannot be used.
        PullError: the model could not be fetched, or is not what it should be.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            f"{wanted} is on a model hub, which needs huggingface_hub: pip install 'llorch[hub]'"
        )
    commit, files = _ask(wanted, progress)
    chosen = choose_file(files, wanted)
    main, folder = files[main_file(chosen, files)], wanted.folder
    was_there = False
    if not _late([main], folder, progress):
        others = _others(wanted, main, folder / main.name, files)
        was_there = not _late(others, folder, progress)
    if not was_there:
        with unfinished_folder(folder, progress, resumes=True) as unfinished:
            others = _complete(wanted, commit, main, files, unfinished, progress)
    n_bytes = main.n_bytes + sum(part.n_bytes for part in others)
    if chosen == DIRECTORY:
        return Pulled(folder, None, n_bytes, was_there)
    sha256 = main.digest if main.has_sha256 else digest_of(folder / chosen, hashlib.sha256(), progress)
    return Pulled(folder / chosen, sha256, n_bytes, was_there)


def _complete(
    wanted: HubName,
    commit: str,
    main: _RemoteFile,
    files: dict[str, _RemoteFile],
    unfinished: Path,
    progress: Progress,
) -> list[_RemoteFile]:
    """Fetch what is not there of the model of the file `main`; its other files."""
    folder = wanted.folder
    # another process may have fetched it while this one waited
    late_main = _late([main], folder, progress)
    path = _fetch(wanted, commit, main, unfinished, progress) if late_main else folder / main.name
    others = _others(wanted, main, path, files)
    late = _late(others, folder, progress)
    require_space(unfinished, sum(part.n_bytes - _have(part, unfinished) for part in late))
    fetched = [(_fetch(wanted, commit, part, unfinished, progress), part) for part in late]
    if len(late) + len(late_main) > 1 and (folder / main.name).exists():  # no model until all are there
        if late_main:
            (folder / main.name).unlink()
        else:
            path, late_main = unfinished / main.digest, [main]
            os.replace(folder / main.name, path)
    for part_path, part in [*fetched, *((path, part) for part in late_main)]:
        put_in_place(part_path, folder / part.name)
    for stale in stale_files(main.name, {main.name, *(part.name for part in others)}, folder):
        stale.unlink()
    return others


def _others(
    wanted: HubName, main: _RemoteFile, path: Path, files: dict[str, _RemoteFile]
) -> list[_RemoteFile]:
    """The files that belong to the model of the file `main`, whose content is at `path`."""
    names = other_files(main.name, path, files)
    if missing := [name for name in names if name not in files]:
        raise InputError(f"{wanted} lacks parts of {main.name}: {', '.join(missing[:3])}")
    for name in names:
        files[name].check(wanted)
    return [files[name] for name in names]


def _late(parts: list[_RemoteFile], folder: Path, progress: Progress) -> list[_RemoteFile]:
    """Those of `parts` that are not in `folder`, or are another file there."""
    paths = [folder / part.name for part in parts]
    return [p for p, path in zip(parts, paths, strict=True) if not path.is_file() or p.fault(path, progress)]


def _ask(wanted: HubName, progress: Progress) -> tuple[str, dict[str, _RemoteFile]]:
    """The commit of a repository, and its files by name."""
    from huggingface_hub import HfApi

    progress(f"asking for {wanted}", 0, 0)
    with _plain_errors(str(wanted)):
        info = HfApi(library_name="llorch").model_info(
            wanted.repository, revision=wanted.revision, files_metadata=True, timeout=60
        )
    files = {}
    for file in info.siblings or ():
        name, digest = str(file.rfilename), str(file.lfs.sha256 if file.lfs else file.blob_id)
        files[name] = _RemoteFile(name, file.size if isinstance(file.size, int) else -1, digest)
        if name.lower().endswith((".gguf", ".onnx", ".safetensors")):
            files[name].check(wanted)
    return str(info.sha), files


def _have(file: _RemoteFile, folder: Path) -> int:
    """Bytes of a file that an earlier call has left in `folder`."""
    path = folder / file.digest
    return path.stat().st_size if path.exists() else 0


def _fetch(wanted: HubName, commit: str, file: _RemoteFile, folder: Path, progress: Progress) -> Path:
    """A whole file in `folder`, continued where an earlier call has left it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    path = folder / file.digest  # what is kept is of this very content
    have = _have(file, folder)
    require_space(folder, file.n_bytes - have)
    with _ReportingFile(path, file.n_bytes, progress) as out, _plain_errors(str(wanted)):
        http_get(
            hf_hub_url(wanted.repository, file.name, revision=commit),
            out,
            resume_size=have,
            headers=build_hf_headers(library_name="llorch"),
            expected_size=file.n_bytes,
        )
    if fault := file.fault(path, progress):
        path.unlink()
        raise PullError(f"{wanted}: {file.name} is not the expected file: {fault}")
    return path


@contextlib.contextmanager
def _plain_errors(what: str) -> Iterator[None]:
    """Errors of `huggingface_hub`, and of the HTTP library beneath, as one line."""
    from huggingface_hub import errors

    try:
        yield
    except LlorchError:
        raise
    except errors.GatedRepoError:
        raise InputError(
            f"{what}: accept its licence on the hub, then put your token into HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{what}: the hub has no such repository, or not without a token (HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{what}: the repository has no such revision") from None
    except Exception as error:  # of whichever HTTP library the installed release uses
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise PullError(f"{what} could not be fetched: {said}") from None
