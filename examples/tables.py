"""Tables in, tables out: python examples/tables.py [FOLDER].

The wines of scikit-learn as a data frame, a file, and an AnnData object. Their features have units
of their own, so each is divided by its standard deviation. From the shell:

    dasksne embed wines.csv -o wines.zarr --scale --labels kind
    dasksne export wines.zarr wines.h5ad
"""

import sys
from pathlib import Path

import anndata
import pandas as pd
from sklearn.datasets import load_wine

import dasksne


def main(folder: Path = Path(), **options: object) -> None:
    """Write wines.csv, wines-map.csv, wines.h5ad and wines.png to a folder."""
    wines = load_wine(as_frame=True)
    kinds = wines.target.map(dict(enumerate(wines.target_names))).rename("kind")
    wines.data.join(kinds).to_csv(folder / "wines.csv", index=False)

    table = pd.read_csv(folder / "wines.csv")
    features = table.drop(columns="kind")
    model = dasksne.SNE(scale=True, **options).set_output(transform="pandas")
    places = model.fit_transform(features)  # a data frame with the table's index
    table.join(places).to_csv(folder / "wines-map.csv", index=False)
    dasksne.plot(places, folder / "wines.png", labels=table["kind"])

    adata = anndata.AnnData(
        features.to_numpy(), obs=table[["kind"]].set_index(table.index.map(str))
    )
    dasksne.sne(adata, scale=True, **options)  # adds obsm["X_sne"], as scanpy's tools do
    adata.write_h5ad(folder / "wines.h5ad")
    print(f"columns {', '.join(places)}; obsm {', '.join(adata.obsm)}")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))
