"""The innermost loop of the distances: a few rows against a panel of columns, sums in registers.

Of a plain loop the compiler keeps the sums in memory, and then waits for them.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dasksne.kernels.vectors import (
    DOUBLE,
    FUSED,
    array,
    left_rolled,
    length,
    load,
    repeated,
    require_contiguous,
    store,
)

WIDTH = 8
"""Columns of a panel: the sums of four rows take half of the vector registers of AVX2."""
VECTOR = ir.VectorType(DOUBLE, WIDTH)


@intrinsic
def squares_of_panel(
    _typing: Any, rows: Any, panel: Any, sums: Any
) -> tuple[Any, Callable[..., Any]]:
    """Write the squared distances between a few rows and a panel of columns.

    Features, of which there is one at least, are added one after another, each square and its sum
    in one instruction where the machine has it: a pair's bits do not depend on who else is there.

    Parameters
    ----------
    rows : tuple of arrays of shape (D,), float64, C-contiguous
    panel : array of shape (D * WIDTH,), float64, C-contiguous
        One feature after another, of WIDTH columns each.
    sums : tuple of arrays of shape (WIDTH,) or longer, float64, C-contiguous
        Overwritten: for each row its distances.
    """
    require_contiguous(*rows, panel, *sums)
    return types.void(rows, panel, sums), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Write one loop over the features, in which the sums are values and not memory."""
    of_rows, of_panel, of_sums = signature.args
    rows = _arrays(context, builder, of_rows, arguments[0])
    panel = array(context, builder, of_panel, arguments[1])
    n_features = length(builder, rows[0])
    before, loop, done = (builder.block, *map(builder.append_basic_block, ("feature", "done")))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(n_features.type)
    sums = [builder.phi(VECTOR) for _ in rows]
    columns = load(builder, VECTOR, panel.data, k)
    following = [builder.add(k, k.type(1))]
    for row, total in zip(rows, sums, strict=True):
        own = repeated(builder, VECTOR, builder.load(builder.gep(row.data, [k])))
        difference = builder.fsub(own, columns)
        square = builder.fmul(difference, difference, flags=FUSED)
        following.append(builder.fadd(total, square, flags=FUSED))
    for value, new in zip([k, *sums], following, strict=True):
        value.add_incoming(value.type(None), before)  # zero
        value.add_incoming(new, loop)
    again = builder.cbranch(builder.icmp_signed("<", following[0], n_features), loop, done)
    again.set_metadata("llvm.loop", left_rolled(builder.module))
    builder.position_at_end(done)
    for place, total in zip(
        _arrays(context, builder, of_sums, arguments[2]), following[1:], strict=True
    ):
        store(builder, total, place.data)
    return context.get_dummy_value()


def _arrays(context: Any, builder: ir.IRBuilder, kinds: Any, values: Any) -> list[Any]:
    """Return the arrays that a tuple holds."""
    parts = cgutils.unpack_tuple(builder, values)
    return [array(context, builder, *each) for each in zip(kinds, parts, strict=True)]
