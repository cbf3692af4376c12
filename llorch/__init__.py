"""llorch runs Llama-family models on ordinary CPUs, in Python end to end.

import llorch

with llorch.load("demo") as model:
    print(model.generate("Once upon a time", max_tokens=50).text)
"""

from __future__ import annotations

from llorch.version import __version__

TYPE_CHECKING = False  # typing and importlib take longer to import than all the rest of this file

__all__ = ["Engine", "Generation", "Model", "SamplingParams", "__version__", "load"]

if TYPE_CHECKING:
    from typing import Any

    from llorch.api import Generation as Generation
    from llorch.api import Model as Model
    from llorch.api import load as load
    from llorch.engine.engine import Engine as Engine
    from llorch.engine.params import SamplingParams as SamplingParams

_HOMES = {
    "Engine": "llorch.engine.engine",
    "Generation": "llorch.api",
    "Model": "llorch.api",
    "SamplingParams": "llorch.engine.params",
    "load": "llorch.api",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that `import llorch` itself stays light."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
