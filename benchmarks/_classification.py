"""Classes by their densities, beside scikit-learn's classifiers."""

import warnings
from collections import Counter
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
)
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._sections import data, paragraphs, say, share
from skgen import EMGaussianMixture, GaussianKDE
from skgen.compose import GenerativeClassifier, make_generative_pipeline

_FOLDS, _INNER_FOLDS = 5, 5

# How far covariances of the peers are drawn to a multiple of the identity, and what is
# added to them as a share of the largest variance.
_QUADRATIC = {"shrinkage": [0.01, 0.03, 0.1, 0.3, 0.4, 0.5]}
_NAIVE = {"var_smoothing": [1e-9, 1e-2, 0.1, 0.3, 1.0, 3.0]}


@dataclass(frozen=True)
class _Setting:
    """One line of a table: a classifier, and the grid that it is chosen from."""

    label: str
    model: BaseEstimator
    grid: dict | None = None


@dataclass(frozen=True)
class _Answers:
    """Predictions of a classifier for held-out rows, for one shuffle."""

    log_proba: np.ndarray  # (n, n_classes)
    predicted: np.ndarray  # (n,)
    chosen: list  # of each fold


def classifiers(options):
    """Return the accuracy of our classifiers and of the peers on two tables.

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
        f"Predictions for rows held out by {_FOLDS}-fold cross-validation, "
        f"`StratifiedKFold({_FOLDS}, shuffle=True, random_state=0)`, and with other "
        "shuffles. *Chosen* means that the parameters of each fold were chosen by "
        f"{_INNER_FOLDS}-fold cross-validation of its training rows (`GridSearchCV`, "
        "minimum log-loss). Other lines have the same settings in all folds. Log-loss "
        "is in nats, with probabilities clipped by scikit-learn's `log_loss`. "
        "*Confidence* is the mean probability of the predicted class; for calibrated "
        "probabilities it equals the accuracy. Times are for one shuffle, including "
        "the choice of parameters.",
        _digits(options),
        _pendigits(options),
    )


# -- digits ----------------------------------------------------------------------


def _digits(options):
    X, y = load_digits(return_X_y=True)
    n = share(len(X), options, 300)
    X, y = X[:n], y[:n]
    # Components of a class are at most as many as its rows in an inner fold.
    rows = np.bincount(y).min() * (1 - 1 / _FOLDS) * (1 - 1 / _INNER_FOLDS) - 1
    components = [k for k in (8, 12, 16) if k < rows]
    fixed = min(12, components[-1])
    pipeline = make_generative_pipeline(PCA(fixed), GaussianKDE(2.5))
    planes = {
        "estimator__pca__n_components": components,
        "estimator__gaussiankde__bandwidth": [2.0, 3.0, 4.0],
    }
    kernels = {"estimator__bandwidth": [4.0, 5.0, 6.0, 7.0]}
    normal = make_generative_pipeline(PCA(fixed), EMGaussianMixture())
    boosting = {"max_iter": share(100, options, 5)} if options.scale < 1 else {}
    settings = [
        _chosen("PCA(k)`, `GaussianKDE(h)", pipeline, planes),
        _chosen("GaussianKDE(h)", GaussianKDE(), kernels),
        _ours(f"PCA({fixed})`, `GaussianKDE(2.5)", pipeline),
        _ours("GaussianKDE(5.0)", GaussianKDE(5.0)),
        _ours(f"PCA({fixed})`, `EMGaussianMixture()", normal),
        *_peers(boosting),
    ]
    n_shuffles = share(5, options, 1)
    lines = [
        f"| classifier | accuracy | of {n_shuffles} shuffles, mean ± sd | log-loss | "
        "confidence | fit and predict |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows, chosen = [], Counter()
    for setting in settings:
        start = perf_counter()
        answers = [_answers(setting, X, y, seed, options) for seed in range(n_shuffles)]
        seconds = (perf_counter() - start) / n_shuffles
        if setting is settings[0]:
            chosen.update(label for each in answers for label in each.chosen)
        accuracy = [accuracy_score(y, each.predicted) for each in answers]
        proba = [np.exp(each.log_proba) for each in answers]
        loss = np.mean([log_loss(y, P) for P in proba])
        confidence = np.mean([P.max(axis=1).mean() for P in proba])
        rows.append(
            (
                np.mean(accuracy),
                f"| {setting.label} | {100 * accuracy[0]:.2f} % | "
                f"{100 * np.mean(accuracy):.2f} ± {100 * np.std(accuracy):.2f} % | "
                f"{loss:.3f} | {100 * confidence:.2f} % | {seconds:.1f} s |",
            )
        )
        say(rows[-1][1])
    lines += [line for _, line in sorted(rows, key=lambda row: -row[0])]
    listed = ", ".join(f"{label} ({times})" for label, times in chosen.most_common())
    return paragraphs(
        f"**digits**, {X.shape[0]:,} x {X.shape[1]}, {len(np.unique(y))} classes. With "
        "a numeric bandwidth, these integers need no noise.",
        "\n".join(lines),
        f"Choices, with the number of folds of {n_shuffles * _FOLDS}: {listed}.",
        "Principal components of each class, with normal noise across them, separate "
        "classes best, because the part of a digit outside the plane of a class is "
        "evidence against that class. A normal density with a strongly shrunk "
        "covariance is about as good. Only kernels without principal components give "
        "calibrated probabilities: their confidence is close to the accuracy, and "
        "their log-loss is the smallest. The noise across the components is assumed to "
        "be normal, with the variance of the training rows: "
        f"{X.shape[1] - fixed} dimensions of it make predictions overconfident. Normal "
        "densities are overconfident too, most of all with independent features. "
        "(Parameters chosen by accuracy instead of log-loss, on a finer grid, gave "
        "98.9 and 99.1 % for two of the shuffles.)",
    )


# -- pendigits -------------------------------------------------------------------


def _pendigits(options):
    with np.load(data("tabular", "pendigits.npz"), allow_pickle=False) as archive:
        X, y = archive["X"].astype(float), archive["y"].astype(int)
    if options.scale < 1:
        others = np.flatnonzero(y == 0)[: share(len(X), options, 300)]
        rows = np.concatenate([np.flatnonzero(y == 1)[:50], others])
        X, y = X[rows], y[rows]
    grid = {"estimator__bandwidth": [0.1, 0.15, 0.2, 0.25, 0.3]}
    boosting = {"max_iter": 5} if options.scale < 1 else {}
    settings = [
        _chosen("GaussianKDE(h)", GaussianKDE(), grid),
        _ours("EMGaussianMixture()", EMGaussianMixture()),
        _ours(
            "EMGaussianMixture(5, reg_covar=0.01)",
            EMGaussianMixture(5, reg_covar=0.01, random_state=0),
        ),
        *_peers(boosting),
    ]
    lines = [
        "| classifier | average precision | balanced accuracy | log-loss | "
        "confidence | fit and predict |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows, chosen = [], Counter()
    for setting in settings:
        start = perf_counter()
        answers = _answers(setting, X, y, 0, options)
        seconds = perf_counter() - start
        if setting is settings[0]:
            chosen.update(answers.chosen)
        with np.errstate(invalid="ignore"):
            odds = answers.log_proba[:, 1] - answers.log_proba[:, 0]
        proba = np.exp(answers.log_proba)
        precision = average_precision_score(y, np.nan_to_num(odds))
        line = (
            f"| {setting.label} | {precision:.4f} | "
            f"{100 * balanced_accuracy_score(y, answers.predicted):.2f} % | "
            f"{log_loss(y, proba):.4f} | {100 * proba.max(axis=1).mean():.2f} % | "
            f"{seconds:.1f} s |"
        )
        say(line)
        rows.append((precision, line))
    lines += [line for _, line in sorted(rows, key=lambda row: -row[0])]
    listed = ", ".join(f"{label} ({times})" for label, times in chosen.most_common())
    return paragraphs(
        f"**pendigits**, {X.shape[0]:,} x {X.shape[1]}. The copy of ADBench has no "
        f"digits. Its two classes are the outliers, one digit of which {y.sum()} rows "
        "remain, and all other digits. The measures are therefore average precision "
        "and balanced accuracy, for one shuffle.",
        "\n".join(lines),
        f"Choices, with the number of folds of {_FOLDS}: {listed}.",
    )


# -- what they share -------------------------------------------------------------


def _ours(said, density):
    """Return the setting of a density for each class."""
    return _Setting(f"`GenerativeClassifier`: `{said}`", GenerativeClassifier(density))


def _chosen(said, density, grid):
    """Return the same with parameters that are chosen in each fold."""
    label = f"`GenerativeClassifier`: `{said}`, chosen"
    return _Setting(label, GenerativeClassifier(density), grid)


def _peer(model, grid=None):
    """Return the setting of a classifier of scikit-learn's."""
    label = f"scikit-learn `{model!r}`"
    if grid is not None:
        (name,) = grid
        label += f", `{name}` chosen"
    return _Setting(label, model, grid)


def _peers(boosting):
    """Return the peers, as they are and with a parameter chosen."""
    return [
        _peer(GaussianNB()),
        _peer(GaussianNB(), _NAIVE),
        _peer(QuadraticDiscriminantAnalysis(solver="eigen", shrinkage="auto")),
        _peer(QuadraticDiscriminantAnalysis(solver="eigen"), _QUADRATIC),
        _peer(QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.3)),
        _peer(KNeighborsClassifier(3)),
        _peer(HistGradientBoostingClassifier(random_state=0, **boosting)),
    ]


def _answers(setting, X, y, seed, options):
    """Return the predictions of clones for the folds that they are not fitted to."""
    log_proba = np.empty((len(y), len(np.unique(y))))
    predicted, chosen = np.empty_like(y), []
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(X, y):
        model = clone(setting.model)
        if setting.grid is not None:
            inner = StratifiedKFold(_INNER_FOLDS, shuffle=True, random_state=seed)
            grid = {
                name: values[: share(len(values), options, 1)]
                for name, values in setting.grid.items()
            }
            model = GridSearchCV(model, grid, cv=inner, scoring="neg_log_loss")
        with warnings.catch_warnings():
            # Constant pixels have no variance for a normal density.
            warnings.simplefilter("ignore")
            model.fit(X[train], y[train])
            log_proba[test] = _log_proba(model, X[test])
            predicted[test] = model.predict(X[test])
        if setting.grid is not None:
            chosen.append(_said(model.best_params_))
    return _Answers(log_proba, predicted, chosen)


def _log_proba(model, X):
    """Return the logarithms of the probabilities of the classes."""
    if hasattr(model, "predict_log_proba"):
        return model.predict_log_proba(X)
    with np.errstate(divide="ignore"):
        return np.log(model.predict_proba(X))


def _said(params):
    """Return chosen parameters in short."""
    numbers = {k: v for k, v in params.items() if not hasattr(v, "get_params")}
    said = ", ".join(
        f"{name.rsplit('__')[-1]}={value:g}" for name, value in sorted(numbers.items())
    )
    return f"`{said}`"
