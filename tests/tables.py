"""What the tests of rows that are not in memory share."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skgen.mixture._covariance import COVARIANCES

# A race of starts, with its longer steps, amplifies rounding; and where it ends at an
# optimum, rounding decides whether another iteration is an improvement.
RACED = {"rtol": 1e-7, "more_iterations": 1}


def table(n, d=3):
    """Return rows of three clusters, far from the origin."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n, d)) + 4 * rng.randint(3, size=(n, 1))
    return 100 + X * np.arange(1, d + 1)


def given_start(X, covariance_type):
    """Return the parameters of a mixture of two that starts where it is told to."""
    precisions = np.ones(COVARIANCES[covariance_type].shape(2, X.shape[1]))
    if covariance_type in ("full", "tied"):
        precisions = precisions * np.eye(X.shape[1])
    return {
        "covariance_type": covariance_type,
        "weights_init": [0.5, 0.5],
        "means_init": X[[0, 7]],
        "precisions_init": precisions,
        "tol": 1e-8,
    }


def assert_same(one, other, rtol=1e-9, more_iterations=0):
    """Assert that two mixtures are the same, up to a few iterations more of one."""
    assert_allclose(one.weights_, other.weights_, rtol=rtol)
    assert_allclose(one.means_, other.means_, rtol=rtol)
    assert_allclose(one.covariances_, other.covariances_, rtol=rtol, atol=rtol)
    assert one.lower_bound_ == pytest.approx(other.lower_bound_, rel=rtol)
    assert abs(one.n_iter_ - other.n_iter_) <= more_iterations
