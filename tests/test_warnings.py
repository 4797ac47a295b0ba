"""Warnings: at the user's line, once in a search, with advice that works."""

import warnings

import numpy as np
import pytest
from estimators import rows, thorough
from processes import warning_lines
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning

from skgen import (
    EMGaussianMixture,
    GaussianKDE,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
)

SEARCH = """
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from skgen import EMGaussianMixture

grid = {"n_components": [1, 2, 3, 4, 5], "covariance_type": ["full", "diag", "tied"]}
GridSearchCV(EMGaussianMixture(random_state=0), grid, cv=5).fit(load_wine().data)
"""


@pytest.mark.process
def test_a_search_shows_few_warnings():
    lines = warning_lines(SEARCH)
    assert 1 <= len(lines) <= 5, "\n".join(lines[:10])
    assert all(line.startswith("<string>:7: ") for line in lines)


def caught(X, **params):
    """Return the convergence warnings of a fit."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        EMGaussianMixture(**{"random_state": 0} | params).fit(X)
    return [w for w in shown if w.category is ConvergenceWarning]


FAR_START = {"weights_init": [0.5, 0.5], "means_init": [[20.0, 20.0], [1e7, 1e7]]}
OTHER_START = {"weights_init": None, "means_init": None}
FEWER = {"n_components": 1}
CLUSTERS = np.concatenate([rows(100, 2), rows(100, 2) + 40])
SQUARE = np.random.RandomState(0).uniform(size=(2000, 2))
ROUNDED = np.round(np.concatenate([rows(100, 2), rows(100, 2) + 4]))


@pytest.mark.parametrize(
    ("X", "params", "message", "remedies"),
    [
        (
            rows(150, 2),
            {"n_components": 3, "max_iter": 1},
            "did not converge to within tol=0.001",
            [{"max_iter": 200}, {"tol": 1.0}],
        ),
        (
            CLUSTERS,
            {"n_components": 2, "max_iter": 300, **FAR_START},
            "Some components of EMGaussianMixture became empty",
            [FEWER | OTHER_START, OTHER_START],
        ),
        (
            SQUARE,
            {"n_components": 2, **FAR_START, "means_init": [[0, 0], [1e7, 1e7]]},
            "Some components of EMGaussianMixture are empty",
            [FEWER | OTHER_START, OTHER_START],
        ),
        (
            ROUNDED,
            {"n_components": 8},
            "Some components of EMGaussianMixture collapsed",
            [{"n_components": 2}, {"covariance_type": "tied"}],
        ),
    ],
    ids=["unconverged", "re-initialised", "empty", "collapsed"],
)
def test_the_advice_of_a_warning_silences_it(X, params, message, remedies):
    (warning,) = caught(X, **params)
    assert message in str(warning.message)
    assert warning.filename == __file__
    for remedy in remedies:
        assert not caught(X, **params | remedy)


def test_dequantisation_silences_the_warnings_of_ties_and_collapse():
    mixture = EMGaussianMixture(8, random_state=0)
    with (
        pytest.warns(UndefinedMetricWarning, match=r"skgen\.dequantize"),
        pytest.warns(ConvergenceWarning, match=r"skgen\.dequantize if columns"),
    ):
        mixture.fit(ROUNDED)
    mixture.fit(dequantize(ROUNDED, random_state=0))


def test_a_higher_reg_covar_silences_the_warning_of_rounding():
    def stops(X, reg_covar):
        shown = caught(X, n_components=3, tol=0.0, max_iter=500, reg_covar=reg_covar)
        return any("Increase reg_covar" in str(w.message) for w in shown)

    # Whether rounding ends a fit depends on the library that multiplies matrices.
    seeds = map(np.random.RandomState, range(40))
    tables = (np.round(rng.standard_normal((19, 4)), 1) for rng in seeds)
    X = next(X for X in tables if stops(X, 0.0))
    assert not stops(X, 1e-6)
    params = {"n_components": 3, "random_state": 0}
    scores = [
        outcome(EMGaussianMixture(reg_covar=c, **params), X, rows(200, 4))[0]
        for c in (0.0, 1e-6)
    ]
    assert scores[1] > scores[0] - SLACK


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_without_outliers_no_component_collapses(covariance_type, rng):
    X = np.vstack([rng.normal(size=(200, 2)), np.full((3, 2), -99999.0)])
    params = {"n_components": 2, "covariance_type": covariance_type}
    (warning,) = caught(X, **params)
    assert "Leave out outliers and codes of missing values" in str(warning.message)
    assert not caught(X[:200], **params)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_high_reg_covar_is_no_collapse(covariance_type, rng):
    X = np.vstack([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 30])
    params = {"n_components": 2, "covariance_type": covariance_type}
    assert not caught(X, **params, reg_covar=0.1)
    X[:200] = X[0]  # a collapse for any minimum
    if covariance_type != "tied":
        (warning,) = caught(X, **params, reg_covar=1e-3)
        assert "collapsed" in str(warning.message)


# -- the advice of every warning -------------------------------------------------------

RNG = np.random.RandomState(0)
NORMAL = RNG.standard_normal((300, 2))
HELD_OUT = RNG.standard_normal((2000, 2))
OUTLIERS = np.concatenate([NORMAL, np.full((3, 2), 9999.0)])
TIED = np.round(NORMAL)
NEARLY_COPIES = np.concatenate(
    [NORMAL, NORMAL * (1 + 1e-12 * RNG.standard_normal((300, 1)))]
)
CONSTANT = np.column_stack([NORMAL, np.full(300, 3.0)])
SMALL = RNG.standard_normal((40, 8))

# Difference of the scores of these held-out rows between densities that are alike.
SLACK = 0.05


def em(n_components=2, **params):
    return EMGaussianMixture(n_components, **{"random_state": 0} | params)


def sgd(n_components=2, **params):
    return SGDGaussianMixture(n_components, **{"random_state": 0} | params)


def likelihood(**params):
    return GaussianKDE("likelihood", **params)


# Words of the warning, the fit that warns, and the fits that the advice leads to. The
# last entry has held-out rows of the true density.
ADVICE = {
    "max_iter": (
        "Increase max_iter",
        (em(3, max_iter=2, tol=1e-6), NORMAL),
        [(em(3, max_iter=500, tol=1e-6), NORMAL), (em(3, max_iter=2, tol=1.0), NORMAL)],
        HELD_OUT,
    ),
    "max_epochs": (
        "Increase max_epochs",
        (sgd(1, max_epochs=2), NORMAL),
        [(sgd(1, max_epochs=50), NORMAL)],
        HELD_OUT,
    ),
    "re-initialised": (
        "became empty and were re-initialised",
        (em(max_iter=300, **FAR_START), CLUSTERS),
        [(em(), CLUSTERS)],
        CLUSTERS,
    ),
    "empty": (
        "are empty",
        (em(**FAR_START | {"means_init": [[0.5, 0.5], [1e7, 1e7]]}), SQUARE),
        [(em(), SQUARE)],
        SQUARE,
    ),
    "outliers": (
        "collapsed",
        (em(), OUTLIERS),
        [(em(), NORMAL)],
        HELD_OUT,
    ),
    "outliers-diag": (
        "collapsed",
        (em(covariance_type="diag"), OUTLIERS),
        [(em(covariance_type="diag"), NORMAL)],
        HELD_OUT,
    ),
    "outliers-sgd": (
        "Leave out outliers",
        (sgd(4, covariance_type="diag"), OUTLIERS[:-2]),
        [(sgd(4, covariance_type="diag"), NORMAL)],
        HELD_OUT,
    ),
    "too many components": (
        "collapsed",
        (em(5), SMALL),  # collapses from every start that was tried
        [(em(1), SMALL), (em(5, covariance_type="tied"), SMALL)],
        RNG.standard_normal((2000, 8)),
    ),
    "ties": (
        "skgen.dequantize",
        (em(8), TIED),
        [(em(8), dequantize(TIED, random_state=0))],
        HELD_OUT,
    ),
    "ties-sgd": (
        "skgen.dequantize",
        (sgd(4), TIED),
        [(sgd(4), dequantize(TIED, random_state=0))],
        HELD_OUT,
    ),
    "ties-kde": (
        "skgen.dequantize",
        (GaussianKDE(0.01), TIED),
        [(GaussianKDE(0.01), dequantize(TIED, random_state=0))],
        HELD_OUT,
    ),
    "near copies": (
        "Round X so that copies are equal",
        (likelihood(), NEARLY_COPIES),
        [(likelihood(), NEARLY_COPIES.round(9)), (GaussianKDE(0.4), NEARLY_COPIES)],
        HELD_OUT,
    ),
    "constant": (
        "Leave constant features out",
        (em(1), CONSTANT),
        [(em(1), NORMAL)],
        HELD_OUT,
    ),
    "constant-kde": (
        "Leave constant features out",
        (GaussianKDE(), CONSTANT),
        [(GaussianKDE(), NORMAL)],
        HELD_OUT,
    ),
    "constant-pipeline": (
        "Leave constant features out",
        (make_generative_pipeline(em(1)), CONSTANT),
        [(make_generative_pipeline(em(1)), NORMAL)],
        HELD_OUT,
    ),
}


def outcome(model, X, held_out):
    """Return the score of held-out rows, and the text of the warnings of a fit."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        model.fit(X)
    texts = "\n".join(str(warning.message) for warning in shown)
    if X is not CONSTANT:
        return model.score(held_out), texts
    # The score of the other features alone, without the density at the constant.
    density = norm(0, 1e-3 * X.std(axis=0).max()).logpdf(0)
    held_out = np.column_stack([held_out, np.full(len(held_out), 3.0)])
    return model.score(held_out) - density, texts


