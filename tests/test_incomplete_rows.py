"""EM of rows with missing entries, against plain loops over rows and closed forms."""

import numpy as np
import pytest
from mixtures import OF_D, D, K, dense, draws, family_of, mixture
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from skgen._whitening import DiagonalWhitening, FullWhitening
from skgen.mixture._incomplete import (
    IncompletePass,
    features_of,
)

KINDS = list(OF_D)


def with_holes(X, rng, fraction=0.4):
    """Return rows with missing entries, one of which has no observed entry."""
    X = np.where(rng.uniform(size=X.shape) < fraction, np.nan, X)
    X[3] = np.nan
    return X


def whitening_for(kind, rng):
    """Return coordinates that are as general as those of a covariance type."""
    mean, never = rng.standard_normal(D), np.zeros(D, dtype=bool)
    if OF_D[kind].whitening != "full":
        scale = np.full(D, 2.0) if OF_D[kind].pooled else np.array([0.5, 2.0, 3.0])
        return DiagonalWhitening(mean, scale, never)
    factor = np.eye(D) + 0.5 * rng.standard_normal((D, D))
    if OF_D[kind].blocks:
        factor *= OF_D[kind].mask()
    return FullWhitening(mean, factor, np.linalg.inv(factor), never)


def plain_loop(X, weights, parameters, kind, whitening):
    """Return log-densities (n,), and moments about 0 of whitened completed rows.

    The densities are of rows in units of the lengths of the rows of `factor`.
    """
    factor = getattr(whitening, "factor", np.diag(getattr(whitening, "scale", [1.0])))
    scale = np.sqrt((factor**2).sum(axis=1))
    covariances = [factor @ C @ factor.T for C in dense(parameters.covariances, kind)]
    means = [whitening.mean + factor @ m for m in parameters.means]
    inverse = np.linalg.inv(factor)
    counts, first = np.zeros(K), np.zeros((K, D))
    second, log_density = np.zeros((K, D, D)), np.zeros(len(X))
    for n, (x, w) in enumerate(zip(X, weights, strict=True)):
        o = np.flatnonzero(~np.isnan(x))
        m = np.flatnonzero(np.isnan(x))
        if not o.size:
            continue
        joint, moments = np.zeros(K), []
        for k in range(K):
            C = covariances[k]
            part = multivariate_normal(means[k][o], C[np.ix_(o, o)])
            joint[k] = np.log(parameters.weights[k]) + part.logpdf(x[o])
            slopes = C[np.ix_(m, o)] @ np.linalg.inv(C[np.ix_(o, o)])
            mean = x.copy()
            mean[m] = means[k][m] + slopes @ (x[o] - means[k][o])
            spread = np.zeros((D, D))
            spread[np.ix_(m, m)] = C[np.ix_(m, m)] - slopes @ C[np.ix_(o, m)]
            z = inverse @ (mean - whitening.mean)
            moments.append((z, np.outer(z, z) + inverse @ spread @ inverse.T))
        log_density[n] = np.logaddexp.reduce(joint) + np.log(scale[o]).sum()
        r = w * np.exp(joint - np.logaddexp.reduce(joint))
        counts += r
        first += r[:, None] * np.array([z for z, _ in moments])
        second += r[:, None, None] * np.array([S for _, S in moments])
    return log_density, counts, first, second


def about_zero(found, kind):
    """Return the moments of `Statistics` about 0; the second ones are (J, ...)."""
    covariance = OF_D[kind]
    first = found.first + found.counts[:, None] * found.origins
    # About origins o: S - sum of o f' + f o' + n o o'.
    f, o = found.first, found.origins
    cross = f[:, :, None] * o[:, None]
    more = cross + cross.swapaxes(1, 2)
    more += found.counts[:, None, None] * o[:, :, None] * o[:, None]
    if not covariance.dense:
        more = np.diagonal(more, axis1=1, axis2=2)
    if covariance.shared:
        more = more.sum(axis=0, keepdims=True)
    return found.counts, first, found.scatter + more


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_iteration_is_a_plain_loop(kind, moved):
    rng = np.random.default_rng(0)
    parameters, whitening = mixture(kind, rng), whitening_for(kind, rng)
    Z, weights = draws(parameters, kind, 20, rng)
    X = with_holes(whitening.unwhiten(Z), rng)
    features, matrix = features_of(whitening)
    elsewhere = np.array([True, False, True, False]), rng.standard_normal((K, D))
    options = {"moved": elsewhere} if moved else {}
    pass_ = IncompletePass(parameters, family_of(kind), matrix, **options)
    found = pass_.statistics(pass_.sums(features.whiten(X), weights))
    log_density, counts, first, second = plain_loop(
        X, weights, parameters, kind, whitening
    )
    if not OF_D[kind].dense:
        second = np.diagonal(second, axis1=1, axis2=2)
    if OF_D[kind].shared:
        second = second.sum(axis=0, keepdims=True)
    assert_allclose(found.log_likelihood, np.average(log_density, weights=weights))
    total = about_zero(found, kind)
    for one, expected in zip(total, (counts, first, second), strict=True):
        assert_allclose(one, expected, rtol=1e-9, atol=1e-9)
    if moved:
        assert_allclose(found.origins[[0, 2]], elsewhere[1][[0, 2]])
