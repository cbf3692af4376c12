"""Signatures of bundles by OpenSSF model signing (the extra `sign`): a key's holder vouches for every byte.

All of it works offline, with elliptic-curve keys in PEM files. The signature, `model.sig`, is what the command
``model_signing sign key`` writes, and ``model_signing verify key`` checks it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.validation.records import sha256_of_file
from llorch.validation.sums import SIGNATURE

HOW_TO_GET = "signatures need the package model-signing: pip install 'llorch[sign]'"
_KEY_BYTES_AT_MOST = 1 << 16
_SIGNATURE_BYTES_AT_MOST = 4 << 20


def signer(private_key: Path) -> Callable[[Path], None]:
    """What signs a folder with a private key, which is read now, before any work.

    Raises:
        InputError: the extra is missing, or the key cannot be used.
    """
    signing, _, hashing = _model_signing()
    _require_key(private_key, "--sign")
    with _quiet():
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=private_key)
        except TypeError:
            raise InputError(
                f"--sign {printable(private_key)}: the key is protected by a password; give one that is not, or "
                f"sign the bundle with `model_signing sign key --password`"
            ) from None
        except Exception as error:
            raise InputError(
                f"--sign {printable(private_key)}: no private elliptic-curve key in PEM ({error})"
            ) from None

    def sign(folder: Path) -> None:
        partial = folder.with_name(f".{folder.name}.{SIGNATURE}-{secrets.token_hex(8)}")
        ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
        try:
            with _quiet():
                config.set_hashing_config(ignored).sign(folder, partial)
            partial.rename(folder / SIGNATURE)
        except OSError:
            raise
        except Exception as error:
            raise InputError(f"{printable(folder)} could not be signed: {error}") from None
        finally:
            partial.unlink(missing_ok=True)

    return sign


def signature_problems(folder: Path, public_key: Path, expected: set[str]) -> list[str]:
    """What is wrong with the signature of a bundle; none when the key's holder signed all of these files.

    Args:
        folder: a bundle of regular files.
        public_key: a PEM file.
        expected: names of the files that a signature must cover.

    Raises:
        InputError: the extra is missing, or the key cannot be used.
    """
    _, verifying, hashing = _model_signing()
    _require_key(public_key, "--verify-key")
    path = folder / SIGNATURE
    if not path.exists():
        return [f"{SIGNATURE} is missing: the bundle is not signed"]
    if path.stat().st_size > _SIGNATURE_BYTES_AT_MOST:
        return [f"{SIGNATURE} is larger than {_SIGNATURE_BYTES_AT_MOST >> 20} MiB"]
    with _quiet():
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        except Exception as error:
            raise InputError(
                f"--verify-key {printable(public_key)}: no public elliptic-curve key in PEM ({error})"
            ) from None
        ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
        try:
            config.set_hashing_config(ignored).verify(folder, path)
        except Exception as error:
            reason = " ".join(str(error).split())
            if reason.startswith("Signature mismatch"):  # it is the key's, but made over other files
                reason = f"was made over other content of {', '.join(_changed(folder, _signed(path)))}"
                return [f"{SIGNATURE} {reason}"]
            return [
                f"{SIGNATURE} does not hold for {printable(public_key)}: {reason[:300] or type(error).__name__}"
            ]
    return [f"{SIGNATURE} does not cover {name}" for name in sorted(expected - _signed(path).keys())]


def _signed(path: Path) -> dict[str, str]:
    """SHA-256 by name of the files that a signature, which was found to be the key's, is about."""
    try:
        envelope = json.loads(path.read_bytes())["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        return {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}
    except (KeyError, TypeError, ValueError):
        return {}  # an early form of signatures, which names no file


def _changed(folder: Path, signed: dict[str, str]) -> list[str]:
    """Names of files that are not as they were signed: altered, added or gone."""
    present = {entry.name: sha256_of_file(folder / entry.name) for entry in os.scandir(folder)}
    del present[SIGNATURE]
    return sorted(name for name in present.keys() | signed.keys() if present.get(name) != signed.get(name))


def _model_signing() -> tuple[Any, Any, Any]:
    try:
        with _quiet():
            from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise InputError(f"{HOW_TO_GET} ({error})") from None
    return signing, verifying, hashing


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off stdout what the package prints there: `--json` promises one document and nothing else."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _require_key(path: Path, flag: str) -> None:
    try:
        if not path.is_file():
            raise InputError(f"{flag} {printable(path)}: there is no such file")
        if path.stat().st_size > _KEY_BYTES_AT_MOST:
            raise InputError(
                f"{flag} {printable(path)}: is larger than {_KEY_BYTES_AT_MOST >> 10} KiB, which no key is"
            )
        path.read_bytes()
    except OSError as error:
        raise InputError(f"{flag} {printable(path)} cannot be read: {error.strerror}") from None
