"""Outliers among incomplete rows, and the columns that make rows outliers."""

import warnings
from importlib.util import find_spec
from time import process_time

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from benchmarks._sections import data, grid, paragraphs, say, share
from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    make_generative_pipeline,
)

_TABLES = ("mammography", "thyroid", "cardio", "satimage-2")

# Number of seeds of the missing values.
_MASKS = 5

# Number of rows with a wrong value, and of rows that replace values in a permutation.
_PLANTED, _BACKGROUND = 500, 50


def _table(name, options):
    """Return rows and outliers of a table; fewer inliers for a smaller scale."""
    with np.load(data("tabular", f"{name}.npz"), allow_pickle=False) as archive:
        X, y = archive["X"].astype(float), archive["y"].ravel()
    rng = np.random.default_rng(0)
    inliers = rng.permutation(np.flatnonzero(y == 0))
    inliers = inliers[: share(len(inliers), options, 300)]
    some = np.sort(np.concatenate([np.flatnonzero(y == 1), inliers]))
    return X[some], y[some]


def outliers(options):
    """Return how well detectors rank outliers among incomplete rows.

    Parameters
    ----------
    options : argparse.Namespace
        `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
        The section in Markdown.
    """
    lines = []
    for name in _TABLES:
        X, y = _table(name, options)
        say(name)
        start = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            complete, forest = (
                _auc(y, model.fit(X).score_samples(X))
                for model in (_detector(), IsolationForest(random_state=0))
            )
            masks = range(share(_MASKS, options, 1))
            hidden = np.array([_of_hidden(X, y, seed) for seed in masks])
        seconds = process_time() - start
        found, errors = hidden.mean(axis=0), hidden.std(axis=0)
        errors /= np.sqrt(max(1, len(hidden) - 1))
        cells = [
            f"{value:.3f} ± {error:.3f}"
            for value, error in zip(found, errors, strict=True)
        ]
        line = (f"{complete:.3f}", *cells[:3], f"{forest:.3f}", cells[3])
        lines.append((name, *line, f"{seconds:.0f}"))
    heads = (
        *("table", "complete", "10 % missing", "fit only", "log-densities alone"),
        *("forest, complete", "forest, medians", "CPU s"),
    )
    return paragraphs(
        "ROC AUC of the outliers of four tables. `DensityOutlierDetector` has one of "
        "the best settings for complete tables in composition.md: 10 spherical "
        "components with `reg_covar=4` after `RobustScaler(quantile_range=(1, 99))`. "
        "It is fitted to complete rows, then to the rows of which 10 % of the values "
        f"are missing, with {_MASKS} seeds of the missing values (mean and standard "
        "error). *Fit only*: fitted to the incomplete rows, and applied to the "
        "complete rows. *Log-densities alone* are the scores before they are put on "
        "one scale. `IsolationForest` is fitted to complete rows, and to medians in "
        "the place of missing values.",
        grid(heads, lines),
    )


def _of_hidden(X, y, seed):
    """Return the ROC AUC of rows of which some values are missing, of four methods."""
    rng = np.random.default_rng(1 + seed)
    hidden = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    ours = _detector().fit(hidden)
    return (
        _auc(y, ours.score_samples(hidden)),
        _auc(y, ours.score_samples(X)),
        _auc(y, ours.estimator_.score_samples(hidden)),
        _auc(y, _forest().fit(hidden).score_samples(hidden)),
    )


def _detector():
    density = EMGaussianMixture(
        10, covariance_type="spherical", reg_covar=4.0, random_state=0
    )
    scaler = RobustScaler(quantile_range=(1, 99))
    return DensityOutlierDetector(make_generative_pipeline(scaler, density))


def _forest():
    return make_pipeline(
        SimpleImputer(strategy="median"), IsolationForest(random_state=0)
    )


def _auc(y, scores):
    return roc_auc_score(y, -scores)


# -- explanations ----------------------------------------------------------------------


