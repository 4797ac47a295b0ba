"""Warnings: at the user's line, once in a search, with advice that works."""

import warnings

import numpy as np
import pytest
from estimators import rows
from processes import warning_lines
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning

from skgen import EMGaussianMixture, dequantize

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
