"""RoPE's frequencies as a `config.json` spells them: GGUF keys, and divisors where no key says it.

Source: transformers, `modeling_rope_utils`; its formulas, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import shown
from llorch.formats.hugging_face.config_values import ConfigValues
from llorch.formats.protocol import MetadataValue

_BETA_FAST, _BETA_SLOW = 32.0, 1.0
"""Turns over the original context between which YaRN interpolates; GGUF has no keys for others in a Llama."""
_SCALING, _PARAMETERS = "rope_scaling", "rope_parameters"


@dataclass(frozen=True, slots=True, eq=False)
class RopeScaling:
    """RoPE's frequencies as GGUF has them.

    Attributes:
        metadata: the ``llama.rope.*`` keys, without the number of rotated components.
        divisors: float32 (head_dim / 2,), `rope_freqs.weight`; None where the keys say everything.
    """

    metadata: dict[str, MetadataValue]
    divisors: NDArray[np.float32] | None = None


def read_rope_scaling(config: ConfigValues, head_dim: int, n_ctx: int) -> RopeScaling:
    """Read both spellings: `rope_scaling` beside `rope_theta`, and `rope_parameters` with everything inside.

    Args:
        config: the whole config.
        head_dim: components of a head; all of them rotate.
        n_ctx: `max_position_embeddings`.

    Raises:
        ModelError: the scaling is unknown, malformed, or contradicts itself.
    """
    name, scaling = _scaling(config)
    theta = _theta(config, scaling)
    kind = _kind(config, name, scaling)
    for values in (config, scaling):
        if values.get("partial_rotary_factor") not in (None, 1):
            raise values.error(
                "partial_rotary_factor",
                f"{shown(values.get('partial_rotary_factor'))} is not supported, expected 1",
            )
    plain: dict[str, MetadataValue] = {"llama.rope.freq_base": theta}
    if kind == "linear":
        return RopeScaling(plain | _factor_keys("linear", scaling.positive("factor")))
    if kind == "llama3":
        return RopeScaling(plain, _llama3_divisors(scaling, theta, head_dim, n_ctx))
    if kind == "yarn":
        return _yarn(scaling, theta, head_dim, n_ctx)
    return RopeScaling(plain)


def _scaling(config: ConfigValues) -> tuple[str, ConfigValues]:
    """The object that describes the scaling, empty where there is none, and the key under which it stands."""
    found = {key: config.get(key) for key in (_SCALING, _PARAMETERS) if config.get(key) is not None}
    for key, value in found.items():
        if not isinstance(value, dict):
            raise config.error(key, f"expected an object or null, got {shown(value)}")
    if len(found) == 2 and found[_SCALING] != found[_PARAMETERS]:
        raise config.error(_SCALING, f"contradicts {_PARAMETERS}; remove one of them")
    key = next(iter(found), _SCALING)
    values: Mapping[str, Any] = found.get(key, {})
    if any(isinstance(value, dict) for value in values.values()):
        raise config.error(key, "has different frequencies for different layers, which is not supported")
    return key, ConfigValues(values, f"{config.label}: {key}")


def _theta(config: ConfigValues, scaling: ConfigValues) -> float:
    thetas = {
        values.positive("rope_theta") for values in (config, scaling) if values.get("rope_theta") is not None
    }
    if len(thetas) == 2:
        raise scaling.error("rope_theta", f"{shown(scaling.get('rope_theta'))} contradicts the one outside")
    return thetas.pop() if thetas else 10000.0


def _kind(config: ConfigValues, name: str, scaling: ConfigValues) -> str:
    """Kind of the scaling; ``"dynamic"`` is a plain one here, see `read_config`."""
    kinds = [scaling.get(key) for key in ("rope_type", "type") if scaling.get(key) is not None]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        raise scaling.error("type", f"{shown(kinds[1])} contradicts rope_type {shown(kinds[0])}")
    if not kinds:
        if scaling.values.keys() - {"rope_theta", "partial_rotary_factor"}:
            raise config.error(name, "names no rope_type")
        return "default"
    supported = ("default", "linear", "dynamic", "llama3", "yarn")
    if kinds[0] not in supported:
        raise scaling.error(
            "rope_type", f"{shown(kinds[0])} is not supported; llorch has {', '.join(supported)}"
        )
    return str(kinds[0])


def _factor_keys(kind: str, factor: float) -> dict[str, MetadataValue]:
    return {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": factor}


def _frequencies(theta: float, head_dim: int) -> NDArray[np.float64]:
    """Angle of each pair from one position to the next, without scaling."""
    with np.errstate(over="ignore", under="ignore"):
        return np.float64(theta) ** (-np.arange(0, head_dim, 2) / head_dim)


def _llama3_divisors(scaling: ConfigValues, theta: float, head_dim: int, n_ctx: int) -> NDArray[np.float32]:
    """Divisors of Llama 3.1: 1 for short waves, the factor for long ones, and between them a mix of frequencies."""
    factor = scaling.positive("factor")
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    if low >= high:
        raise scaling.error("low_freq_factor", f"{low:g} must be below high_freq_factor {high:g}")
    original = scaling.count("original_max_position_embeddings", n_ctx)
    turns = original * _frequencies(theta, head_dim) / (2 * math.pi)  # over the original context
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - share) / factor + share)).astype(np.float32)


def _yarn(scaling: ConfigValues, theta: float, head_dim: int, n_ctx: int) -> RopeScaling:
    """YaRN: GGUF's own keys where they say the same, else divisors and a factor on cosines and sines."""
    if theta <= 1:
        raise scaling.error("rope_theta", f"{theta:g} must be above 1 for YaRN")
    original = scaling.count("original_max_position_embeddings", n_ctx)
    factor = scaling.positive("factor", n_ctx / original)
    fast = scaling.positive("beta_fast") if scaling.get("beta_fast") else _BETA_FAST
    slow = scaling.positive("beta_slow") if scaling.get("beta_slow") else _BETA_SLOW
    truncate = scaling.flag("truncate", True)
    magnitude = _yarn_magnitude(scaling, factor)
    first, last = (
        head_dim * math.log(original / (n * 2 * math.pi)) / (2 * math.log(theta)) for n in (fast, slow)
    )
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    keys: dict[str, MetadataValue] = {"llama.rope.freq_base": theta}
    if (fast, slow, truncate) == (_BETA_FAST, _BETA_SLOW, True) and first <= last:
        keys |= _factor_keys("yarn", factor) | {"llama.rope.scaling.original_context_length": original}
        return RopeScaling(keys | _magnitude_keys(magnitude / _usual_magnitude(factor)))
    ramp = (np.arange(head_dim // 2) - first) / ((last if first != last else last + 0.001) - first)
    share = np.clip(ramp, 0.0, 1.0)  # of the interpolated frequency
    divisors = (1 / (share / factor + (1 - share))).astype(np.float32)
    return RopeScaling(keys | _magnitude_keys(magnitude), divisors)


def _usual_magnitude(factor: float, strength: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * strength * math.log(factor) + 1.0


def _yarn_magnitude(scaling: ConfigValues, factor: float) -> float:
    """Factor on cosines and sines."""
    if scaling.get("attention_factor") is not None:
        return scaling.positive("attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        above, below = scaling.positive("mscale"), scaling.positive("mscale_all_dim")
        return _usual_magnitude(factor, above) / _usual_magnitude(factor, below)
    return _usual_magnitude(factor)


def _magnitude_keys(magnitude: float) -> dict[str, MetadataValue]:
    rounded = float(np.float32(magnitude))
    return {} if rounded == 1 else {"llama.rope.scaling.attn_factor": rounded}
