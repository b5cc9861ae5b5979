"""Files in and out: data and labels that the command reads, maps that it writes."""

from dasksne.files.places import Taken
from dasksne.files.reading import read_array, read_input, read_labels
from dasksne.files.writing import require_writable, write_map

__all__ = [
    "Taken",
    "read_array",
    "read_input",
    "read_labels",
    "require_writable",
    "write_map",
]
