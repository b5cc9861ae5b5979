"""Pictures of a map: their kind, what they show, and what is refused before work."""

import importlib.util
import json
import re
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from bokeh.document import Document
from bokeh.models import ColorBar, GlyphRenderer, HoverTool, LegendItem
from browser import TEXT, Page
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import dasksne
from dasksne.errors import InvalidInputError
from dasksne.pictures import plot, plot_history, require_drawable
from dasksne.pictures.colours import COLOURS, FEW_COLOURS, SHADED_POINTS, colouring
from dasksne.pictures.page import ANSWERING_POINTS
from dasksne.pictures.shading import shade

MANY = SHADED_POINTS + 1


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


def test_texts_may_be_missing(tmp_path, y, drawn):
    for k, missing in enumerate((None, np.nan, pd.NA, pd.NaT)):
        plot(y, tmp_path / "map.png", labels=pd.Series(["b", "a", missing] * 20, dtype=object))
        legend = drawn[k].axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["", "a", "b"]


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


# Many points


def test_a_pixel_is_the_darker_the_more_points_it_has():
    counts = np.array([1, 10, 100])
    y = np.repeat([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]], counts, axis=0)
    pixels, x_range, y_range = shade(y, colouring(None, len(y)), 101)
    opacity = [at(pixels, x_range, y_range, *place)[3] for place in ((0, 0), (1, 0), (2, 1))]
    assert opacity == sorted(opacity)
    assert len(set(opacity)) == 3
    assert pixels[:, :, 3].mean() < 10  # nothing where no point is


def test_a_pixel_has_the_colour_of_its_class():
    y = np.array([[0.0, 0.0], [1.0, 0.0]] * 50)
    classes = colouring(["a", "b"] * 50, 100)
    pixels, *ranges = shade(y, classes, 101)
    for place, colour in (((0, 0), classes.colours[0]), ((1, 0), classes.colours[1])):
        np.testing.assert_array_equal(at(pixels, *ranges, *place)[:3] / 255, to_rgb(colour))


def test_a_pixel_has_the_mean_of_its_numbers():
    y = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    pixels, *ranges = shade(y, colouring([0.0, 2.0, 1.0, 2.0], 4), 101)
    mean, same, other = (at(pixels, *ranges, x, 0) for x in (0, 1, 2))
    np.testing.assert_array_equal(mean, same)
    assert not np.array_equal(mean, other)


def at(pixels, x_range, y_range, x, y):
    height, width, _ = pixels.shape
    column = int((x - x_range[0]) / (x_range[1] - x_range[0]) * width)
    row = int((y - y_range[0]) / (y_range[1] - y_range[0]) * height)
    return pixels[min(row, height - 1), min(column, width - 1)]


@pytest.mark.parametrize("place", [0.0, -3e8])
@pytest.mark.parametrize("shape", ["a point", "a line"])
def test_maps_without_area_are_shaded(tmp_path, shape, place):
    y = np.full((MANY, 2), place)
    if shape == "a line":
        y[:, 1] += np.arange(MANY)
    plot(y, tmp_path / "map.png")
    assert matplotlib.image.imread(tmp_path / "map.png")[..., :3].min() < 0.9


def test_many_points_have_a_legend_too(tmp_path, rng, drawn):
    plot(rng.normal(size=(MANY, 2)), tmp_path / "map.png", labels=np.arange(MANY) % 12)
    axes = drawn[0].axes[0]
    assert len(axes.images) == 1
    assert not axes.collections
    colours = {entry.get_color() for entry in axes.get_legend().get_lines()}
    assert len(colours) == 12


# A page


