"""Imputation of values that are missing at random, and of values that are not."""

import warnings
from functools import partial
from importlib.util import find_spec
from time import process_time

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks._sections import data, grid, paragraphs, say, share
from skgen import EMGaussianMixture, GaussianKDE, GenerativeImputer

_UCI = ("concrete", "energy", "yacht", "wine", "parkinsons", "pol", "kin40k")
_BUNDLED = ("iris", "wine", "breast_cancer", "diabetes")

# Maximum number of rows, fraction of missing values, and number of draws.
_ROWS, _FRACTION, _DRAWS = 1000, 0.2, 10

# Number of seeds: of the rows, of their missing values and of the methods. And of the
# completed tables of miceforest.
_SEEDS, _DATASETS = 2, 5


def tables(options, seed):
    """Yield names and standardised rows (n, d), without constant columns."""
    for name in _UCI:
        X = pd.read_csv(data("uci", f"{name}.csv.gz"), header=None).to_numpy(float)
        yield name, _standardised(X, options, seed)
    for name in _BUNDLED:
        X = getattr(datasets, f"load_{name}")().data
        yield f"{name} (bundled)", _standardised(X, options, seed)


def _standardised(X, options, seed):
    rng = np.random.default_rng(seed)
    X = X[rng.permutation(len(X))[: share(_ROWS, options, 60)]]
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def at_random(X, rng):
    """Return which values of rows (n, d) are missing, whatever they are."""
    return rng.uniform(size=X.shape) < _FRACTION


def not_at_random(X, rng):
    """Return which values are missing, three times as often above the mean."""
    above = X > 0
    odds = np.where(above, 3.0, 1.0)
    return rng.uniform(size=X.shape) < _FRACTION * odds / odds.mean(axis=0)


# -- methods: imputed rows (n, d), draws (s, n, d) or None, and CPU seconds ------------


def _without_draws(imputer, hidden, seed):
    """Impute by one of scikit-learn's imputers without draws."""
    if hasattr(imputer, "random_state"):
        imputer.set_params(random_state=seed)
    start = process_time()
    filled = imputer.fit_transform(hidden)
    return filled, None, process_time() - start


def _iterative(hidden, seed):
    """Impute by Bayesian regressions."""
    filled, _, seconds = _without_draws(IterativeImputer(), hidden, seed)
    drawing = IterativeImputer(sample_posterior=True, random_state=seed).fit(hidden)
    draws = np.stack([drawing.transform(hidden) for _ in range(_DRAWS)])
    return filled, draws, seconds  # all draws are different


def _miss_forest(hidden, seed):
    """Impute by forests of the published size (Stekhoven and Bühlmann, 2012)."""
    forest = RandomForestRegressor(100, max_features="sqrt", random_state=seed)
    return _without_draws(IterativeImputer(forest, max_iter=10), hidden, seed)


def _miceforest(hidden, seed):
    """Impute by gradient boosting and predictive mean matching."""
    import miceforest

    start = process_time()
    frame = pd.DataFrame(hidden).add_prefix("x")
    kernel = miceforest.ImputationKernel(
        frame, num_datasets=_DATASETS, random_state=seed
    )
    kernel.mice(2, num_threads=1)
    draws = [kernel.complete_data(i).to_numpy() for i in range(_DATASETS)]
    return np.mean(draws, axis=0), np.stack(draws), process_time() - start


def _generative(make, hidden, seed):
    """Impute by a density that the function `make` returns for a seed."""
    start = process_time()
    imputer = GenerativeImputer(make(seed)).fit(hidden)
    filled = imputer.transform(hidden)
    seconds = process_time() - start
    draws = imputer.estimator_.sample_conditional(hidden, _DRAWS, random_state=seed)
    return filled, draws, seconds


def _mixture(kind, K):
    def make(seed):
        return EMGaussianMixture(K, covariance_type=kind, random_state=seed)

    return partial(_generative, make)


METHODS = {
    "mean": partial(_without_draws, SimpleImputer()),
    "`KNNImputer()`": partial(_without_draws, KNNImputer()),
    "`IterativeImputer()`": _iterative,
    "MissForest": _miss_forest,
    "miceforest": _miceforest,
    "`GenerativeImputer()`": partial(_generative, lambda seed: None),
    **{
        f"{kind}, {K} components": _mixture(kind, K)
        for kind, K in (("full", 5), ("tied", 10), ("tied", 30))
    },
    '`GaussianKDE("likelihood")`': partial(
        _generative, lambda seed: GaussianKDE("likelihood")
    ),
}


