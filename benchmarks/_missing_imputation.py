"""Imputation of values that are missing at random, and of values that are not."""

import warnings
from time import process_time

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks._sections import data, grid, paragraphs, say, share
from skgen import EMGaussianMixture, GenerativeImputer

_UCI = ("concrete", "energy", "yacht", "wine", "parkinsons", "pol", "kin40k")
_BUNDLED = ("iris", "wine", "breast_cancer", "diabetes")

# Maximum number of rows, fraction of missing values, and number of draws.
_ROWS, _FRACTION, _DRAWS = 300, 0.2, 10


def tables(options):
    """Yield names and standardised rows (n, d), without constant columns."""
    for name in _UCI:
        X = pd.read_csv(data("uci", f"{name}.csv.gz"), header=None).to_numpy(float)
        yield name, _standardised(X, options)
    for name in _BUNDLED:
        X = getattr(datasets, f"load_{name}")().data
        yield f"{name} (bundled)", _standardised(X, options)


def _standardised(X, options):
    rng = np.random.default_rng(0)
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


def _forest(sample):
    forest = RandomForestRegressor(n_estimators=10, random_state=0)
    return IterativeImputer(forest, max_iter=3, random_state=0)


def _mixture(K, kind):
    def imputer(sample):
        density = EMGaussianMixture(K, covariance_type=kind, random_state=0)
        return GenerativeImputer(density, sample=sample)

    return imputer


# Labels, and functions that make an imputer, of means or of draws. A method without
# draws is scored as a draw that is always its mean.
METHODS = {
    "mean": lambda sample: SimpleImputer(),
    "`KNNImputer()`": lambda sample: KNNImputer(),
    "`IterativeImputer()`": lambda sample: IterativeImputer(
        sample_posterior=sample, random_state=0
    ),
    "MissForest": _forest,
    "`GenerativeImputer()`": lambda sample: GenerativeImputer(sample=sample),
    **{
        f"{kind}, {K} components": _mixture(K, kind)
        for kind, K in (("full", 5), ("tied", 10), ("tied", 30))
    },
}
_WITHOUT_DRAWS = "mean", "`KNNImputer()`", "MissForest"


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
        _introduction("are missing with probability 0.2, whatever they are"),
        _compared(at_random, options),
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
            "0.2 of them in all: not at random, in contrast to what the methods assume"
        ),
        _compared(not_at_random, options),
    )


def _introduction(what):
    return (
        f"Up to {_ROWS} rows of {len(_UCI)} tables of UCI and {len(_BUNDLED)} of "
        f"scikit-learn, standardised. Values {what}. Means over the tables: mean "
        "absolute error and root mean squared error (RMSE) of the missing values; "
        f"energy score of {_DRAWS} draws of the missing values of a row (lower is "
        "better; of methods without draws, of their value); CPU seconds of one fit and "
        "one imputation for all tables. MissForest is an `IterativeImputer` of forests "
        "of 10 trees in 3 rounds. The last rows are a `GenerativeImputer` of an "
        "`EMGaussianMixture` of a covariance type."
    )


def _compared(mechanism, options):
    """Return the table of all methods for a mechanism of missing values."""
    found = {name: [] for name in METHODS}
    for number, (table, X) in enumerate(tables(options)):
        missing = mechanism(X, np.random.default_rng(number))
        hidden = np.where(missing, np.nan, X)
        for name, method in METHODS.items():
            say(f"{table}: {name}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name].append(_errors(name, method, X, hidden, missing))
    lines, means = [], {name: np.mean(found[name], axis=0) for name in METHODS}
    lowest = np.min(list(means.values()), axis=0)
    for name, mean in means.items():
        cells = [
            f"**{value:.3f}**" if value == low else f"{value:.3f}"
            for value, low in zip(mean[:3], lowest[:3], strict=True)
        ]
        seconds = np.sum(found[name], axis=0)[3]
        lines.append((name, *cells, f"{seconds:.1f}"))
    heads = ("imputer", "absolute error", "RMSE", "energy score", "CPU s")
    return grid(heads, lines)


def _errors(name, method, X, hidden, missing):
    """Return the errors and the CPU seconds of a method for one table."""
    start = process_time()
    filled = method(False).fit(hidden).transform(hidden)
    seconds = process_time() - start
    errors = (filled - X)[missing]
    draws = filled[None]
    if name not in _WITHOUT_DRAWS:
        draws = _draws(method(True).fit(hidden), hidden)
    energy = energy_score(draws, X, missing)
    return np.abs(errors).mean(), np.sqrt(np.square(errors).mean()), energy, seconds


def _draws(imputer, hidden):
    """Return draws (s, n, d) of completed rows by one fitted imputer."""
    if isinstance(imputer, GenerativeImputer):
        return imputer.estimator_.sample_conditional(hidden, _DRAWS, random_state=0)
    return np.stack([imputer.transform(hidden) for _ in range(_DRAWS)])  # all different


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