def page_of(path):
    """Return the document of a page, which must ask the network for nothing."""
    text = path.read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']?(?:https?:)?//", text)
    (found,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    (document,) = json.loads(found).values()
    return Document.from_json(document)


def points_of(page):
    """Return place, number and label of the points that answer to the pointer."""
    (hover,) = page.select({"type": HoverTool})
    data = [mark.data_source.data for mark in hover.renderers]
    columns = [np.concatenate([part[name] for part in data]) for name in ("x", "y", "point")]
    values = np.concatenate([part["value"] for part in data]) if "value" in data[0] else None
    order = np.argsort(columns[2])
    where = np.column_stack(columns[:2])[order]
    return where, columns[2][order], None if values is None else values[order]


def test_a_page_says_what_is_under_the_pointer(tmp_path, y):
    labels = np.array(["cat", "dog", "owl"] * 20)
    plot(y, tmp_path / "map.html", labels=labels, name="animal")
    page = page_of(tmp_path / "map.html")
    where, numbers, values = points_of(page)
    np.testing.assert_array_equal(where, y)
    np.testing.assert_array_equal(numbers, np.arange(60))
    np.testing.assert_array_equal(values, labels)
    (hover,) = page.select({"type": HoverTool})
    assert [tuple(said) for said in hover.tooltips] == [("point", "@point"), ("animal", "@value")]
    items = list(page.select({"type": LegendItem}))
    assert {item.label.value for item in items} == {"cat", "dog", "owl"}
    assert len({str(item.renderers[0].glyph.fill_color) for item in items}) == 3


def test_a_page_without_labels_has_no_legend(tmp_path, y):
    plot(y, tmp_path / "map.html")
    page = page_of(tmp_path / "map.html")
    assert not list(page.select({"type": LegendItem}))
    assert points_of(page)[2] is None


def test_a_page_has_a_scale_for_numbers(tmp_path, y):
    plot(y, tmp_path / "map.html", labels=np.linspace(0.0, 1.0, 60), name="age in years")
    page = page_of(tmp_path / "map.html")
    (bar,) = page.select({"type": ColorBar})
    assert bar.title == "age in years"
    assert (bar.color_mapper.low, bar.color_mapper.high) == (0.0, 1.0)
    np.testing.assert_array_equal(points_of(page)[2], np.linspace(0.0, 1.0, 60))


def test_a_page_of_many_points_is_an_image_and_some_that_answer(tmp_path, rng):
    y = rng.normal(size=(MANY, 2))
    plot(y, tmp_path / "map.html", labels=np.arange(MANY) % 3)
    assert (tmp_path / "map.html").stat().st_size < 10_000_000
    page = page_of(tmp_path / "map.html")
    where, numbers, values = points_of(page)
    assert len(numbers) == ANSWERING_POINTS
    np.testing.assert_array_equal(where, y[numbers])
    np.testing.assert_array_equal(values.astype(int), numbers % 3)
    (image,) = (m for m in page.select({"type": GlyphRenderer}) if "url" in m.data_source.data)
    assert image.data_source.data["url"][0].startswith("data:image/png;base64,")


def test_a_few_numbers_far_outside_do_not_take_the_scale(tmp_path, rng, drawn):
    numbers = np.concatenate([[-300.0], np.linspace(0.0, 1.0, 299), [0.5, 40.0, np.nan]])
    scale = colouring(numbers, len(numbers))
    assert (scale.low, scale.high) == tuple(np.quantile(numbers[:-1], (0.01, 0.99)))
    assert scale.cut == "both"
    assert colouring(numbers[1:-2], 300).cut == "neither"
    counts = np.concatenate([np.zeros(999), [0.5]])
    assert colouring(counts, 1000).high == 0.5, "a scale has two ends"
    y = rng.normal(size=(len(numbers), 2))
    plot(y, tmp_path / "map.png", labels=numbers)
    (points,) = drawn[0].axes[0].collections
    assert points.get_clim() == (scale.low, scale.high)
    plot(y, tmp_path / "map.html", labels=numbers)
    (bar,) = page_of(tmp_path / "map.html").select({"type": ColorBar})
    assert (bar.color_mapper.low, bar.color_mapper.high) == (scale.low, scale.high)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
SPAN = "(range => range.end - range.start)(Bokeh.documents[0].roots()[0].x_range)"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to look at the page with")
@pytest.mark.parametrize("n", [600, MANY])
def test_a_browser_shows_the_page_without_a_network(tmp_path, rng, n):
    codes = np.arange(n) % 3
    y = 0.1 * rng.normal(size=(n, 2)) + np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])[codes]
    plot(y, tmp_path / "map.html", labels=np.array(["cat", "cow", "dog"])[codes], name="animal")
    with Page(CHROMIUM, tmp_path / "map.html", tmp_path) as page:
        picture, places = page.picture(), []
        for colour in FEW_COLOURS[:3]:
            near = np.abs(picture - to_rgb(colour)).max(axis=2) < 0.02
            rows, columns = np.nonzero(near[:, :850])
            assert rows.size > 50, f"{colour} is on the map"
            assert near[:, 850:].any(), f"{colour} is in the legend"
            middle = np.argsort(columns)[columns.size // 2]
            places.append((columns[middle], rows[middle]))
        (left, _), (right, _), (above, _) = places
        assert abs(left - above) < 50
        assert right - left > 300
        for place, label in zip(places, ("cat", "cow", "dog"), strict=True):
            page.point_at(*place)
            page.wait_for(f"/animal: {label}/.test({TEXT})")
        before = page.value(SPAN)
        page.scroll(*places[0], by=-300)
        page.wait_for(f"{SPAN} < 0.9 * {before}")


# History


def test_the_history_is_drawn_as_it_was(tmp_path, rng, drawn):
    model = dasksne.SNE(perplexity=5, annealing=[10.0], max_iter=8).fit(rng.normal(size=(40, 3)))
    plot_history(model.history_, tmp_path / "history.svg")
    cost, gradient, step = drawn[0].axes
    for axes, values in (
        (cost, model.history_["cost"]),
        (gradient, model.history_["gradient_norm"]),
        (step, model.history_["step"]),
    ):
        np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), values)
    assert [text.get_text() for text in cost.texts] == [" 10", " 5"]
    with pytest.raises(InvalidInputError, match="no iteration"):
        plot_history({"cost": np.empty(0)}, tmp_path / "none.png")
    with pytest.raises(InvalidInputError, match=r"map\.html ends in no format"):
        plot_history(model.history_, tmp_path / "map.html")


