"""Tables and AnnData files, in and out."""

import shutil
from pathlib import Path

import anndata
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from click.testing import CliRunner
from sklearn.neighbors import kneighbors_graph

import dasksne
from dasksne.cli import main
from dasksne.errors import InvalidInputError
from dasksne.files import Taken, read_input, write_map

N = 40
GRAPH = "obsp/connectivities"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def frame(rng):
    kinds = np.array(["left", "right"])[rng.integers(0, 2, N)]
    return pd.DataFrame(
        {
            "a": rng.normal(size=N),
            "b": rng.integers(0, 9, N),
            "kind": kinds,
            "c": rng.normal(size=N),
        }
    )


@pytest.fixture
def adata(frame, rng):
    x = scipy.sparse.random_array((N, 6), density=0.5, rng=rng, format="csr")
    graph = kneighbors_graph(frame[["a", "b"]].to_numpy(), 4, mode="connectivity")
    return anndata.AnnData(
        X=x,
        obs=frame[["kind"]].set_axis([f"cell{k}" for k in range(N)]),
        obsm={"X_pca": frame[["a", "b"]].to_numpy()},
        obsp={"connectivities": graph, "distances": graph},
    )


def write(frame, name):
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_parquet(name)
    return name


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_columns_and_labels_are_chosen_by_name(frame, name):
    write(frame, name)
    found = read_input(name, taken=Taken(columns=("c", "a"), labels="kind"))
    np.testing.assert_array_equal(found.X, frame[["c", "a"]])
    np.testing.assert_array_equal(found.labels, frame["kind"].to_numpy(dtype=str))
    found = read_input(name, taken=Taken(labels="kind"))
    np.testing.assert_array_equal(found.X, frame[["a", "b", "c"]])


def test_an_index_that_was_written_is_no_feature(frame):
    frame[["a", "b"]].to_csv("x.csv")
    np.testing.assert_array_equal(read_input("x.csv").X, frame[["a", "b"]])


