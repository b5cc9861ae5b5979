"""Pictures of a map and of how it was found; need the extra, `pip install "dasksne[plot]"`."""

from dasksne.pictures.draw import plot, plot_history, require_drawable

__all__ = ["plot", "plot_history", "require_drawable"]
