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
from llorch.cli.options import add_field, settings_from
from llorch.engine.service import EngineService
from llorch.fields.table import SETTINGS
from llorch.kernels import paths
from llorch.machine.threads import default_threads
from llorch.open_model import check_model
from llorch.server.daemon import run_daemon
from llorch.server.listen import are_local, bind, urls_of
from llorch.version import __version__

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; flags are spelled as llama-server spells them."""
    sections = {field.section: parser.add_argument_group(field.section) for field in SETTINGS.values()}
    for name, field in SETTINGS.items():
        if name != "model":  # every command has that one
            add_field(sections[field.section], name)
    add_llama_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    settings = settings_from(args, has_log=True)
    if "api_key" in args:
        logger.warning(
            "--api-key: everybody on this machine can read the key in the list of processes; --api-key-file and "
            "LLORCH_API_KEY hide it"
        )
    check_model(settings.model, override_pre=settings.override_pre, chat_template=settings.chat_template)
    listeners = bind(settings.host, settings.port)
    with Progress() as progress:
        service = EngineService(settings, progress)
        urls = " and ".join(urls_of(listeners))
        logger.info("llorch %s listens on %s; loading %s", __version__, urls, settings.model)
        if settings.api_key is None and not are_local(listeners):
            logger.warning("anyone who reaches %s can use this server: set an api_key", settings.host)
        started_s = time.monotonic()
        run_daemon(service, listeners, lambda: _announce(service, time.monotonic() - started_s))
    if service.failure is not None:
        raise service.failure
    return 0


def _announce(service: EngineService, took_s: float) -> None:
    """Log which model is ready, and how it is computed."""
    loaded, settings = service.loaded, service.settings
    assert loaded is not None  # it is ready
    n_threads, reason = (settings.threads, "as set") if settings.threads else default_threads()
    logger.info(
        "%s is ready after %.1f s: %s of weights, %d threads (%s), %s kernels",
        settings.alias or loaded.name,
        took_s,
        human_bytes(sum(tensor.n_bytes for tensor in loaded.source.tensors.values())),
        n_threads,
        reason,
        paths.path(),
    )
