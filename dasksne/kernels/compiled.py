"""How kernels are compiled: once per machine, without the interpreter lock, bits kept stable."""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

STRICT = {"contract"}
"""Fused multiply-add is allowed; the order of operations stays as written."""

SUMMATION = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be reordered (vectorised), but NaN and infinity keep their meaning."""

LOG2_E = 1.0 / math.log(2.0)
LN2_HIGH = 6.93147180369123816490e-01  # leading bits of log(2): n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
SMALLEST_EXPONENT = -708.0


def strict(function: Callable[..., Any]) -> Any:
    """Compile a kernel whose order of operations matters."""
    return _compiled(function, STRICT)


def summation(function: Callable[..., Any]) -> Any:
    """Compile a kernel whose inner loops are sums that the compiler may vectorise."""
    return _compiled(function, SUMMATION)


def _compiled(function: Callable[..., Any], fastmath: set[str]) -> Any:
    # Inlined without fail: a call between kernels is bound to whichever copy of the callee the
    # process met first, compiled alone or with a caller, and those copies differ in their last bit.
    return numba.njit(nogil=True, cache=True, forceinline=True, fastmath=fastmath)(function)


@strict
def exp_nonpositive(x: float) -> float:
    """Return exp(x) for x <= 0, to one unit in the last place; 0 below exp(-708).

    The C library's exp called from a compiled loop is not vectorised; this one is: reduction to
    |r| <= log(2) / 2 in two steps (Cody and Waite), a Taylor polynomial of degree 13, and the power
    of two put into the exponent bits.
    """
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    value = p * np.int64((np.int64(n) + 1023) << 52).view(np.float64)
    return 0.0 if x < SMALLEST_EXPONENT else value


@strict
def part_of(counts, start, stop):  # type: ignore[no-untyped-def]
    """Return how often some points count: a slice, or None where each counts once.

    What is compiled for None has no trace of counts.
    """
    if counts is None:
        return None
    return counts[start:stop]


SINGLE_LOG2_E = np.float32(LOG2_E)
SINGLE_LN2_HIGH = np.float32(0.693359375)
SINGLE_LN2_LOW = np.float32(-2.12194440e-4)
SINGLE_SMALLEST = np.float32(-87.0)
SINGLE_ONE = np.float32(1.0)
SINGLE_TAYLOR = tuple(np.float32(1.0 / math.factorial(k)) for k in (6, 5, 4, 3, 2))


@strict
def single_exp_nonpositive(x: np.float32) -> np.float32:
    """Return exp(x) for x <= 0 in float32, to 3e-7; 0 below exp(-87). As `exp_nonpositive`."""
    n = np.rint(x * SINGLE_LOG2_E)
    r = (x - n * SINGLE_LN2_HIGH) - n * SINGLE_LN2_LOW
    p = SINGLE_TAYLOR[0]
    p = p * r + SINGLE_TAYLOR[1]
    p = p * r + SINGLE_TAYLOR[2]
    p = p * r + SINGLE_TAYLOR[3]
    p = p * r + SINGLE_TAYLOR[4]
    p = p * r + SINGLE_ONE
    p = p * r + SINGLE_ONE
    bits = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    value = p * bits.view(np.float32)
    return np.float32(0.0) if x < SINGLE_SMALLEST else value