# What is refused


@pytest.mark.parametrize(
    ("name", "n_components", "message"),
    [
        ("map.gif", 2, ".png, .svg, .pdf, .html"),
        ("map", 2, ".png, .svg, .pdf, .html"),
        ("map.png", 3, "has 3"),
        ("none/map.png", 2, "folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, name, n_components, message):
    with pytest.raises(InvalidInputError, match=message):
        require_drawable(tmp_path / name, (3, n_components))
    with pytest.raises(InvalidInputError, match=message):
        plot(np.zeros((3, n_components)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit_are_refused(tmp_path, y):
    with pytest.raises(InvalidInputError, match="60"):
        plot(y, tmp_path / "map.png", labels=np.arange(59))
    with pytest.raises(InvalidInputError, match="61 different"):
        plot(np.zeros((61, 2)), tmp_path / "map.png", labels=[f"{k}" for k in range(61)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("y", [np.zeros((0, 2)), np.zeros(5), np.full((3, 2), np.nan)])
def test_maps_that_cannot_be_drawn_are_refused(tmp_path, y):
    with pytest.raises(InvalidInputError, match="a picture shows"):
        plot(y, tmp_path / "map.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "name", "n"),
    [("matplotlib", "map.png", 3), ("bokeh", "map.html", 3), ("datashader", "map.png", MANY)],
)
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, missing, name, n):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "dasksne.pictures.draw.find_spec", lambda name: None if name == missing else find(name)
    )
    wanted = rf"{missing}; pip install \"dasksne\[plot\]\""
    with pytest.raises(ImportError, match=wanted):
        require_drawable(tmp_path / name, (n, 2))
    with pytest.raises(ImportError, match=wanted):
        plot(np.zeros((n, 2)), tmp_path / name)
