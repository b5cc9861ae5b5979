"""The innermost loop of the sparse attraction: two coordinates of each neighbour in one vector.

Of a plain loop the compiler makes one that gathers each coordinate by itself, and takes half as
long again.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dasksne.kernels.vectors import (
    DOUBLE,
    FUSED,
    INDEX,
    array,
    length,
    load,
    repeated,
    require_contiguous,
    store,
)

PAIR = ir.VectorType(DOUBLE, 2)
AT_ONCE = 2
"""Entries, each with sums of its own, so that none waits for the sum of the one before."""


@intrinsic
def pull_of_pairs(
    _typing: Any, weights: Any, indices: Any, own: Any, pairs: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    """Write sum_e w_e (y - y_e) of two coordinates.

    The sum is made in an order that depends on nothing but how many entries there are.

    All arrays are C-contiguous.

    Parameters
    ----------
    weights : array of shape (m,), floating
        m is a multiple of AT_ONCE.
    indices : array of shape (m,), int32
        Not negative.
    own : array of shape (2,), float64
        y.
    pairs : array of shape (N, 2), float64
        The map.
    out : array of shape (2,), float64
        Overwritten.
    """
    require_contiguous(weights, indices, own, pairs, out)
    return types.void(weights, indices, own, pairs, out), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Write one loop over the entries, in which the sums are values and not memory."""
    weights, indices, own, pairs, out = (
        array(context, builder, *each) for each in zip(signature.args, arguments, strict=True)
    )
    y, size = load(builder, PAIR, own.data, INDEX(0)), length(builder, weights)
    names = ("entries", "entry", "pulled")
    before, loop, body, done = (builder.block, *map(builder.append_basic_block, names))
    builder.branch(loop)
    builder.position_at_end(loop)
    e = builder.phi(INDEX)
    sums = [builder.phi(PAIR) for _ in range(AT_ONCE)]
    more = builder.icmp_signed("<", e, size)
    builder.cbranch(more, body, done)
    builder.position_at_end(body)
    following = []
    for k in range(AT_ONCE):
        at = builder.add(e, INDEX(k))
        index = builder.zext(builder.load(builder.gep(indices.data, [at])), INDEX)
        weight = builder.load(builder.gep(weights.data, [at]))
        if weight.type != DOUBLE:
            weight = builder.fpext(weight, DOUBLE)
        difference = builder.fsub(y, load(builder, PAIR, pairs.data, index))
        pull = builder.fmul(repeated(builder, PAIR, weight), difference, flags=FUSED)
        following.append(builder.fadd(sums[k], pull, flags=FUSED))
    following.append(builder.add(e, INDEX(AT_ONCE)))
    for value, new in zip([*sums, e], following, strict=True):
        value.add_incoming(value.type(None), before)  # zero
        value.add_incoming(new, body)
    builder.branch(loop)
    builder.position_at_end(done)
    total, *others = sums
    for other in others:
        total = builder.fadd(total, other)
    store(builder, total, out.data)
    return context.get_dummy_value()
