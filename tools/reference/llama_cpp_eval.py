"""llama.cpp as a reference: load a model, run passes, watch the graph. Needs the `reference` extra.

Everything is set for repeatability and for values that can be compared stage by stage: CPU only, one thread,
float32 KV cache, flash attention off, weights as they lie in the file (no repacked buffers), and every row multiplied
in the same order (no tiled products, which ggml has for larger batches of K types).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.reference.ggml_tensor import GgmlLibrary, GgmlTensor, ReferenceToolError, TensorPointer

NodeWatcher = Callable[[GgmlTensor, bool], bool]
"""Called as (tensor, ask): ask=True before a node runs (answer: wanted?), ask=False after it ran."""

LLAMA_CPP_COMMITS = {"0.3.36": "0c1e57098bba43ac29e6e3b677cdceebdd22334f"}
"""llama.cpp commit inside each source package of llama-cpp-python, where known."""

_LOG_LEVELS_KEPT = (3, 4)  # warnings and errors
_LOG_CALLBACKS: list[Any] = []  # the library keeps the last callback, longer than any model


def load_llama_cpp() -> Any:
    """Import llama-cpp-python's low-level bindings.

    Raises:
        ReferenceToolError: the package is missing or its library does not load.
    """
    try:
        from llama_cpp import llama_cpp
    except Exception as error:  # a missing shared library surfaces as several exception types
        raise ReferenceToolError(
            f"llama-cpp-python cannot be imported ({error}); install it with: pip install 'llorch[reference]'"
        ) from None
    return llama_cpp


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LlamaCppModel:
    """One model in llama.cpp with one context; sequence 0 only.

    Args:
        path: a GGUF file.
        n_ctx: context size; llama.cpp rounds it up to a multiple of 256.
        watcher: sees every graph node of every pass; an exception inside it surfaces from `decode`.
    """

    def __init__(self, path: Path, n_ctx: int, watcher: NodeWatcher | None = None) -> None:
        self.api = load_llama_cpp()
        self.ggml = GgmlLibrary(self.api._lib, Path(self.api._lib._name).resolve().parent)
        self.path = path
        self._watcher = watcher
        self._watcher_error: BaseException | None = None
        self._log: list[str] = []
        self._characters: frozenset[str] | None = None  # of a vocabulary without byte tokens
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        if not path.is_file():
            raise ReferenceToolError(f"{path}: no such file")
        _LOG_CALLBACKS.append(self.api.llama_log_callback(self._on_log))
        self.api.llama_log_set(_LOG_CALLBACKS[-1], None)
        self._eval_callback = self.api.ggml_backend_sched_eval_callback(self._on_node)
        self.api.llama_backend_init()
        self._open(n_ctx)
        self.n_ctx = int(self.api.llama_n_ctx(self._context))
        self._vocab = self.api.llama_model_get_vocab(self._model)
        self.n_vocab = int(self.api.llama_vocab_n_tokens(self._vocab))
        self._batch = self.api.llama_batch_init(n_ctx, 0, 1)

    def _open(self, n_ctx: int) -> None:
        api = self.api
        os.environ["GGML_CPU_TILED_MM"] = "0"  # read before the first product
        model_params = api.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model_params.use_extra_bufts = False
        self._model = api.llama_model_load_from_file(str(self.path).encode(), model_params)
        if not self._model:
            raise ReferenceToolError(f"llama.cpp cannot load {self.path}: {self._last_log()}")
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
        params.n_seq_max = params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.type_k = params.type_v = api.GGML_TYPE_F32
        params.offload_kqv = params.op_offload = False
        params.no_perf = True
        if self._watcher is not None:
            params.cb_eval = self._eval_callback
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise ReferenceToolError(f"llama.cpp cannot make a context for {self.path}: {self._last_log()}")

    def __enter__(self) -> LlamaCppModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the context and the model."""
        if self._batch is not None:
            self.api.llama_batch_free(self._batch)
        if self._context:
            self.api.llama_free(self._context)
        if self._model:
            self.api.llama_model_free(self._model)
        self._model = self._context = self._batch = None

    def metadata(self, key: str) -> str | None:
        """One metadata value as text, or None when the file has no such key."""
        buffer = ctypes.create_string_buffer(512)
        length = self.api.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return None if length < 0 else buffer.value.decode()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`, with BOS where the vocabulary asks for it; special tokens in the text are not parsed.

        Raises:
            ReferenceToolError: a character cannot be encoded.
        """
        missing = self.unencodable(text)
        if missing:
            raise ReferenceToolError(f"{self.path.name} has neither a token for {missing} nor byte tokens")
        data = text.encode()
        buffer = (self.api.llama_token * (len(data) + 16))()
        n = self.api.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), True, False)
        if n < 0:
            raise ReferenceToolError(f"llama.cpp could not tokenize {text!r} (code {n})")
        return list(buffer[:n])

    def unencodable(self, text: str) -> list[str]:
        """Characters that an SPM vocabulary without byte tokens lacks; llama.cpp would abort on them."""
        api = self.api
        if api.llama_vocab_type(self._vocab) != api.LLAMA_VOCAB_TYPE_SPM:
            return []
        if self._characters is None:
            ids = range(self.n_vocab)
            is_byte = any(api.llama_vocab_get_attr(self._vocab, i) & api.LLAMA_TOKEN_ATTR_BYTE for i in ids)
            pieces = () if is_byte else (api.llama_vocab_get_text(self._vocab, i).decode() for i in ids)
            self._characters = frozenset(piece for piece in pieces if len(piece) == 1)
        if not self._characters:
            return []
        return sorted(set(text.replace(" ", "\u2581")) - self._characters)

    def is_end(self, token_id: int) -> bool:
        """Whether llama.cpp ends a generation at this token."""
        return bool(self.api.llama_vocab_is_eog(self._vocab, token_id))

    def reset(self) -> None:
        """Forget the sequence; the next `decode` starts at position 0."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self._context), True)

    def decode(self, token_ids: Sequence[int], position: int, *, all_rows: bool) -> NDArray[np.float32]:
        """Run one pass.

        Args:
            token_ids: tokens that follow what the context holds.
            position: position of the first of them.
            all_rows: logits of every token, else of the last one only.

        Returns:
            float32 [n_rows, n_vocab], a copy.
        """
        n = len(token_ids)
        if n == 0 or position + n > self.n_ctx:
            raise ReferenceToolError(f"{n} tokens at position {position} do not fit n_ctx {self.n_ctx}")
        batch = self._batch
        batch.n_tokens = n
        for i, token_id in enumerate(token_ids):
            batch.token[i], batch.pos[i] = token_id, position + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = all_rows or i == n - 1
        self._watcher_error = None
        code = self.api.llama_decode(self._context, batch)
        if self._watcher_error is not None:
            raise self._watcher_error
        if code != 0:
            raise ReferenceToolError(f"llama_decode failed with code {code}: {self._last_log()}")
        rows = range(n) if all_rows else [n - 1]
        out = np.empty((len(rows), self.n_vocab), np.float32)
        for row, i in enumerate(rows):
            pointer = self.api.llama_get_logits_ith(self._context, i)
            out[row] = np.ctypeslib.as_array(pointer, (self.n_vocab,))
        return out

    def settings(self) -> dict[str, Any]:
        """llama.cpp's settings, for manifests."""
        return {
            "type_k": "f32",
            "type_v": "f32",
            "flash_attention": False,
            "n_threads": 1,
            "n_ctx": self.n_ctx,
            "n_gpu_layers": 0,
            "use_extra_bufts": False,
            "tiled_products": False,
            "add_special": True,
            "parse_special": False,
        }

    def identity(self, build_flags: str | None = None) -> dict[str, Any]:
        """Identity of llama.cpp: versions, commit, compiled features, compiler, hashes of the libraries."""
        import llama_cpp

        package = llama_cpp.__version__
        commit = LLAMA_CPP_COMMITS.get(package)
        short = self.ggml.commit.removesuffix("-dirty")
        pattern = r"(lib)?(llama|ggml(-base|-cpu)?)\.(so|dylib|dll)"
        libraries = sorted(p for p in self.ggml.directory.iterdir() if re.fullmatch(pattern, p.name))
        return {
            "program": "llama.cpp",
            "version": self.api.llama_version().decode(),
            "commit": commit if commit and commit.startswith(short) else short,
            "ggml_version": self.ggml.version,
            "ggml_commit": self.ggml.commit,
            "llama_cpp_python": package,
            "system_info": self.api.llama_print_system_info().decode().strip(" |"),
            "compiler": _compiler(libraries),
            "build_flags": build_flags,
            "libraries": {p.name: sha256_file(p) for p in libraries},
        }

    def _on_log(self, level: int, text: bytes, _user_data: int) -> None:
        if level in _LOG_LEVELS_KEPT:
            self._log = [*self._log[-3:], text.decode(errors="replace").strip()]

    def _last_log(self) -> str:
        return " / ".join(line for line in self._log if line)[-400:] or "no message"

    def _on_node(self, address: int, ask: bool, _user_data: int) -> bool:
        """Trampoline: an exception must not cross the C frames, so it is kept and raised from `decode`."""
        if self._watcher_error is not None:
            return False
        try:
            tensor = ctypes.cast(address, TensorPointer).contents
            assert self._watcher is not None
            return self._watcher(tensor, ask)
        except BaseException as error:
            self._watcher_error = error
            return False


def _compiler(libraries: Sequence[Path]) -> str | None:
    """The compiler's identification in the CPU library, where the object format keeps it."""
    for path in libraries:
        if "ggml-cpu" in path.name:
            found = re.search(rb"(GCC: \([^)\x00]*\) [\d.]+|clang version [\d.]+)", path.read_bytes())
            return found.group(1).decode(errors="replace") if found else None
    return None
