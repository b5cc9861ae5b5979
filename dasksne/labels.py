"""Labels of the points, kept in a run beside the map that they colour."""

import numpy as np
import numpy.typing as npt

from dasksne.run import Run

NAMES = "label_names"
"""Attribute with the texts that the kept numbers stand for, where labels are texts."""


def keep_labels(run: Run, labels: npt.NDArray[np.generic]) -> None:
    """Write labels to a run as its array `labels`, shape (N,).

    Texts are kept as numbers, and what they stand for in the attributes: Zarr has no text of fixed
    length that all its readers know.
    """
    if labels.dtype.kind == "U":
        names, labels = np.unique(labels, return_inverse=True)
        run.update(**{NAMES: names.tolist()})
    run.create_array("labels", labels.shape, labels.shape, labels.dtype)
    run.write("labels", slice(None), labels)


def kept_labels(run: Run) -> npt.NDArray[np.generic] | None:
    """Return the labels that a run keeps, or None."""
    if not run.has("labels"):
        return None
    labels: npt.NDArray[np.generic] = run.read("labels")
    names = run.state.get(NAMES)
    return labels if names is None else np.array(names)[labels]
