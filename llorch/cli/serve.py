"""`llorch serve`: the HTTP daemon.

The file is looked into before the socket is bound, so that nothing listens for a model that cannot be; the socket is
bound before anything is loaded, so that a port in use is one line and not a minute of waiting.
"""

from __future__ import annotations

import argparse
import logging
import time

from llorch.cli.console import Progress, human_bytes
from llorch.cli.llama_server_flags import add_llama_server_flags
from llorch.cli.options import add_settings, settings_from
from llorch.engine.service import EngineService
from llorch.fields.hosts import ANY, socket_path
from llorch.formats.printed import escaped
from llorch.kernels import paths
from llorch.machine.service_manager import notify
from llorch.machine.threads import default_threads
from llorch.open_model import check_model
from llorch.server.daemon import run_daemon
from llorch.server.listen import are_local, bind, urls_of
from llorch.server.tls import Certificate
from llorch.server.unix_socket import removed_at_exit
from llorch.setting_sources import ENV_PREFIX, SECRETS
from llorch.version import __version__

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting."""
    add_settings(parser)
    add_llama_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    settings = settings_from(args, has_log=True)
    for name in SECRETS:
        if name in args:
            flag = "--" + name.replace("_", "-")
            logger.warning(
                "%s: everybody on this machine can read the key in the list of processes; %s-file and %s%s hide it",
                flag,
                flag,
                ENV_PREFIX,
                name.upper(),
            )
    check_model(settings.model, override_pre=settings.override_pre, chat_template=settings.chat_template)
    certificate = Certificate(settings) if settings.ssl_cert_file else None
    listeners = bind(settings.host, settings.port, settings.socket_mode)
    with removed_at_exit(listeners), Progress() as progress:
        service = EngineService(settings, progress)
        urls = " and ".join(urls_of(listeners, "https" if certificate else "http"))
        logger.info("llorch %s listens on %s; loading %s", __version__, urls, settings.model)
        if settings.api_key is None and not are_local(listeners) and socket_path(settings.host) is None:
            logger.warning("anyone who reaches %s can use this server: set an api_key", settings.host)
        if settings.api_key is None and ANY in settings.cors_origins:
            logger.warning(
                "any web page can use this server from its readers' browsers: cors_origins is *; set an api_key"
            )
        started_s = time.monotonic()
        run_daemon(service, listeners, lambda: _announce(service, time.monotonic() - started_s), certificate)
    if service.failure is not None:
        raise service.failure
    return 0


def _announce(service: EngineService, took_s: float) -> None:
    """Log which model is ready, and how it is computed."""
    loaded, settings = service.loaded, service.settings
    assert loaded is not None  # it is ready
    llama = loaded.llama
    cpus = [cpu for node in llama.places.cpus_of_nodes for cpu in node]
    reason = "as set" if settings.threads else default_threads(cpus)[1]
    logger.info(
        "%s is ready after %.1f s: %s of weights, %d thread%s (%s; %s), %s kernels",
        settings.alias or loaded.name,
        took_s,
        human_bytes(sum(tensor.n_bytes for tensor in loaded.source.tensors.values())),
        llama.n_threads,
        "" if llama.n_threads == 1 else "s",
        reason,
        llama.places,
        paths.path(),
    )
    notify("READY=1", f"STATUS=serves {escaped(settings.alias or loaded.name)}")
