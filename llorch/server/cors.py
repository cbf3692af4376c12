"""Web pages of other origins: which may use the server from a browser.

Starlette's middleware stands around everything else, so that a preflight, which carries no key, is answered before the
key is asked for, and a page can read refusals and failures, too. Credentials (cookies) are never allowed: keys come in
headers that the page's own code sets.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = ("GET", "HEAD", "POST")
EXPOSED = ("Retry-After", "X-Request-Id", "WWW-Authenticate")
"""Headers of answers that a page may read, beside those that it always may."""
PREFLIGHT_S = 600
"""A browser asks again after this time."""


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` for pages of `origins`, too; `app` itself if there are none."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=("*",),
        allow_private_network=True,
        expose_headers=EXPOSED,
        max_age=PREFLIGHT_S,
    )