def explanations(options):
    """Return how often a column with a wrong value is named first.

    Parameters
    ----------
    options : argparse.Namespace
        `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
        The section in Markdown.
    """
    with np.load(data("tabular", "satimage-2.npz"), allow_pickle=False) as archive:
        X = archive["X"].astype(float)[archive["y"].ravel() == 0]
    rng = np.random.default_rng(0)
    X = X[rng.permutation(len(X))]
    n = share(_PLANTED, options, 30)
    test, train = X[:n], X[n:]
    density = EMGaussianMixture(8, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = DensityOutlierDetector(density).fit(train)
    methods = {
        "`DensityOutlierDetector.explain`": detector.explain,
        "permutation of each column": lambda Q: permuted(detector, Q, train),
        "Shapley values by permutations": lambda Q: shapley(detector, Q, train),
    }
    if find_spec("pyod"):
        methods["COPOD of PyOD"] = lambda Q: copod(train, Q)
    else:
        say("PyOD is not installed")
    planted = [_planted(test, train, kind) for kind in ("other", "beyond")]
    lines = []
    for name, method in methods.items():
        say(name)
        start = process_time()
        named = [np.mean(method(Q).argmax(axis=1) == column) for Q, column in planted]
        seconds = process_time() - start
        lines.append((name, *(f"{share_:.1%}" for share_ in named), f"{seconds:.1f}"))
    return paragraphs(
        f"One value in each of {n} inliers of satimage-2 (36 columns) is replaced by "
        "the value of another row, or by a value up to half of the range beyond it. "
        "How often the column is named first, by explanations of one mixture of 8 "
        "components that is fitted to the other inliers. *Permutation* is the mean "
        f"gain in log-density if the column has the value of each of {_BACKGROUND} "
        "other rows. *Shapley values* are of 4 orders of the columns and their "
        "reverses, with 10 other rows each, as SHAP estimates them. COPOD (Li et al., "
        "2020) has no density: the scores of its tails, for each column.",
        grid(("explanation", "another row", "beyond the range", "CPU s"), lines),
    )


def _planted(test, train, kind):
    """Return rows with one wrong value each, and its column."""
    rng = np.random.default_rng(2)
    n, d = test.shape
    Q, row, column = test.copy(), np.arange(n), rng.integers(d, size=n)
    if kind == "beyond":
        low, high = train[:, column].min(axis=0), train[:, column].max(axis=0)
        step = rng.uniform(0.05, 0.5, n) * (high - low)
        value = np.where(rng.uniform(size=n) < 0.5, high + step, low - step)
    else:
        value = Q[row, column]
        while (same := value == Q[row, column]).any():
            value = np.where(
                same, train[rng.integers(len(train), size=n), column], value
            )
    Q[row, column] = value
    return Q, column


def permuted(detector, Q, train):
    """Return the mean gain in log-density by other values of each column: (n, d)."""
    rng, (n, d) = np.random.default_rng(0), Q.shape
    others = train[rng.choice(len(train), _BACKGROUND)]
    before, gains = detector.score_samples(Q), np.empty(Q.shape)
    for j in range(d):
        changed = np.repeat(Q[:, None], _BACKGROUND, axis=1)
        changed[:, :, j] = others[:, j]
        scores = detector.score_samples(changed.reshape(-1, d)).reshape(n, -1)
        gains[:, j] = scores.mean(axis=1) - before
    return gains


def shapley(detector, Q, train, n_orders=4, n_others=10):
    """Return estimates of Shapley values of minus the log-density: (n, d)."""
    rng, (n, d) = np.random.default_rng(0), Q.shape
    values = np.zeros(Q.shape)
    for _ in range(n_orders):
        order = rng.permutation(d)
        for columns in (order, order[::-1]):
            others = train[rng.choice(len(train), n_others)]
            rows = np.repeat(others[None], n, axis=0)
            before = None
            for j in (None, *columns):
                if j is not None:
                    rows[:, :, j] = Q[:, None, j]
                scores = detector.score_samples(rows.reshape(-1, d))
                after = scores.reshape(n, -1).mean(axis=1)
                if j is not None:
                    values[:, j] += before - after
                before = after
    return values


def copod(train, Q):
    """Return the scores of each column by PyOD's COPOD: (n, d)."""
    from pyod.models.copod import COPOD

    detector = COPOD().fit(train)
    detector.decision_function(Q)
    return detector.O[-len(Q) :]  # after the training rows
