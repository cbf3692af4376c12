"""TLS: the server's certificate and its key, checked before anything listens, and read again when they are renewed."""

from __future__ import annotations

import logging
import os
import ssl
import stat

from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.settings import Settings

logger = logging.getLogger(__name__)

MAX_PEM_BYTES = 1 << 20
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"


class _EncryptedKeyError(Exception):
    """OpenSSL asks for a password."""


class Certificate:
    """The certificate that the settings name, in a context for the connections to come.

    Attributes:
        context: what the listening sockets use; TLS 1.2 or newer.
    """

    def __init__(self, settings: Settings) -> None:
        """Read certificate and key.

        Raises:
            InputError: one of them cannot be read or used, or they do not belong together.
        """
        assert settings.ssl_cert_file is not None
        assert settings.ssl_key_file is not None
        self._cert_file, self._key_file = settings.ssl_cert_file, settings.ssl_key_file
        self._shown_cert, self._shown_key = printable(self._cert_file), printable(self._key_file)
        self.context = self._made()
        if os.stat(self._key_file).st_mode & stat.S_IROTH:
            logger.warning("everybody on this machine can read the key in %s; chmod o-r", self._shown_key)

    def reload(self) -> None:
        """Read both again, for connections to come; open ones keep what they have.

        Raises:
            InputError: as for the first time; the old ones stay in use.
        """
        self._made()  # a context that was given half of a pair could not be used any more
        self.context.load_cert_chain(self._cert_file, self._key_file, _no_password)
        logger.info("the certificate was read again from %s", self._shown_cert)

    def _made(self) -> ssl.SSLContext:
        _check_pem("ssl_cert_file", self._cert_file, _CERTIFICATE, "certificate")
        _check_pem("ssl_key_file", self._key_file, _KEY, "private key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert_file, self._key_file, _no_password)
        except _EncryptedKeyError:
            message = (
                f"ssl_key_file {self._shown_key} is encrypted; `openssl pkey -in OLD -out NEW` decrypts it"
            )
            raise InputError(message) from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                message = f"the key in ssl_key_file {self._shown_key} does not belong to the certificate in "
                raise InputError(f"{message}ssl_cert_file {self._shown_cert}") from None
            reason = (error.reason or "PEM").replace("_", " ").lower()
            raise InputError(f"{self._shown_cert} and {self._shown_key} cannot be used: {reason}") from None
        return context


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise _EncryptedKeyError


def _check_pem(name: str, path: str, mark: bytes, what: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe could be waited for for ever
            raise InputError(f"{name} {printable(path)} is no regular file")
        with open(path, "rb") as file:
            content = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise InputError(f"{name} {printable(path)} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_PEM_BYTES or mark not in content:
        raise InputError(f"{name} {printable(path)} holds no {what} in PEM")
