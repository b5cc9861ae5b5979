"""What is asked for is checked here, before the libraries that draw it are loaded."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dasksne.errors import InvalidInputError
from dasksne.pictures.colours import SHADED_POINTS, colouring
from dasksne.types import FloatArray

PAGE = ".html"
PRINTS = (".png", ".svg", ".pdf")


def plot(
    embedding: FloatArray, path: str | Path, *, labels: Any = None, name: str = "label"
) -> None:
    """Draw a map, and write it as the path's suffix says: PNG, SVG, PDF or HTML.

    The HTML is one file that needs no network: it zooms, pans, and says what is under the pointer.
    More than 50,000 points overlap; then the picture shows how many are in each pixel, and which
    colours they have in the mean. In such an HTML 10,000 of the points, evenly chosen, answer to
    the pointer.

    Parameters
    ----------
    embedding : array of shape (N, 2)
    path : path
    labels : array of shape (N,), optional
        Colours the points: a class each for texts, truth values and up to 20 different whole
        numbers; a scale for other numbers. A point whose number is not finite is left out. Up to
        eight classes have the colours of Okabe and Ito, ten those of Petroff, which the
        colour-blind tell apart; the scale is "cividis".
    name : str, optional
        What the labels are, with their unit; stands beside the scale and under the pointer.

    Raises
    ------
    InvalidInputError
        The map has not two components or is not finite, the labels do not fit it, or the path's
        suffix or folder is not known.
    ImportError
        The extra is not installed.

    Examples
    --------
    >>> import tempfile, numpy, dasksne
    >>> Y = numpy.random.default_rng(0).normal(size=(100, 2))
    >>> dasksne.plot(Y, tempfile.mkdtemp() + "/map.png", labels=["a", "b"] * 50)
    """
    embedding = np.asarray(embedding, dtype=np.float64)
    require_drawable(path, embedding.shape)
    if not np.isfinite(embedding).all():
        raise InvalidInputError("the map holds NaN or infinity; a picture shows finite places")
    colours = colouring(labels, len(embedding))
    if _suffix(path) == PAGE:
        from dasksne.pictures.page import write_page  # noqa: PLC0415 - needs the extra

        write_page(path, embedding, colours, name)
    else:
        from dasksne.pictures.figure import write_figure  # noqa: PLC0415 - needs the extra

        write_figure(path, embedding, colours, name)


def plot_history(history: Mapping[str, FloatArray], path: str | Path) -> None:
    """Draw the cost, the gradient and the step of each iteration, as PNG, SVG or PDF.

    Parameters
    ----------
    history : mapping of str to array
        `SNE.history_`, or that of an opened run.
    path : path

    Raises
    ------
    InvalidInputError
        There is no iteration, or the path's suffix or folder is not known.
    ImportError
        The extra is not installed.

    Examples
    --------
    >>> import tempfile, numpy, dasksne
    >>> X = numpy.random.default_rng(0).normal(size=(50, 3))
    >>> model = dasksne.SNE(perplexity=5).fit(X)
    >>> dasksne.pictures.plot_history(model.history_, tempfile.mkdtemp() + "/history.png")
    """
    _require_path(path, PRINTS)
    if len(history["cost"]) == 0:
        raise InvalidInputError("the history holds no iteration; there is nothing to draw")
    from dasksne.pictures.history import write_history  # noqa: PLC0415 - needs the extra

    write_history(path, history)


def require_drawable(path: str | Path, shape: Sequence[int], labels: Any = None) -> None:
    """Raise what `plot` would raise of a map of this shape, before the map is there."""
    if len(shape) != 2 or shape[1] != 2:
        found = shape[1] if len(shape) == 2 else f"the shape {tuple(shape)}"
        raise InvalidInputError(f"a picture shows a map of two components; this one has {found}")
    if shape[0] == 0:
        raise InvalidInputError("a picture shows a map of one point or more; this one has none")
    _require_path(path, (*PRINTS, PAGE))
    colouring(labels, shape[0])
    if shape[0] > SHADED_POINTS:
        _require_installed("datashader", f"a picture of more than {SHADED_POINTS:,} points")


def _require_path(path: str | Path, suffixes: Sequence[str]) -> None:
    suffix = _suffix(path)
    if suffix not in suffixes:
        known = ", ".join(suffixes)
        raise InvalidInputError(f"{path} ends in no format that is known; use one of {known}")
    if not Path(path).absolute().parent.is_dir():
        raise InvalidInputError(f"{path} lies in a folder that does not exist")
    if suffix == PAGE:
        _require_installed("bokeh", "an HTML picture")
    else:
        _require_installed("matplotlib", "a picture")


def _require_installed(module: str, what: str) -> None:
    if find_spec(module) is None:
        raise ImportError(f'{what} needs {module}; pip install "dasksne[plot]"')


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower()
