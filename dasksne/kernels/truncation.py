"""One row of P without its tail: the largest entries, until what is dropped weighs at most t."""

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation

NARROW = 0.01
"""Of -log p: in so short an interval are a few entries."""


@strict
def cut_row(before, after, nearest, edge, limit, beta, shift, far, tail_mass, near):  # type: ignore[no-untyped-def]
    """Return what is kept of a row: the cutoff, how many, their mass and moment, the mass lost.

    Parameters
    ----------
    before, after : arrays, float64
        Squared distances to the points before and after the row's own.
    nearest : float
        The smallest of them.
    edge, limit : float
        Entries with edge (d - nearest) at the limit or beyond are far: dropped in any case.
    beta, shift : float
        -log p = beta (d - nearest) + shift, of the whole row.
    far : float
        The mass of what is far, at most tail_mass.
    tail_mass : float
        The most that the row drops.
    near : array of shape (4, N + 1), float64
        Room to work in.

    Returns
    -------
    cutoff : float
        The largest squared distance kept.
    count : float
    mass, moment : float
        Sums of p and of -p log p over what is kept.
    lost : float
        The mass of what is dropped and not far.
    """
    m = _write_near(before, nearest, edge, limit, near[0])
    m += _write_near(after, nearest, edge, limit, near[0, m:])
    d, x, p = near[0, :m], near[1, :m], near[2, :m]
    _weights(d, nearest, beta, shift, x, p)
    smallest = _smallest_kept(x, p, _largest(x), far, tail_mass, near[3])
    cutoff = _cutoff(d, x, smallest)
    count, mass, moment, lost = _sums(d, x, p, cutoff)
    return cutoff, count, mass, moment, lost


@strict
def _write_near(d, nearest, edge, limit, near):  # type: ignore[no-untyped-def]
    """Write the distances of the entries below the limit, and return how many they are."""
    m = 0
    for j in range(d.size):  # without a branch: which entries are near is hard to predict
        near[m] = d[j]
        m += edge * (d[j] - nearest) < limit
    return m


@summation
def _largest(x):  # type: ignore[no-untyped-def]
    largest = 0.0
    for value in x:
        largest = max(largest, value)
    return largest


@strict
def _weights(d, nearest, beta, shift, x, p):  # type: ignore[no-untyped-def]
    """Write x = -log p and p."""
    for j in range(d.size):
        x[j] = beta * (d[j] - nearest) + shift
        p[j] = exp_nonpositive(-x[j])


@strict
def _smallest_kept(x, p, largest, far, tail_mass, inside):  # type: ignore[no-untyped-def]
    """Return the largest x that stays when the smallest p go first, after what is far.

    The interval in which the tail is full is cut in four until a sort of what is inside costs
    nothing.
    """
    low, high, tail = 0.0, largest + NARROW, far
    while high - low > NARROW:
        step = 0.25 * (high - low)
        first, second, third = low + step, low + 2.0 * step, low + 3.0 * step
        a, b, c = _masses_beyond(x, p, first, second, third)
        if far + c > tail_mass:
            low = third
        elif far + b > tail_mass:
            low, high, tail = second, third, far + c
        elif far + a > tail_mass:
            low, high, tail = first, second, far + b
        else:
            high, tail = first, far + a
    n = 0
    for j in range(x.size):
        if low <= x[j] < high:
            inside[n] = x[j]
            n += 1
    ascending = np.sort(inside[:n])
    for k in range(n - 1, 0, -1):
        tail += exp_nonpositive(-ascending[k])
        if tail > tail_mass:
            return ascending[k]
    return ascending[0] if n > 0 else low


@summation
def _masses_beyond(x, p, first, second, third):  # type: ignore[no-untyped-def]
    """Return the masses of the entries from each of three values of x on."""
    a, b, c = 0.0, 0.0, 0.0
    for j in range(x.size):
        a += p[j] if x[j] >= first else 0.0
        b += p[j] if x[j] >= second else 0.0
        c += p[j] if x[j] >= third else 0.0
    return a, b, c


@strict
def _cutoff(d, x, largest):  # type: ignore[no-untyped-def]
    """Return the largest distance among entries up to x."""
    cutoff = np.int64(0)
    distances = d.view(np.int64)  # in the order of their bits: see `calibration._least_and_sum`
    for j in range(d.size):
        cutoff = max(cutoff, distances[j] if x[j] <= largest else np.int64(0))
    return np.int64(cutoff).view(np.float64)


@summation
def _sums(d, x, p, cutoff):  # type: ignore[no-untyped-def]
    """Return how many entries are within the cutoff, their mass and moment, and the mass beyond."""
    count, mass, moment, lost = 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        inside = d[j] <= cutoff
        count += 1.0 if inside else 0.0
        mass += p[j] if inside else 0.0
        moment += p[j] * x[j] if inside else 0.0
        lost += 0.0 if inside else p[j]
    return count, mass, moment, lost
