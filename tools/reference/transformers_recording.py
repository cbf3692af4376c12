"""One recorded run of transformers: a prompt pass and greedy decode steps, every wanted stage kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from tools.oracles.transformers_run import load_llama, versions
from tools.reference.checkpoint_recording import Run, StageArrays, chosen_layers, record_passes
from tools.reference.reference_nodes import Sizes, Stage


def model_sizes(config: Any) -> Sizes:
    """Sizes from transformers' configuration."""
    return Sizes(
        n_layer=config.num_hidden_layers,
        n_embd=config.hidden_size,
        n_head=config.num_attention_heads,
        n_head_kv=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        n_ff=config.intermediate_size,
        n_vocab=config.vocab_size,
    )


def neighbouring_pairs(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Components of heads (..., head_dim) in GGUF's order: RoPE's partners i and i + head_dim / 2 side by side."""
    halves = x.reshape(*x.shape[:-1], 2, -1)
    return np.ascontiguousarray(halves.swapaxes(-1, -2)).reshape(x.shape)


class Watcher:
    """Hooks in a model that keep the stages of a pass in GGUF's names and layouts."""

    def __init__(self, model: Any, sizes: Sizes) -> None:
        self.model, self.sizes = model, sizes
        self.kept = StageArrays()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The model with its hooks set."""
        inner = self.model.model
        with ExitStack() as undo:

            def after(module: Any, stage: str, where: str) -> None:
                hook = module.register_forward_hook(
                    lambda _m, _i, out: self._keep(stage, out, where, "output")
                )
                undo.callback(hook.remove)

            def before(module: Any, stage: str, where: str) -> None:
                hook = module.register_forward_pre_hook(
                    lambda _m, args: self._keep(stage, args[0], where, "input")
                )
                undo.callback(hook.remove)

            after(inner.embed_tokens, "inp_embd", "model.embed_tokens")
            for i, layer in enumerate(inner.layers):
                attention, mlp, head = layer.self_attn, layer.mlp, f"model.layers.{i}"
                after(layer.input_layernorm, f"attn_norm-{i}", f"{head}.input_layernorm")
                for stage, name in (("Qcur", "q_proj"), ("Kcur", "k_proj"), ("Vcur", "v_proj")):
                    after(getattr(attention, name), f"{stage}-{i}", f"{head}.self_attn.{name}")
                before(attention.o_proj, f"kqv_out-{i}", f"{head}.self_attn.o_proj")
                after(attention.o_proj, f"attn_out-{i}", f"{head}.self_attn.o_proj")
                before(layer.post_attention_layernorm, f"ffn_inp-{i}", f"{head}.post_attention_layernorm")
                after(layer.post_attention_layernorm, f"ffn_norm-{i}", f"{head}.post_attention_layernorm")
                after(mlp.gate_proj, f"ffn_gate-{i}", f"{head}.mlp.gate_proj")
                after(mlp.up_proj, f"ffn_up-{i}", f"{head}.mlp.up_proj")
                before(mlp.down_proj, f"ffn_swiglu-{i}", f"{head}.mlp.down_proj")
                after(mlp.down_proj, f"ffn_out-{i}", f"{head}.mlp.down_proj")
                after(layer, f"l_out-{i}", head)
            after(inner.norm, "result_norm", "model.norm")
            after(self.model.lm_head, "result_output", "lm_head")
            from transformers.models.llama import modeling_llama

            attend = modeling_llama.eager_attention_forward
            undo.enter_context(patch.object(modeling_llama, attend.__name__, self._attention(attend)))
            yield

    def _attention(self, attend: Callable[..., Any]) -> Callable[..., Any]:
        """Transformers' plain attention, which also shows rotated queries and keys, and scores."""

        def recorded(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            import torch

            layer, where = module.layer_idx, f"model.layers.{module.layer_idx}.self_attn"
            output, weights = attend(module, query, key, value, *args, **kwargs)
            n = query.shape[2]
            of_heads = key.repeat_interleave(self.sizes.n_head // self.sizes.n_head_kv, dim=1)
            self._keep(f"Qcur_rope-{layer}", query.transpose(1, 2), where, "query")
            self._keep(f"Kcur_rope-{layer}", key[:, :, -n:].transpose(1, 2), where, "key")
            self._keep(f"kq-{layer}", torch.matmul(query, of_heads.transpose(2, 3)), where, "query x key")
            self._keep(f"kq_soft_max-{layer}", weights, where, "attention weights")
            return output, weights

        return recorded

    def _keep(self, stage: str, value: Any, where: str, what: str) -> None:
        if not self.kept.wants(stage):
            return
        value = value[0] if isinstance(value, tuple) else value
        array = value.detach()[0].float().numpy()
        kind = stage.split("-")[0]
        if kind in ("Qcur", "Kcur", "Vcur"):
            array = array.reshape(len(array), -1, self.sizes.head_dim)
        if kind in ("Qcur", "Kcur", "Qcur_rope", "Kcur_rope"):
            array = neighbouring_pairs(array)
        recognised = Stage(stage, where, what, f"{where}.weight", "f32")
        self.kept.keep(recognised, lambda _n, _n_kv: np.array(array, np.float32, order="C"))


def record(
    directory: Path,
    prompt_ids: list[int],
    *,
    layers: list[int] | None = None,
    n_decode: int = 10,
    decode_stages: str = "all",
) -> Run:
    """Run and record the prompt and the greedy decode steps, as `checkpoint_recording.record` does with llama.cpp.

    Args:
        directory: a model of Hugging Face, computed in float64 whatever its type: of long sums, such as those behind
            the few huge activations of trained models, float32 keeps less than our tolerances ask for. RMSNorm, RoPE's
            angles and softmax are transformers' own and stay in float32.
        prompt_ids: the prompt, BOS included.
        layers: layers to keep in full, None for all.
        n_decode: number of decode steps.
        decode_stages: ``"all"`` stages of the steps, or ``"kv"``: rotated K, V and logits only.

    Raises:
        ReferenceToolError: a stage is missing or looks wrong.
    """
    import torch

    model = load_llama(directory, "float64")
    sizes = model_sizes(model.config)
    layers = chosen_layers(layers, sizes.n_layer)
    watcher = Watcher(model, sizes)
    cache: Any = None

    def decode(token_ids: list[int], position: int) -> NDArray[np.float32]:
        nonlocal cache
        with torch.no_grad():
            output = model(torch.tensor([token_ids]), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits: NDArray[np.float32] = output.logits[0].float().numpy()
        return logits

    with watcher.hooked():
        greedy = record_passes(
            watcher.kept,
            decode,
            prompt_ids,
            layers,
            n_layer=sizes.n_layer,
            n_decode=n_decode,
            decode_stages=decode_stages,
        )
    eos = model.config.eos_token_id
    is_end = set(eos if isinstance(eos, list) else [eos])
    ends = [i for i, token_id in enumerate(greedy["token_ids"]) if token_id in is_end]
    return Run(
        recording=watcher.kept,
        sizes=sizes,
        model_name=directory.resolve().name,
        layers=layers,
        prompt_token_ids=prompt_ids,
        greedy={**greedy, "end_of_sequence_at": ends},
        settings={"dtype": "float64, kept as float32", "attention": "eager", "n_threads": 1},
        identity={
            "program": "transformers",
            "version": versions()["transformers"],
            "torch": versions()["torch"],
        },
    )
