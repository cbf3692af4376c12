"""How emitted LLVM IR becomes a function that kernels can call, and how kernels call machine code by its address."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from llorch.kernels.emit.values import I8, I32, I64, VOID, Int


def emitted(signature: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """Make ``emit(builder, *args)`` a function for kernels, with Numba's `signature`.

    A type alone is that of the result; the arguments are then what kernels give: int64 and tuples of int64.
    int64 arguments arrive as `Int`, tuples of them as lists of `Int`, others as LLVM values.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        def define(typingctx: Any, *given: Any) -> Any:
            typed = signature(*given) if isinstance(signature, types.Type) else signature

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                result = emit(builder, *(_argument(builder, a) for a in args))
                if signature.return_type == types.void:
                    return context.get_dummy_value()
                return result.value if isinstance(result, Int) else result

            return typed, codegen

        names = ["typingctx", *list(inspect.signature(emit).parameters)[1:]]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        define.__name__, define.__doc__ = emit.__name__, emit.__doc__
        return extending.intrinsic(define)

    return decorate


def _argument(builder: Any, value: Any) -> Any:
    if isinstance(value.type, ir.types.Aggregate):  # a tuple
        return [_argument(builder, builder.extract_value(value, i)) for i in range(len(value.type.elements))]
    return Int(builder, value) if value.type == I64 else value


def outlined(name: str, args: Sequence[Int], emit: Callable[..., Any], result: Any = None) -> Any:
    """Call a function of its own that ``emit(builder, *args)`` fills, once per module.

    Inside a larger function LLVM may move loads out of a micro-kernel's loop and spill its accumulators,
    depending on the code around it; by itself a loop gets all registers and is always compiled the same.
    With a `result` type, what `emit` returns is the call's value.
    """
    builder = args[0].builder
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result or VOID, [I64] * len(args)), name)
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        value = emit(inner, *(Int(inner, a) for a in function.args))
        if result is None:
            inner.ret_void()
        else:
            inner.ret(value.value if isinstance(value, Int) else value)
    return builder.call(function, [a.value for a in args])


@emitted()
def call_unit(builder: Any, address: Int, args: list[Int]) -> None:
    """Call the `jit.Unit` whose machine code begins at `address`; `args` is a tuple of int64.

    It follows Numba's own calling convention: where to put the result, where to put an exception, then the arguments.
    Both are dropped, and so is the status it returns: operations give nothing back, and kernels raise nothing.
    """
    result = cgutils.alloca_once(builder, I64)
    exception = cgutils.alloca_once(builder, I8.as_pointer())
    callee = ir.FunctionType(I32, [result.type, exception.type, *(I64 for _ in args)])
    builder.call(address.pointer(callee), [result, exception, *(a.value for a in args)])