@pytest.mark.parametrize(
    "case", [thorough(case) if case == "ties-sgd" else case for case in ADVICE]
)
def test_who_follows_the_advice_of_a_warning_scores_no_worse(case):
    words, before, remedies, held_out = ADVICE[case]
    score, texts = outcome(*before, held_out)
    assert words in texts
    for model, X in remedies:
        better, texts = outcome(model, X, held_out)
        assert words not in texts
        assert better > score - SLACK


@pytest.mark.parametrize("make", [em, sgd])
def test_rows_in_other_units_start_again(make):
    X = NORMAL[:100]
    mixture = make(1, warm_start=True)
    score, _ = outcome(mixture, X, HELD_OUT)
    _, texts = outcome(mixture, 1e6 * X, HELD_OUT)
    assert "Check the units of X" in texts
    # EM can follow to a smaller scale. Gradient descent had ended at its minimum.
    again, texts = outcome(mixture, X, HELD_OUT)
    assert ("Check the units of X" in texts) == (make is sgd)
    assert "collapsed" not in texts
    assert again > score - SLACK
    again, texts = outcome(mixture, X, HELD_OUT)
    assert not texts
    assert again > score - SLACK


def test_fewer_components_are_no_advice_for_outliers():
    score, texts = outcome(em(), OUTLIERS, HELD_OUT)
    assert "If there are none, use fewer components" in texts
    assert outcome(em(1), OUTLIERS, HELD_OUT)[0] < score - 1
