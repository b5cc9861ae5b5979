"""The innermost loop of the distances: a few rows against a panel of columns, sums in registers.

Of a plain loop the compiler keeps the sums in memory, and then waits for them. This one is written
in LLVM's own vectors, from which it makes those of the machine.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 8
"""Columns of a panel: the sums of four rows take half of the vector registers of AVX2."""
FUSED = ("contract",)
"""A square and its sum are one instruction."""
VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
EACH = ir.VectorType(ir.IntType(32), WIDTH)
ALIGNMENT = 8
"""Of what is read and written, in bytes: arrays begin anywhere."""


@intrinsic
def squares_of_panel(
    _typing: Any, rows: Any, panel: Any, sums: Any
) -> tuple[Any, Callable[..., Any]]:
    """Write the squared distances between a few rows and a panel of columns.

    Features, of which there is one at least, are added one after another, each square and its sum
    in one rounding: a pair's bits do not depend on who else is there.

    Parameters
    ----------
    rows : tuple of arrays of shape (D,), float64
    panel : array of shape (D * WIDTH,), float64
        One feature after another, of WIDTH columns each.
    sums : tuple of arrays of shape (WIDTH,) or longer, float64
        Overwritten: for each row its distances.
    """
    return types.void(rows, panel, sums), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Write one loop over the features, in which the sums are values and not memory."""
    of_rows, of_panel, of_sums = signature.args
    rows = _arrays(context, builder, of_rows, arguments[0])
    panel = context.make_array(of_panel)(context, builder, arguments[1]).data
    panel = builder.bitcast(panel, VECTOR.as_pointer())
    n_features = cgutils.unpack_tuple(builder, rows[0].shape)[0]
    before, loop, done = (builder.block, *map(builder.append_basic_block, ("feature", "done")))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(n_features.type)
    sums = [builder.phi(VECTOR) for _ in rows]
    columns = builder.load(builder.gep(panel, [k]), align=ALIGNMENT)
    following = [builder.add(k, k.type(1))]
    for row, total in zip(rows, sums, strict=True):
        own = _repeated(builder, builder.load(builder.gep(row.data, [k])))
        difference = builder.fsub(own, columns)
        square = builder.fmul(difference, difference, flags=FUSED)
        following.append(builder.fadd(total, square, flags=FUSED))
    for value, new in zip([k, *sums], following, strict=True):
        value.add_incoming(value.type(None), before)  # zero
        value.add_incoming(new, loop)
    again = builder.cbranch(builder.icmp_signed("<", following[0], n_features), loop, done)
    again.set_metadata("llvm.loop", _not_unrolled(builder.module))
    builder.position_at_end(done)
    places = _arrays(context, builder, of_sums, arguments[2])
    for place, total in zip(places, following[1:], strict=True):
        builder.store(total, builder.bitcast(place.data, VECTOR.as_pointer()), align=ALIGNMENT)
    return context.get_dummy_value()


def _arrays(context: Any, builder: ir.IRBuilder, kinds: Any, values: Any) -> list[Any]:
    """Return the arrays that a tuple holds."""
    parts = cgutils.unpack_tuple(builder, values)
    return [
        context.make_array(kind)(context, builder, part)
        for kind, part in zip(kinds, parts, strict=True)
    ]


def _repeated(builder: ir.IRBuilder, value: Any) -> Any:
    """Return a vector of one value."""
    nothing = VECTOR(ir.Undefined)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, EACH([0] * WIDTH))


def _not_unrolled(module: ir.Module) -> Any:
    """Return what a loop is marked with so that LLVM leaves it as it is.

    Sums of two features at once would not fit the registers of AVX2.
    """
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    mark = module.add_metadata([disable, disable])
    mark.operands = (mark, disable)  # as LLVM has it: the first one is the mark itself
    return mark