@pytest.mark.parametrize("kind", ["Float64", "Int16", "float32"])
def test_numbers_of_any_type(kind):
    pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}, dtype=kind).to_parquet("x.parquet")
    found = read_input("x.parquet").X
    assert found.dtype == kind.lower()
    np.testing.assert_array_equal(found, [[1, 4], [2, 5], [3, 6]])


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
@pytest.mark.parametrize(
    ("change", "taken", "said"),
    [
        ({}, {}, "column 'kind' holds '(left|right)' in row 0, which is no number; choose others"),
        ({}, {"columns": ("a", "z")}, "has no column 'z'; it has a, b, kind, c"),
        ({}, {"labels": "z"}, "'z'"),
        ({}, {"key": "X"}, "has no --key"),
        ({"c": [np.nan, *range(N - 1)]}, {"labels": "kind"}, "'c' has no value in row 0"),
    ],
)
def test_a_table_that_cannot_be_mapped_is_refused(frame, name, change, taken, said):
    write(frame.assign(**change), name)
    with pytest.raises(InvalidInputError, match=f"(?s)x\\{Path(name).suffix}.*{said}"):
        read_input(name, taken=Taken(**taken))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.csv cannot be read as a .csv"),
        ("1.5,2.5\n3,4\n", "holds numbers; it must name the columns"),
        ("a,b\n", "0 rows"),
        ("a,b\n1,2\n3,4,5,6\n", "cannot be read as a .csv"),
        ("a,b\n1,\n3,4\n", "'b' has no value in row 0"),
    ],
)
def test_a_csv_that_is_none_is_refused(text, said):
    Path("x.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=said):
        read_input("x.csv")


def test_files_of_another_kind_are_refused():
    for name in ("x.parquet", "x.h5ad"):
        Path(name).write_bytes(b"rubbish")
        with pytest.raises(InvalidInputError, match=f"{name} cannot be read as a"):
            read_input(name)


@pytest.mark.parametrize("key", [None, "X", "X_pca", GRAPH])
def test_an_h5ad_gives_x_or_a_member_of_obsm_or_obsp(adata, key):
    adata.write_h5ad("x.h5ad")
    found = read_input("x.h5ad", taken=Taken(key=key, labels="kind"))
    expected = {"X_pca": adata.obsm["X_pca"], GRAPH: adata.obsp["connectivities"].toarray()}.get(
        key, adata.X.toarray()
    )
    x = found.X.toarray() if scipy.sparse.issparse(found.X) else found.X
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(found.labels, adata.obs["kind"].to_numpy(dtype=str))


def test_what_an_h5ad_does_not_hold_is_named(adata):
    adata.write_h5ad("x.h5ad")
    holds = "X, X_pca, obsp/connectivities, obsp/distances"
    with pytest.raises(InvalidInputError, match=rf"x\.h5ad holds {holds}; choose one"):
        read_input("x.h5ad", taken=Taken(key="X_umap"))
    with pytest.raises(InvalidInputError, match=r"no column 'age' in obs; it has kind"):
        read_input("x.h5ad", taken=Taken(labels="age"))
    with h5py.File("other.h5ad", "w") as file:
        file["data"] = np.zeros((3, 2))
    with pytest.raises(
        InvalidInputError, match=r"other\.h5ad .* neither X nor obsm nor obsp\); write"
    ):
        read_input("other.h5ad")


def test_a_map_goes_into_an_h5ad_beside_all_else(adata, rng):
    adata.write_h5ad("x.h5ad")
    y = rng.normal(size=(N, 2))
    for _ in range(2):  # also where there is a map already
        write_map("x.h5ad", y, None)
    found = anndata.read_h5ad("x.h5ad")
    np.testing.assert_array_equal(found.obsm["X_sne"], y)
    np.testing.assert_array_equal(found.obsm["X_pca"], adata.obsm["X_pca"])
    np.testing.assert_array_equal(found.X.toarray(), adata.X.toarray())
    with pytest.raises(InvalidInputError, match=f"has {N} rows, and the map 3"):
        write_map("x.h5ad", y[:3], None)


def test_maps_are_written_with_their_labels(rng):
    y, labels = rng.normal(size=(N, 2)), np.array(["a", "b"] * (N // 2))
    write_map("y.parquet", y, labels)
    found = pd.read_parquet("y.parquet")
    np.testing.assert_array_equal(found[["sne0", "sne1"]], y)
    assert found["label"].tolist() == labels.tolist()
    write_map("y.h5ad", y, labels)
    made = anndata.read_h5ad("y.h5ad")
    np.testing.assert_array_equal(made.obsm["X_sne"], y)
    assert made.obs["label"].tolist() == labels.tolist()


def test_the_command_goes_from_h5ad_to_h5ad(adata):
    adata.write_h5ad("x.h5ad")
    shutil.copy("x.h5ad", "out.h5ad")
    options = ["--perplexity", "5", "--max-iter", "3"]
    for arguments in (
        ["embed", "x.h5ad", "-o", "map.zarr", "--key", "X_pca", "--labels", "kind", *options],
        ["export", "map.zarr", "out.h5ad"],
        ["transform", "map.zarr", "x.h5ad", "--key", "X_pca", "-o", "placed.parquet"],
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    opened = dasksne.open_run("map.zarr")
    assert opened.labels.tolist() == adata.obs["kind"].tolist()
    np.testing.assert_array_equal(anndata.read_h5ad("out.h5ad").obsm["X_sne"], opened.embedding)
    placed = pd.read_parquet("placed.parquet")[["sne0", "sne1"]]
    np.testing.assert_array_equal(placed, opened.embedding)


# AnnData in memory


def test_an_anndata_object_gains_its_map(adata):
    options = {"perplexity": 5, "max_iter": 3}
    dasksne.sne(adata, **options)
    dasksne.sne(adata, use_rep="X_pca", key_added="X_other", **options)
    for key, x in (("X_sne", adata.X.toarray()), ("X_other", adata.obsm["X_pca"])):
        model = dasksne.SNE(**options).fit(x)
        np.testing.assert_array_equal(adata.obsm[key], model.embedding_)
        assert adata.uns[key]["kl_divergence"] == model.kl_divergence_
    assert adata.uns["X_other"]["params"] == {"use_rep": "X_pca", **options}
    weights = 1.0 + np.arange(adata.n_obs) % 2
    dasksne.sne(adata, use_rep="X_pca", key_added="X_weighted", sample_weight=weights, **options)
    model = dasksne.SNE(**options).fit(adata.obsm["X_pca"], sample_weight=weights)
    np.testing.assert_array_equal(adata.obsm["X_weighted"], model.embedding_)
    adata.write_h5ad("x.h5ad")
    assert anndata.read_h5ad("x.h5ad").uns["X_sne"]["n_iter"] == adata.uns["X_sne"]["n_iter"]


def test_a_graph_of_neighbours_of_an_anndata_object(adata):
    options = {"random_state": 0, "max_iter": 3}
    dasksne.sne(adata, obsp="connectivities", **options)
    model = dasksne.SNE(metric="affinities", **options).fit(adata.obsp["connectivities"])
    np.testing.assert_array_equal(adata.obsm["X_sne"], model.embedding_)
    params = {"obsp": "connectivities", "metric": "affinities", **options}
    assert adata.uns["X_sne"]["params"] == params


def test_an_anndata_object_can_be_written_whatever_the_options(frame):
    x = frame[["a", "b", "c"]].to_numpy()
    adata = anndata.AnnData(X=da.from_array(x, chunks=(15, 3)))
    options = {"store": Path("run.zarr"), "annealing": None, "callbacks": lambda _event: None}
    dasksne.sne(adata, perplexity=5, max_iter=3, **options)
    assert isinstance(adata.obsm["X_sne"], np.ndarray)
    assert adata.uns["X_sne"]["params"] == {"use_rep": "X", "perplexity": 5, "max_iter": 3}
    adata.write_h5ad("x.h5ad")


def test_an_anndata_object_without_what_is_asked_for(adata):
    with pytest.raises(InvalidInputError, match="'X_umap' is not in obsm, which holds X_pca"):
        dasksne.sne(adata, use_rep="X_umap")
    with pytest.raises(InvalidInputError, match="is not in obsp, which holds connectivities, dist"):
        dasksne.sne(adata, obsp="neighbors")
    with pytest.raises(InvalidInputError, match="holds distances, and affinities are needed"):
        dasksne.sne(adata, obsp="distances")
    with pytest.raises(InvalidInputError, match="give one of the two"):
        dasksne.sne(adata, obsp="connectivities", use_rep="X_pca")
    with pytest.raises(InvalidInputError, match="give use_rep"):
        dasksne.sne(anndata.AnnData(obsm={"X_pca": np.zeros((5, 2))}))
