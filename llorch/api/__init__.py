"""The Python interface: load a model, generate text, chat.

with llorch.load("demo") as model:
    print(model.generate("Once upon a time", max_tokens=50, temperature=0).text)
    for piece in model.stream("The cat", seed=7):
        print(piece, end="")
"""

from __future__ import annotations

from llorch.api.generation import Generation as Generation
from llorch.api.model import Model as Model
from llorch.api.model import load as load
