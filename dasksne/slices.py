"""Slices of rows."""


def consecutive(rows: slice, step: int) -> list[slice]:
    """Return slices of so many rows each, the last of what is left, one after the other.

    Examples
    --------
    >>> consecutive(slice(10, 15), 2)
    [slice(10, 12, None), slice(12, 14, None), slice(14, 15, None)]
    """
    return [
        slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step)
    ]
