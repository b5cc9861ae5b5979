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
        calibration = engine.calibrate()
        seconds = alternate(
            {
                "product": lambda: products(X, threads),
                "exp": lambda: exponentials(n, threads),
                "calibration": engine.calibrate,
                "S": lambda: engine.objective(calibration),
            },
            options.repeats,
        )
        predicted = engine.estimate().affinities
    product, exp = seconds["product"], seconds["exp"]
    bare, affinities = product + exp, seconds["calibration"] + seconds["S"]
    per_pair = 1e9 * threads / n**2
    report.table(
        f"{name}, perplexity {options.perplexity:g}, tail_mass {options.tail_mass:g}, float64; "
        f"kept: {calibration.kept.mean():,.0f} entries a row",
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
                ("dasksne, calibration", seconds["calibration"], seconds["calibration"] / bare),
                ("dasksne, S", seconds["S"], seconds["S"] / bare),
                ("dasksne, both", affinities, affinities / bare),
            )
        ],
    )
    report.note(f"`plan` said {predicted:.3g} s for calibration and S; it took {affinities}")
    report.finish()


if __name__ == "__main__":
    main()