def imputation(options):
    """Return errors of imputed values, missing completely at random.

    Parameters
    ----------
    options : argparse.Namespace
        `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
        The section in Markdown.
    """
    return paragraphs(
        _introduction("are missing with probability 0.2, whatever they are", _SEEDS),
        _compared(at_random, options, _SEEDS),
    )


def not_missing_at_random(options):
    """Return errors of imputed values that are missing because they are large.

    Parameters
    ----------
    options : argparse.Namespace
        `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
        The section in Markdown.
    """
    return paragraphs(
        _introduction(
            "above the mean of a column are missing three times as often as others, "
            "0.2 of them in all: not at random, in contrast to what the methods assume",
            1,
        ),
        _compared(not_at_random, options, 1),
    )


def _introduction(what, n_seeds):
    seeds = f"{n_seeds} seeds" if n_seeds > 1 else "one seed"
    return (
        f"Up to {_ROWS:,} rows of {len(_UCI)} tables of UCI and {len(_BUNDLED)} of "
        f"scikit-learn, standardised. Values {what}. Means over the tables and "
        f"{seeds}: mean absolute error and root mean squared error (RMSE, ± its "
        "standard error over seeds) of the missing values; energy score of "
        f"{_DRAWS} draws of the missing values of a row (lower is better; of methods "
        "without draws, of their value); CPU seconds of one fit and one imputation "
        "for all tables. MissForest is an `IterativeImputer` of forests of 100 trees "
        "in 10 rounds, with the square root of the number of features at each split "
        f"(Stekhoven and Bühlmann, 2012). miceforest completes the tables {_DATASETS} "
        "times, and their mean is its value. The last rows are a `GenerativeImputer` "
        "of an `EMGaussianMixture` of a covariance type, and of a `GaussianKDE`."
    )


def _compared(mechanism, options, n_seeds):
    """Return the table of all methods for a mechanism of missing values."""
    methods = dict(METHODS)
    if "miceforest" in methods and not find_spec("miceforest"):
        say("miceforest is not installed")
        del methods["miceforest"]
    seeds = range(share(n_seeds, options, 1))
    found = {name: [[] for _ in seeds] for name in methods}
    for seed in seeds:
        for number, (table, X) in enumerate(tables(options, seed)):
            missing = mechanism(X, np.random.default_rng(100 * seed + number))
            hidden = np.where(missing, np.nan, X)
            for name, method in methods.items():
                say(f"{seed}, {table}: {name}")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    errors = _errors(method, X, hidden, missing, seed)
                found[name][seed].append(errors)
    lines = []
    found = {name: np.array(errors) for name, errors in found.items()}
    means = {name: errors.mean(axis=(0, 1)) for name, errors in found.items()}
    lowest = np.min(list(means.values()), axis=0)
    for name, mean in means.items():
        cells = [
            f"**{value:.3f}**" if value == low else f"{value:.3f}"
            for value, low in zip(mean[:3], lowest[:3], strict=True)
        ]
        seconds = found[name][:, :, 3].sum(axis=1).mean()
        by_seed = found[name][:, :, 1].mean(axis=1)
        error = by_seed.std() / np.sqrt(max(1, len(seeds) - 1))
        if len(seeds) > 1:
            cells[1] += f" ± {error:.3f}"
        lines.append((name, *cells, f"{seconds:.1f}"))
    heads = ("imputer", "absolute error", "RMSE", "energy score", "CPU s")
    return grid(heads, lines)


def _errors(method, X, hidden, missing, seed):
    """Return the errors and the CPU seconds of a method for one table."""
    filled, draws, seconds = method(hidden, seed)
    errors = (filled - X)[missing]
    draws = filled[None] if draws is None else draws
    energy = energy_score(draws, X, missing)
    return np.abs(errors).mean(), np.sqrt(np.square(errors).mean()), energy, seconds


def energy_score(draws, X, missing):
    """Return the mean energy score of draws (s, n, d) of the missing values of rows.

    It is E|x' - x| - E|x' - x''| / 2 over pairs of draws (Gneiting and Raftery, 2007).
    """
    some = missing.any(axis=1)
    draws = np.where(missing, draws, 0)[:, some]
    truth = np.where(missing, X, 0)[some]
    score = np.linalg.norm(draws - truth, axis=2).mean(axis=0)
    s = len(draws)
    if s > 1:
        apart = [
            np.linalg.norm(draws[i] - draws[j], axis=1)
            for i in range(s)
            for j in range(i)
        ]
        score = score - np.mean(apart, axis=0) / 2
    return score.mean()
