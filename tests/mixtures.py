"""Mixtures, rows near their components, and one pass over these rows."""

import numpy as np
from numpy.testing import assert_allclose

from skgen.mixture._backend import LEAST_LOSS, NUMPY
from skgen.mixture._covariance import COVARIANCES, Parameters
from skgen.mixture._pass import Family, Pass, maximise

K, D = 4, 3

# The covariance types of scikit-learn.
TYPES = ["full", "tied", "diag", "spherical"]

# All types, for D features.
OF_D = {**COVARIANCES, "block": COVARIANCES["block"].of(((0, 2), (1,)))}


def mixture(kind, rng, widths=(1.0,) * K):
    """Return a mixture of `K` components of some widths (the first one if shared)."""
    roots = np.eye(D) + 0.4 * rng.standard_normal((K, D, D))
    roots *= np.reshape(widths, (K, 1, 1))
    full = roots @ roots.transpose(0, 2, 1)
    means = rng.standard_normal((K, D))
    return parameters_of(kind, rng.dirichlet(np.full(K, 5.0)), means, full)


def parameters_of(kind, weights, means, full):
    """Return a mixture of a type with covariances from matrices (K, d, d)."""
    covariance = OF_D[kind]
    if covariance.dense:
        full = full * covariance.mask() if covariance.blocks else full
        covariances = full[:1] if covariance.shared else full
    else:
        covariances = np.diagonal(full, axis1=1, axis2=2).copy()
        if covariance.pooled:
            covariances[:] = covariances[:, :1]
    factors = covariance.factors(covariances)
    return Parameters(weights, means, covariances, factors)


def dense(covariances, kind):
    """Return covariances as matrices (K, d, d)."""
    if not OF_D[kind].dense:
        return np.stack([np.diag(v) for v in covariances])
    return np.tile(covariances, (K // len(covariances), 1, 1))


def draws(parameters, kind, n, rng, backend=NUMPY):
    """Return rows near the components of a mixture, n of each, and weights."""
    pairs = zip(parameters.means, dense(parameters.covariances, kind), strict=True)
    X = np.vstack([rng.multivariate_normal(mean, C, size=n) for mean, C in pairs])
    return backend.rounded(X), rng.uniform(0.1, 3.0, len(X))


def family_of(kind, d=D):
    return Family(OF_D[kind], 0.0, np.zeros(d, dtype=bool))


def one_iteration(
    X, weights, parameters, kind, loss=LEAST_LOSS, backend=NUMPY, moved=None
):
    """Return the statistics of a pass, and the parameters that follow from them."""
    family = family_of(kind, X.shape[1])
    pass_ = Pass(parameters, family, backend, loss, moved)
    found = pass_.statistics(pass_.sums(X, weights))
    return found, maximise(found, parameters, family)[0]


def assert_close(found, expected, widths, tolerance):
    """Assert that parameters are equal in units of the width of each component."""
    assert_allclose(found.weights, expected.weights.astype(float), rtol=tolerance)
    means = (found.means - expected.means).astype(float) / np.reshape(widths, (-1, 1))
    assert np.abs(means).max() <= tolerance
    for covariances, width in zip(
        found.covariances - expected.covariances, widths, strict=False
    ):
        assert np.abs(covariances).max() <= tolerance * width**2


class Iterations:
    """A callback that scores rows after each iteration, and stops after some."""

    def __init__(self, X, sample_weight=None, most=10_000):
        self.rows, self.most, self.scores = (X, None, sample_weight), most, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "iteration":
            self.scores.append(fitted_estimator.score(*self.rows))
        return len(self.scores) >= self.most
