"""The steps of `tools/deploy/Dockerfile`, followed without Docker: each stage is a root of its own (overlayfs).

This machine's file system stands in for the base image; nothing of it is changed. All of it lies in the mounts of one
process, and is gone with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.conftest import REPOSITORY
from tests.support.commands import wait_for
from tests.support.deployment import copied_into_the_build, dockerfile, image_environment

UNKNOWN_USER = "54321:54321"
BASE_PATH = "/usr/local/bin:/usr/bin:/bin"
STEP_S = 900
"""Packages of 200 MB are fetched and unpacked, on a machine that may have other work."""
_HIDDEN = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")


class Image:
    """What the Dockerfile makes of this machine's Python. Needs root, and the right to mount."""

    def __init__(self, scratch: Path) -> None:
        """Follow all instructions.

        Args:
            scratch: an empty folder; stays empty for everybody else.
        """
        if os.geteuid() != 0 or shutil.which("nsenter") is None:
            pytest.skip("only root can mount the stages of an image")
        self._scratch = scratch
        context = scratch / "context"
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                f"mount -t tmpfs none {scratch} && mkdir {context} && exec sleep 3600",
            ]
        )
        try:
            wait_for(lambda: self._is_mounted(context) or self._holder.poll() is not None)
            if self._holder.poll() is not None:
                pytest.skip("mounting is not allowed here")
            self._copy_context(context)
            self._follow(context)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let everything go."""
        self._holder.kill()
        self._holder.wait()

    def command(
        self, words: Sequence[str], variables: Mapping[str, str], *, as_process_1: bool = False
    ) -> list[str]:
        """What runs `words` in the image as a user that it does not know, on a read-only root."""
        root = self._root(self._last_stage)
        environment = {**image_environment(), **variables}
        environment["PATH"] = environment["PATH"].replace("$PATH", BASE_PATH)
        new_processes = ["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc"]
        return [
            *self._inside(),
            *(new_processes if as_process_1 else []),
            *("chroot", f"--userspec={UNKNOWN_USER}", "--groups=", root, "/usr/bin/env", "-i"),
            *(f"{name}={value}" for name, value in environment.items()),
            *words,
        ]

    def stat(self, path: str) -> str:
        """Mode and owner of a path in the image, such as ``"700 54321"``."""
        return self._output("stat", "-c", "%a %u", f"{self._root(self._last_stage)}{path}").strip()

    def files(self, path: str) -> list[str]:
        """The files below a path of the image."""
        return self._output("find", f"{self._root(self._last_stage)}{path}", "-type", "f").splitlines()

    def _follow(self, context: Path) -> None:
        folder, stage = "/", -1
        volumes = []
        for instruction in dockerfile():
            if instruction.stage != stage:
                stage, folder = instruction.stage, "/"
                self._begin_stage(stage)
            match instruction.keyword:
                case "WORKDIR":
                    folder = instruction.argument
                    self._run("mkdir", "-p", f"{self._root(stage)}{folder}")
                case "COPY":
                    self._copy(instruction.words, stage, folder, context)
                case "RUN":
                    self._run(
                        "chroot", self._root(stage), "sh", "-ec", f"cd {folder}; {instruction.argument}"
                    )
                case "VOLUME":
                    volumes.append(instruction.argument)
                case (
                    "ARG"
                    | "FROM"
                    | "LABEL"
                    | "ENV"
                    | "EXPOSE"
                    | "USER"
                    | "HEALTHCHECK"
                    | "ENTRYPOINT"
                    | "CMD"
                ):
                    pass
                case other:
                    raise NotImplementedError(other)
        self._last_stage = stage
        root = self._root(stage)
        for volume in volumes:  # a volume begins as a copy of the image's folder
            mode = self.stat(volume).split()[0]
            self._run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "none", f"{root}{volume}")
        self._run("mount", "-o", "remount,ro", root)

    def _begin_stage(self, stage: int) -> None:
        """A root with a `python` that every user can run, as in the image that it stands for."""
        python = Path(sys.base_prefix).resolve() / "bin" / f"python3.{sys.version_info.minor}"
        root, upper, work = self._root(stage), f"{self._scratch}/upper{stage}", f"{self._scratch}/work{stage}"
        closed = [str(folder) for folder in python.parents if not folder.stat().st_mode & 0o001]
        self._run("mkdir", root, upper, work)
        self._run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "none", root)
        self._run("mount", "-t", "proc", "none", f"{root}/proc")
        for folder in ("/dev", "/sys"):
            self._run("mount", "--rbind", folder, f"{root}{folder}")
        for folder in closed:
            self._run("chmod", "o+x", f"{root}{folder}")
        self._run("ln", "-sf", str(python), f"{root}/usr/local/bin/python")

    def _copy(self, words: list[str], stage: int, folder: str, context: Path) -> None:
        *sources, target = words
        place = f"{self._root(stage)}{target if target.startswith('/') else f'{folder}/{target}'}"
        base = str(context)
        if sources[0].startswith("--from="):
            assert sources.pop(0) == "--from=build"
            base = self._root(0)
        if target.endswith("/"):
            self._run("mkdir", "-p", place)
        for source in sources:
            path = f"{base}/{source.lstrip('/')}"
            is_folder = "." not in Path(source).name and not target.endswith("/")
            self._run("cp", "-aT" if is_folder else "-a", path, place)

    def _copy_context(self, context: Path) -> None:
        """What the ignore file lets through."""
        for name in sorted(copied_into_the_build()):
            target = context / name
            self._run("mkdir", "-p", str(target.parent))
            self._run("cp", "-rT", str(REPOSITORY / name), str(target))
        self._run("find", str(context), "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+")

    def _is_mounted(self, context: Path) -> bool:
        return subprocess.run([*self._inside(), "test", "-d", str(context)], check=False).returncode == 0

    def _root(self, stage: int) -> str:
        return f"{self._scratch}/stage{stage}"

    def _inside(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]

    def _run(self, *words: str) -> None:
        self._output(*words)

    def _output(self, *words: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
        done = subprocess.run(
            [*self._inside(), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        if re.search("No matching distribution|Temporary failure in name resolution", done.stderr):
            pytest.skip("there is no package index")
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout
