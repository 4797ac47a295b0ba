"""Outliers by density, beside scikit-learn's detectors."""

import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, DataDimensionalityWarning
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, RobustScaler, StandardScaler

from benchmarks._sections import data, paragraphs, say, share
from skgen import (
    AutoEncoder,
    EMGaussianMixture,
    GaussianKDE,
    SGDGaussianMixture,
)
from skgen.compose import DensityOutlierDetector, make_generative_pipeline

_TABLES = ("mammography", "thyroid", "pendigits", "satimage-2", "cardio")

# Number of seeds of random methods.
_SEEDS = 5

_STANDARD = StandardScaler()
# From the first to the last percentile is one unit.
_ROBUST = RobustScaler(quantile_range=(1, 99))


@dataclass(frozen=True)
class _Setting:
    """One line of the table: a detector, the same for every table."""

    columns: str
    label: str
    model: BaseEstimator
    ours: bool
    seeds: range


def outliers(options):
    """Return how well outliers of five tables are ranked, ours beside the peers'.

    Parameters
    ----------
    options : argparse.Namespace
        `scale` shrinks the work for a smoke test.

    Returns
    -------
    str
        The section in Markdown.
    """
    tables = [_table(name, options) for name in _TABLES]
    rows = []
    for setting in _settings(options):
        areas, seconds = _scored(setting, tables)
        rows.append((setting, areas, seconds))
        say(f"{np.mean(areas):.4f} {seconds:6.1f} s {setting.columns} {setting.label}")
    rows.sort(key=lambda row: -np.mean(row[1]))
    best = {
        ours: max(np.mean(areas) for setting, areas, _ in rows if setting.ours == ours)
        for ours in (True, False)
    }
    lines = [
        f"| columns | detector | **mean** | {' | '.join(_TABLES)} | fit and score |",
        f"|---|---|---:|{'---:|' * len(_TABLES)}---:|",
    ]
    for setting, areas, seconds in rows:
        mean = f"{np.mean(areas):.4f}"
        if np.mean(areas) == best[setting.ours]:
            mean = f"**{mean}**"
        label = f"`{setting.label}`"
        if not setting.ours:
            label = f"scikit-learn {label}"
        each = " | ".join(f"{area:.3f}" for area in areas)
        lines.append(
            f"| {setting.columns} | {label} | {mean} | {each} | {seconds:.1f} s |"
        )
    rows_and_columns = ", ".join(
        f"{name} {X.shape[0]:,} x {X.shape[1]} with {y.sum()}"
        for name, (X, y) in zip(_TABLES, tables, strict=True)
    )
    return paragraphs(
        "ROC AUC of the outliers of five tables of ADBench (rows x columns with "
        f"outliers: {rows_and_columns}). Detectors are fitted to all rows, including "
        "the outliers, without labels, and rank the same rows. Each setting is the "
        "same for all five tables, and the best of each library is bold. For both "
        "libraries, the best setting was chosen with the labels, so a choice without "
        "labels would be worse. The lines are a selection of about 300 settings of "
        "skgen and 250 of scikit-learn. For random methods, results are means over "
        f"{share(_SEEDS, options, 1)} seeds. *Fit and score* is the total time for the "
        "five tables.",
        "\n".join(lines),
        "The detectors of skgen are a `DensityOutlierDetector` of the given density, "
        "or of a pipeline of a scaler and the density; *1-99 %* is "
        "`RobustScaler(quantile_range=(1, 99))`. scikit-learn's nearest neighbours "
        "and mixtures have the scaler that suits them better; a forest needs no "
        "scaler.",
        "These outliers are found by densities that are too wide to fit them: a "
        "kernel as wide as the whole table, or a few components with several times "
        "its variance. Both rank rows roughly by their distance to a few centres. In "
        "skgen, `reg_covar` is a minimum relative to the variance; in scikit-learn, "
        "it is added to the variance in the units of the columns. Therefore 3.5 and "
        "0.2 have nearly the same effect, and such a wide mixture is the same model "
        "in both libraries. scikit-learn's `KernelDensity` is the same model as "
        "`GaussianKDE` with a numeric bandwidth. A density that fits well, with many "
        "components, a narrow kernel, principal components or an autoencoder, ranks "
        "outliers worse, because it has learned them.",
    )


def _table(name, options):
    """Return the rows and which of them are outliers, 1 or 0."""
    with np.load(data("tabular", f"{name}.npz"), allow_pickle=False) as archive:
        X, y = archive["X"].astype(float), archive["y"].astype(int)
    if options.scale < 1:
        # A few rows with outliers among them.
        found = np.random.RandomState(0).permutation(np.flatnonzero(y == 1))
        others = np.random.RandomState(0).permutation(np.flatnonzero(y == 0))
        n = share(len(X), options, 150)
        rows = np.concatenate([found[: n // 10], others[: n - n // 10]])
        X, y = X[rows], y[rows]
    return X, y


def _settings(options):
    """Return the lines of the table."""
    small = options.scale < 1
    epochs, n_init = share(10, options, 1), 1 if small else 10
    forest = {"n_estimators": 10} if small else {}
    mixed = {"covariance_type": "spherical"}
    ours = [
        ("1-99 %", SGDGaussianMixture(3, reg_covar=3.5, **mixed)),
        ("1-99 %", EMGaussianMixture(3, reg_covar=3.5, n_init=n_init, **mixed)),
        ("1-99 %", EMGaussianMixture(10, reg_covar=4, **mixed)),
        ("1-99 %", GaussianKDE(0.7)),
        ("standardised", GaussianKDE(3.0)),
        ("standardised", GaussianKDE(0.5)),
        ("standardised", EMGaussianMixture(1, covariance_type="diag")),
        ("standardised", EMGaussianMixture(5)),
        ("as they are", GaussianKDE()),
        ("power transform", GaussianKDE(1.0), PowerTransformer()),
        ("standardised, PCA(1)", GaussianKDE(0.5), _STANDARD, PCA(1)),
        ("standardised", AutoEncoder(1, max_epochs=epochs)),
    ]
    theirs = [
        ("as they are", IsolationForest(**forest)),
        ("as they are", IsolationForest(max_samples=64, **forest)),
        ("as they are", IsolationForest(**{"n_estimators": 500} | forest)),
        ("standardised", GaussianMixture(1)),
        ("standardised", GaussianMixture(1, covariance_type="diag")),
        ("as they are", GaussianMixture(2, covariance_type="diag")),
        ("standardised", GaussianMixture(5)),
        ("standardised", GaussianMixture(10)),
        ("standardised", GaussianMixture(2, reg_covar=3.0, **mixed)),
        ("1-99 %", GaussianMixture(2, reg_covar=0.2, n_init=n_init, **mixed)),
        ("standardised", LocalOutlierFactor()),
        ("standardised", LocalOutlierFactor(100)),
        ("standardised", LocalOutlierFactor(500)),
        ("1-99 %", LocalOutlierFactor(500)),
    ]
    scalers = {"standardised": [_STANDARD], "1-99 %": [_ROBUST], "as they are": []}
    settings = []
    for columns, density, *steps in ours:
        steps = steps or scalers[columns]
        model = make_generative_pipeline(*steps, density) if steps else density
        model = DensityOutlierDetector(model)
        settings.append(_setting(columns, density, model, True, options))
    for columns, detector in theirs:
        model = make_pipeline(*scalers[columns], detector)
        settings.append(_setting(columns, detector, model, False, options))
    return settings


def _setting(columns, said, model, ours, options):
    """Return a line of the table, with the seeds that it is the mean of."""
    is_exact = isinstance(said, (GaussianKDE, LocalOutlierFactor))
    seeds = range(1 if is_exact else share(_SEEDS, options, 1))
    return _Setting(columns, " ".join(repr(said).split()), model, ours, seeds)


def _scored(setting, tables):
    """Return the mean ROC AUC of each table, and the seconds of one seed."""
    areas = np.empty((len(setting.seeds), len(tables)))
    start = perf_counter()
    for i, seed in enumerate(setting.seeds):
        for j, (X, y) in enumerate(tables):
            model = clone(setting.model)
            names = [n for n in model.get_params() if n.endswith("random_state")]
            model.set_params(**dict.fromkeys(names, seed))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                warnings.simplefilter("ignore", DataDimensionalityWarning)
                areas[i, j] = roc_auc_score(y, -_density(model.fit(X), X))
    return areas.mean(axis=0), (perf_counter() - start) / len(setting.seeds)


def _density(model, X):
    """Return how ordinary a fitted detector finds the rows that it was fitted to."""
    if hasattr(model, "steps") and isinstance(model[-1], LocalOutlierFactor):
        return model[-1].negative_outlier_factor_  # of rows it was fitted to
    return model.score_samples(X)
