"""The demo model in PyTorch, its export to GGUF, and its import. Development only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The model was trained on "request, newline, story", so a chat turn is the last message and a newline.
CHAT_TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] + '\\n' }}"


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demo model, in GGUF words; every matrix width is a multiple of 32."""

    n_vocab: int = 3072
    n_embd: int = 256
    n_layer: int = 6
    n_head: int = 8
    n_head_kv: int = 4
    n_ff: int = 704
    n_ctx_train: int = 512
    rope_freq_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head


class Layer(nn.Module):
    """One pre-norm transformer block: grouped-query attention, then a SwiGLU feed-forward network."""

    def __init__(self, config: DemoConfig) -> None:
        """Create the weights of one block.

        Args:
            config: Sizes of the model.
        """
        super().__init__()
        n_kv = config.n_head_kv * config.head_dim
        self.config = config
        self.attn_norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.attn_q = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.attn_k = nn.Linear(config.n_embd, n_kv, bias=False)
        self.attn_v = nn.Linear(config.n_embd, n_kv, bias=False)
        self.attn_output = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.ffn_norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.ffn_gate = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.ffn_up = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.ffn_down = nn.Linear(config.n_ff, config.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Run the block.

        Args:
            x: float32 (n_batch, n_token, n_embd), the residual stream.
            cos: float32 (n_token, head_dim / 2), cosines of the rotation angles.
            sin: float32 (n_token, head_dim / 2), sines of the rotation angles.

        Returns:
            float32 (n_batch, n_token, n_embd).
        """
        n_batch, n_token, _ = x.shape
        h = self.attn_norm(x)
        q, k, v = (
            linear(h).view(n_batch, n_token, -1, self.config.head_dim).transpose(1, 2)
            for linear in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        n_repeat = self.config.n_head // self.config.n_head_kv
        k, v = k.repeat_interleave(n_repeat, 1), v.repeat_interleave(n_repeat, 1)
        h = F.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True)
        x = x + self.attn_output(h.transpose(1, 2).reshape(n_batch, n_token, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class DemoModel(nn.Module):
    """A Llama model whose parameters bear their GGUF names."""

    def __init__(self, config: DemoConfig) -> None:
        """Create the weights, normal with a standard deviation of 0.02.

        Args:
            config: Sizes of the model.
        """
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.n_vocab, config.n_embd)
        self.blk = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.output_norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.output = nn.Linear(config.n_embd, config.n_vocab, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                is_residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config.n_layer) ** 0.5 if is_residual else 0.02)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Compute the logits of every position; the first token stands at position 0.

        Args:
            token_ids: int64 (n_batch, n_token).

        Returns:
            float32 or bfloat16 (n_batch, n_token, n_vocab).
        """
        half = torch.arange(0, self.config.head_dim, 2, dtype=torch.float32)
        frequencies = self.config.rope_freq_base ** (-half / self.config.head_dim)
        angles = torch.outer(torch.arange(token_ids.shape[1], dtype=torch.float32), frequencies)
        cos, sin = angles.cos(), angles.sin()
        x = self.token_embd(token_ids)
        for layer in self.blk:
            x = layer(x, cos, sin)
        return self.output(self.output_norm(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate consecutive pairs (2i, 2i+1), as GGUF's `llama` architecture does.

    Args:
        x: float (n_batch, n_head, n_token, head_dim).
        cos: float32 (n_token, head_dim / 2).
        sin: float32 (n_token, head_dim / 2).

    Returns:
        The type and shape of `x`.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return pairs.flatten(-2).to(x.dtype)


def write_gguf(
    path: Path, model: DemoModel, tokenizer: sentencepiece.SentencePieceProcessor, description: str
) -> None:
    """Write the model as a GGUF v3 file: matrices in Q8_0, norms in F32.

    Args:
        path: File to write.
        model: The trained model.
        tokenizer: Its SentencePiece tokenizer.
        description: Text of `general.description`.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("llorch demo")
    writer.add_author("llorch")
    writer.add_description(description)
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.n_vocab)
    writer.add_context_length(config.n_ctx_train)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_head_kv)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_freq_base)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_tokenizer_model("llama")
    token_ids = range(config.n_vocab)
    writer.add_token_list([tokenizer.id_to_piece(i) for i in token_ids])
    writer.add_token_scores([tokenizer.get_score(i) for i in token_ids])
    writer.add_token_types([token_type(tokenizer, i) for i in token_ids])
    writer.add_unk_token_id(tokenizer.unk_id())
    writer.add_bos_token_id(tokenizer.bos_id())
    writer.add_eos_token_id(tokenizer.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, parameter in model.named_parameters():
        values = parameter.detach().float().numpy()
        if values.ndim == 1:
            writer.add_tensor(name, values)
            continue
        q8_0 = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, q8_0), raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def token_type(tokenizer: sentencepiece.SentencePieceProcessor, token_id: int) -> gguf.TokenType:
    """Name the GGUF type of one vocabulary entry."""
    if tokenizer.is_unknown(token_id):
        return gguf.TokenType.UNKNOWN
    if tokenizer.is_control(token_id):
        return gguf.TokenType.CONTROL
    return gguf.TokenType.BYTE if tokenizer.is_byte(token_id) else gguf.TokenType.NORMAL


def read_gguf(path: Path) -> DemoModel:
    """Read a demo GGUF back into PyTorch, every matrix dequantised to float32.

    Args:
        path: A file written by `write_gguf`.

    Returns:
        The model.

    Raises:
        ValueError: A tensor is missing, unexpected, or of the wrong shape.
    """
    reader = gguf.GGUFReader(path)

    def size(key: str) -> int:
        return int(reader.fields[f"llama.{key}"].contents())

    config = DemoConfig(
        n_vocab=size("vocab_size"),
        n_embd=size("embedding_length"),
        n_layer=size("block_count"),
        n_head=size("attention.head_count"),
        n_head_kv=size("attention.head_count_kv"),
        n_ff=size("feed_forward_length"),
        n_ctx_train=size("context_length"),
        rope_freq_base=float(reader.fields["llama.rope.freq_base"].contents()),
        norm_eps=float(reader.fields["llama.attention.layer_norm_rms_epsilon"].contents()),
    )
    model = DemoModel(config)
    parameters = dict(model.named_parameters())
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if tensors.keys() != parameters.keys():
        raise ValueError(f"{path}: tensors differ: {sorted(tensors.keys() ^ parameters.keys())}")
    for name, parameter in parameters.items():
        values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        if values.shape != tuple(parameter.shape):
            raise ValueError(f"{path}: {name} has shape {values.shape}, not {tuple(parameter.shape)}")
        parameter.data.copy_(torch.from_numpy(np.array(values, dtype=np.float32)))
    return model
