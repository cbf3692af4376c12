"""SwiGLU: down(silu(gate(x)) * up(x))."""

from __future__ import annotations

from dataclasses import dataclass

from llorch.formats.onnx.patterns.linear import Product, Rows, product_of, straight_rows
from llorch.formats.onnx.patterns.refusal import unlike_llama
from llorch.formats.onnx.symbolic.values import Form, Space, same


@dataclass(frozen=True, slots=True, eq=False)
class FeedForward:
    """The three matrices; `input` is what gate and up are multiplied with, `product` what down is."""

    gate: Rows
    up: Rows
    input: Form
    product: Form
    gate_form: Form
    up_form: Form


def feed_forward_of(space: Space, down: Product) -> FeedForward:
    """The SwiGLU that ends with the product `down`.

    Raises:
        OnnxError: it is something else.
    """
    expected = "SwiGLU, silu(gate(x)) * up(x), before ffn_down"
    if space.whole(down.input) is None:
        raise unlike_llama(space, down.input, expected)
    factors = _factors(space, down.input)
    for i, factor in enumerate(factors):
        term = space.whole(factor)
        if term is None or term.op != "Sigmoid":
            continue
        others = [other for j, other in enumerate(factors) if j != i]
        for gate, up in (others, others[::-1]) if len(others) == 2 else ():
            if same(term.operands[0], gate):
                return _split(space, down.input, gate, up)
    raise unlike_llama(space, down.input, expected)


def _factors(space: Space, form: Form) -> list[Form]:
    """What is multiplied, through products of products."""
    term = space.whole(form)
    if term is None or term.op != "Mul":
        return [form]
    found: list[Form] = []
    for operand in term.operands:
        inner = space.whole(operand) if isinstance(operand, Form) else None
        if inner is not None and inner.op == "Mul":
            found += [part for part in inner.operands if isinstance(part, Form)]
        elif isinstance(operand, Form):
            found.append(operand)
    return found


def _split(space: Space, product: Form, gate: Form, up: Form) -> FeedForward:
    rows = []
    for form, name in ((gate, "ffn_gate"), (up, "ffn_up")):
        found = product_of(space, form)
        straight = None if found is None else straight_rows(found, form)
        if found is None or straight is None:
            raise unlike_llama(space, form, f"the product with {name}")
        rows.append(Rows(found, straight))
    if not same(rows[0].product.input, rows[1].product.input):
        raise unlike_llama(space, rows[1].product.input, "the input of ffn_gate, which ffn_up shares")
    return FeedForward(rows[0], rows[1], rows[0].product.input, product, gate, up)
