"""llorch on Ray Serve: `serve run llorch.ray_serve:app`, or this import path in a Serve config file.

A gateway takes requests from Serve's HTTP proxies, and replicas, each an application of `llorch.server.app` with an
engine of its own, answer them. `app` is `build_app` under the name that Serve's examples use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llorch.ray_serve.application import build_app
    from llorch.ray_serve.application import build_app as app

__all__ = ["app", "build_app"]


def __getattr__(name: str) -> Any:
    """`app` and `build_app`, on first use: only they need Ray."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llorch.ray_serve.installed import check_ray

    check_ray()
    from llorch.ray_serve.application import build_app

    return build_app
