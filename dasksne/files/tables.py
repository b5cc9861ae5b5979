"""Tables with named columns, .csv and .parquet, through pandas."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.files.places import Input, Place, Taken, as_labels, package

UNNAMED = "Unnamed: 0"
"""pandas' own name for a first column without one: an index that `to_csv` wrote."""


def read_csv(place: Place, taken: Taken) -> Input:
    """Read a .csv whose first line names its columns."""
    pandas = package("pandas", place.source)
    with place.reading("its first line must name the columns"), place.open() as file:
        frame = pandas.read_csv(file, **_exact(pandas))
    frame = frame.drop(columns=UNNAMED, errors="ignore")
    _require_names(place, list(frame.columns))
    return _taken(place, frame, taken)


def _exact(pandas: Any) -> dict[str, str]:
    """Return the option by which pandas reads numbers to the last bit, as it does from 3.1 on."""
    before = tuple(int(part) for part in pandas.__version__.split(".")[:2]) < (3, 1)
    return {"float_precision": "round_trip"} if before else {}


def read_parquet(place: Place, taken: Taken) -> Input:
    """Read a .parquet, of its columns only those that are taken."""
    pandas = package("pandas", place.source)
    parquet = package("pyarrow.parquet", place.source)
    with place.reading("write it with DataFrame.to_parquet", OSError), place.open() as file:
        _require_columns(place, parquet.read_schema(file).names, taken)
        names = [*taken.columns, *_asked_labels(taken)] if taken.columns else None
        frame = pandas.read_parquet(file, columns=names)
    return _taken(place, frame, taken)


def _taken(place: Place, frame: Any, taken: Taken) -> Input:
    """Return the columns that are taken, as a matrix, and the labels."""
    frame = frame.rename(columns=str)
    _require_columns(place, list(frame.columns), taken)
    columns = list(taken.columns) or [name for name in frame.columns if name != taken.labels]
    labels = None if taken.labels is None else as_labels(frame[taken.labels], place.source)
    return Input(matrix(frame[columns], place.source), labels)


def _require_columns(place: Place, names: list[str], taken: Taken) -> None:
    """Raise InvalidInputError where a column that is asked for is not among the names."""
    for name in (*taken.columns, *_asked_labels(taken)):
        if name not in names:
            listed = ", ".join([*names[:20], *(["..."] if len(names) > 20 else [])])
            raise InvalidInputError(f"{place.source} has no column {name!r}; it has {listed}")


def _asked_labels(taken: Taken) -> list[str]:
    return [] if taken.labels is None else [taken.labels]


def matrix(frame: Any, source: str) -> npt.NDArray[Any]:
    """Return a data frame's values; raise InvalidInputError where they are no numbers."""
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise InvalidInputError(f"{source} has {frame.shape[0]} rows and {frame.shape[1]} columns")
    for name, dtype in frame.dtypes.items():
        if dtype.kind not in "biuf":
            raise InvalidInputError(_about_text(source, name, frame[name]))
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise InvalidInputError(
            f"{source}: column {frame.columns[column]!r} has no value in row {row}, and "
            f"{np.count_nonzero(missing) - 1} more are missing; fill them, or leave out such rows "
            "or, with --columns, such columns"
        )
    # pandas' own types, which know missing values, stand for one of NumPy's.
    common = np.result_type(*(getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes))
    values: npt.NDArray[Any] = frame.to_numpy(dtype=common)
    return values


def _about_text(source: str, name: str, column: Any) -> str:
    """Say where a column that must hold numbers does not."""
    numbers = package("pandas", source).to_numeric(column, errors="coerce")
    row = int(np.argmax((numbers.isna() & column.notna()).to_numpy()))
    return (
        f"{source}: column {name!r} holds {column.iloc[row]!r} in row {row}, which is no number; "
        "choose others with --columns, or give it to --labels"
    )


def _require_names(place: Place, names: list[str]) -> None:
    """Raise InvalidInputError where the first line holds a point; plain numbering may stand."""
    if names and names != [str(k) for k in range(len(names))] and all(map(_is_number, names)):
        raise InvalidInputError(
            f"{place.source}: its first line, {','.join(names[:3])}..., holds numbers; it must "
            "name the columns"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        # pandas' name for the second of two columns that are both called 0.5.
        return text.count(".") == 2 and _is_number(text.rpartition(".")[0])
    return True
