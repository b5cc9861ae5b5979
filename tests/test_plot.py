"""Pictures of a map: their kind, what they show, and what is refused before work."""

import builtins
import importlib.util

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from dasksne.errors import InvalidInputError
from dasksne.plot import COLOURS, plot, require_drawable


@pytest.fixture
def y(rng):
    return rng.normal(size=(60, 2)) * [3.0, 1.0]


@pytest.fixture
def drawn(monkeypatch):
    """Collect the figures that are written."""
    figures = []
    save = Figure.savefig

    def savefig(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")],
)
def test_the_suffix_says_which_kind(tmp_path, y, suffix, magic):
    path = tmp_path / f"map.{suffix}"
    plot(y, path)
    assert path.read_bytes().startswith(magic)


def test_the_picture_shows_every_point(tmp_path, y):
    plot(y, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").read_text().count("<use ") == len(y)


def test_classes_get_a_colour_each_and_a_legend(tmp_path, y, drawn):
    labels = np.arange(60) % 12
    plot(y, tmp_path / "map.png", labels=labels)
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        str(k) for k in range(12)
    ]
    groups = axes.collections
    for k, group in enumerate(groups):
        np.testing.assert_array_equal(group.get_offsets(), y[labels == k])
    looks = {(tuple(g.get_facecolor()[0]), g.get_paths()[0].vertices.tobytes()) for g in groups}
    assert len(looks) == 12
    colours = matplotlib.image.imread(tmp_path / "map.png")[..., :3].reshape(-1, 3)
    for colour in COLOURS:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.rint(colours * 255) == wanted).all(axis=1).any()


def test_texts_are_classes(tmp_path, y, drawn):
    plot(y, tmp_path / "map.png", labels=["b", "a"] * 30)
    legend = drawn[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 60), np.arange(60)])
def test_other_numbers_are_shown_on_a_scale(tmp_path, y, drawn, labels):
    plot(y, tmp_path / "map.png", labels=labels)
    axes, bar = drawn[0].axes
    assert axes.get_legend() is None
    assert bar.get_ylim() == (labels[0], labels[-1])
    np.testing.assert_array_equal(axes.collections[0].get_array(), labels)


def test_both_axes_have_the_same_scale(tmp_path, y, drawn):
    plot(y, tmp_path / "map.png")
    box = drawn[0].axes[0].transData.transform([[0, 0], [1, 0], [0, 1]])
    assert box[1, 0] - box[0, 0] == pytest.approx(box[2, 1] - box[0, 1])


def test_more_points_are_smaller_ones(tmp_path, rng, drawn):
    for n in (100, 5_000, 50_000):
        plot(rng.normal(size=(n, 2)), tmp_path / "map.png")
    sizes = [figure.axes[0].collections[0].get_sizes()[0] for figure in drawn]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_many_points_are_one_image_in_an_svg(tmp_path, rng):
    plot(rng.normal(size=(12_000, 2)), tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("name", "n_components", "message"),
    [
        ("map.gif", 2, ".png, .svg, .pdf"),
        ("map", 2, ".png, .svg, .pdf"),
        ("map.png", 3, "has 3"),
        ("none/map.png", 2, "folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, name, n_components, message):
    with pytest.raises(InvalidInputError, match=message):
        require_drawable(tmp_path / name, n_components)
    with pytest.raises(InvalidInputError, match=message):
        plot(np.zeros((3, n_components)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit_are_refused(tmp_path, y):
    with pytest.raises(InvalidInputError, match="60"):
        plot(y, tmp_path / "map.png", labels=np.arange(59))
    with pytest.raises(InvalidInputError, match="61 different"):
        plot(np.zeros((61, 2)), tmp_path / "map.png", labels=[f"{k}" for k in range(61)])
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    find, imports = importlib.util.find_spec, builtins.__import__
    monkeypatch.setattr(
        "dasksne.plot.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *rest: pytest.fail(name) if name == "matplotlib" else imports(name, *rest),
    )
    with pytest.raises(ImportError, match=r"pip install \"dasksne\[plot\]\""):
        require_drawable(tmp_path / "map.png", 2)
