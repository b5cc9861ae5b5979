"""What loops in LLVM's own vectors are written with, where the compiler finds no good ones itself.

LLVM makes of a vector what the machine has.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.errors import TypingError

DOUBLE, INDEX = ir.DoubleType(), ir.IntType(64)
LANE = ir.IntType(32)
FUSED = ("contract",)
"""A product and its sum are one instruction, where the machine has it."""
ALIGNMENT = 8
"""Of vectors in memory, in bytes: arrays begin anywhere."""


def require_contiguous(*kinds: Any) -> None:
    """Refuse arrays whose values do not follow each other: what is written here has no strides."""
    if any(kind.layout != "C" for kind in kinds):
        raise TypingError("arrays must be C-contiguous")


def array(context: Any, builder: ir.IRBuilder, kind: Any, value: Any) -> Any:
    """Return an argument as an array, with its data and shape."""
    return context.make_array(kind)(context, builder, value)


def length(builder: ir.IRBuilder, vector: Any) -> Any:
    """Return the size of an array of one dimension."""
    return cgutils.unpack_tuple(builder, vector.shape)[0]


def load(builder: ir.IRBuilder, kind: ir.VectorType, data: Any, at: Any) -> Any:
    """Return the vector at a place, counted in vectors, of an array's data."""
    place = builder.gep(builder.bitcast(data, kind.as_pointer()), [at])
    return builder.load(place, align=ALIGNMENT)


def store(builder: ir.IRBuilder, vector: Any, data: Any, at: int = 0) -> None:
    """Write a vector to a place, counted in vectors, of an array's data."""
    place = builder.gep(builder.bitcast(data, vector.type.as_pointer()), [INDEX(at)])
    builder.store(vector, place, align=ALIGNMENT)


def repeated(builder: ir.IRBuilder, kind: ir.VectorType, value: Any) -> Any:
    """Return a vector of one value."""
    nothing = kind(ir.Undefined)
    first = builder.insert_element(nothing, value, LANE(0))
    lanes = ir.VectorType(LANE, kind.count)
    return builder.shuffle_vector(first, nothing, lanes([0] * kind.count))


def left_rolled(module: ir.Module) -> Any:
    """Return what the branch back of a loop is marked with so that LLVM does not unroll it.

    Twice the sums would not fit the registers of AVX2. One loop of a module has the mark.
    """
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    mark = module.add_metadata([disable, disable])
    mark.operands = (mark, disable)  # as LLVM has it: the first one is the mark itself
    return mark
