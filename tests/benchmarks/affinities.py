"""Time the way from data to S = P + P^T, against a matrix product and exponentials in NumPy.

python tests/benchmarks/affinities.py --mnist mnist.npz --json affinities.json
"""

import dask
from common import Report, alternate, limited, make_data, make_parser
from engine import engine_of
from references import exponentials, products


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    report = Report("Affinities: from data to what a gradient step needs of P", options)
    X, name = make_data(options.mnist, options.n)
    n, threads = len(X), options.threads
    with (
        dask.config.set(num_workers=threads),
        limited(threads),
        engine_of(X, perplexity=options.perplexity, tail_mass=options.tail_mass) as engine,
    ):
        kept = engine.calibrate().calibration.kept
        seconds = alternate(
            {
                "product": lambda: products(X, threads),
                "exp": lambda: exponentials(n, threads),
                "calibration": engine.calibrate,
                "both": lambda: engine.objective(engine.calibrate()),
            },
            options.repeats,
        )
        predicted = engine.estimate().affinities
    product, exp = seconds["product"], seconds["exp"]
    bare, calibration, both = product + exp, seconds["calibration"], seconds["both"]
    per_pair = 1e9 * threads / n**2
    report.table(
        f"{name}, perplexity {options.perplexity:g}, tail_mass {options.tail_mass:g}, float64; "
        f"kept: {kept.mean():,.0f} entries a row",
        [
            {
                "what": what,
                "time": time,
                "a pair and core": time.scaled(per_pair, "ns"),
                "times the references": ratio,
            }
            for what, time, ratio in (
                ("X @ X.T in row blocks", product, ""),
                ("np.exp over N^2", exp, ""),
                ("both references", bare, ""),
                ("dasksne, calibration", calibration, calibration / bare),
                ("dasksne, calibration and S", both, both / bare),
            )
        ],
    )
    report.note(f"`plan` said {predicted:.3g} s for calibration and S; it took {both}")
    report.finish()


if __name__ == "__main__":
    main()
