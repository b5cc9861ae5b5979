"""A map of an AnnData object, kept in it, as scanpy's tools keep theirs."""

from typing import Any

from dasksne.errors import InvalidInputError
from dasksne.estimator import SNE


def sne(
    adata: Any,
    *,
    use_rep: str | None = None,
    obsp: str | None = None,
    key_added: str = "X_sne",
    sample_weight: Any = None,
    **options: Any,
) -> None:
    """Map the observations of an AnnData object, and keep the map in its `obsm`.

    Parameters
    ----------
    adata : anndata.AnnData
        Gains the map as `obsm[key_added]`, shape (N, d), and as `uns[key_added]` the options that
        are numbers or texts, the final cost in nats and the number of iterations.
    use_rep : str, optional
        What of `obsm` is mapped; X where it is not given.
    obsp : str, optional
        What of `obsp` is mapped instead: a graph of neighbours, such as the "connectivities" that
        scanpy makes. Its weights are affinities, and each row, divided by its sum, is one of P; see
        `metric="affinities"` of `dasksne.SNE`.
    key_added : str, optional
    sample_weight : array of shape (N,), optional
        How often each observation counts, as for `dasksne.SNE.fit`.
    **options
        Those of `dasksne.SNE`.

    Raises
    ------
    InvalidInputError
        `obsm` or `obsp` has no such member or holds distances there, or what is mapped, or an
        option, cannot be used.

    Examples
    --------
    >>> import anndata, numpy, dasksne
    >>> adata = anndata.AnnData(obsm={"X_pca": numpy.random.default_rng(0).normal(size=(60, 5))})
    >>> dasksne.sne(adata, use_rep="X_pca", perplexity=10)
    >>> adata.obsm["X_sne"].shape
    (60, 2)
    """
    if use_rep is not None and obsp is not None:
        raise InvalidInputError(f"use_rep={use_rep!r} and obsp={obsp!r}: give one of the two")
    if obsp is not None:
        options = {**options, "metric": "affinities"}
        x, what = _graph(adata, obsp), {"obsp": obsp}
    else:
        x, what = _representation(adata, use_rep), {"use_rep": use_rep or "X"}
    model = SNE(**options).fit(x, sample_weight=sample_weight)
    adata.obsm[key_added] = model.embedding_
    adata.uns[key_added] = {
        "params": {**what, **_written(options)},
        "kl_divergence": model.kl_divergence_,
        "n_iter": model.n_iter_,
    }


def _representation(adata: Any, use_rep: str | None) -> Any:
    """Return what has the features of the observations."""
    if use_rep is not None and use_rep not in adata.obsm:
        raise InvalidInputError(
            f"use_rep={use_rep!r} is not in obsm, which holds {', '.join(adata.obsm) or 'nothing'}"
        )
    x = adata.X if use_rep is None else adata.obsm[use_rep]
    if x is None:
        raise InvalidInputError("X is not there; give use_rep, the name of a member of obsm")
    return x


def _graph(adata: Any, name: str) -> Any:
    """Return a graph of neighbours; scanpy keeps one of distances beside that of affinities."""
    if name not in adata.obsp:
        raise InvalidInputError(
            f"obsp={name!r} is not in obsp, which holds {', '.join(adata.obsp) or 'nothing'}"
        )
    if name.endswith("distances"):
        raise InvalidInputError(
            f"obsp={name!r} holds distances, and affinities are needed; give the connectivities "
            "that belong to it"
        )
    return adata.obsp[name]


def _written(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that every version of AnnData can write to a file."""
    return {name: value for name, value in options.items() if isinstance(value, str | float | int)}
