"""EM of rows with missing entries, against plain loops over rows and closed forms."""

import numpy as np
import pytest
from mixtures import (
    OF_D,
    D,
    K,
    assert_close,
    dense,
    draws,
    family_of,
    mixture,
    one_iteration,
    parameters_of,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from skgen._whitening import DiagonalWhitening, FullWhitening
from skgen.mixture import _patterns
from skgen.mixture._backend import LEAST_LOSS
from skgen.mixture._incomplete import IncompletePass, features_of
from skgen.mixture._pass import Family, maximise
from skgen.mixture._patterns import (
    IncompleteRows,
    positive_inverses,
    sorted_by_pattern,
)
from skgen.mixture._problem import IncompleteProblem
from skgen.rows._moments import moments_of, observed_moments_of

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


@pytest.mark.parametrize("loss", [LEAST_LOSS, 0.0])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_iteration_is_a_plain_loop(kind, moved, loss):
    rng = np.random.default_rng(0)
    parameters, whitening = mixture(kind, rng), whitening_for(kind, rng)
    Z, weights = draws(parameters, kind, 20, rng)
    X = with_holes(whitening.unwhiten(Z), rng)
    features, matrix = features_of(whitening)
    elsewhere = np.array([True, False, True, False]), rng.standard_normal((K, D))
    options = {"loss": loss, "moved": elsewhere if moved else None}
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


# -- the pieces of a pass ------------------------------------------------------------


def test_rows_are_sorted_by_pattern():
    rng = np.random.default_rng(0)
    missing = rng.uniform(size=(300, 70)) < 0.02  # more features than bits of a word
    order, starts, patterns = sorted_by_pattern(missing)
    assert_array_equal(np.sort(order), np.arange(300))
    lengths = np.diff(np.append(starts, 300))
    assert_array_equal(missing[order], np.repeat(patterns, lengths, axis=0))
    assert len(np.unique(patterns, axis=0)) == len(patterns)
    keys = list(zip(patterns.sum(axis=1), lengths, strict=True))
    assert keys == sorted(keys)
    for start, length in zip(starts, lengths, strict=True):
        assert (np.diff(order[start : start + length]) > 0).all()


@pytest.mark.parametrize("m", [1, 4, 12, 13])
def test_inverses_and_determinants_of_many_matrices(m):
    # 13 is inverted by LAPACK.
    rng = np.random.default_rng(0)
    roots = np.eye(m) + 0.3 * rng.standard_normal((5, 2, m, m))
    matrices = roots @ roots.swapaxes(2, 3)
    inverse, logs = positive_inverses(matrices)
    assert_allclose(inverse @ matrices, np.tile(np.eye(m), (5, 2, 1, 1)), atol=1e-8)
    assert_allclose(logs, np.linalg.slogdet(matrices)[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "most"), [(7, 7), (64, 64), (4096, 2), (4096, 4096)])
def test_chunks_hold_all_rows_once(monkeypatch, size, most):
    monkeypatch.setattr(_patterns, "_LEAST_ROWS", size)
    monkeypatch.setattr(_patterns, "_CHUNK_BYTES", 0)
    monkeypatch.setattr(_patterns, "_PIECES_BYTES", most * 8 * K * D * D)
    rng = np.random.default_rng(0)
    X = with_holes(rng.standard_normal((200, D)), rng)
    rows = IncompleteRows(X, np.ones(200))
    n = len(rows.sample_weight)
    assert n + rows.empty_weight == 200
    found = []
    for chunk in rows.chunks(K, K):
        assert chunk.lengths.size <= most
        start = chunk.rows.start
        assert chunk.rows.stop - start <= size
        for group in chunk.groups:
            for batch in group.batches:
                positions = np.arange(start + batch.rows.start, start + batch.rows.stop)
                found += positions.tolist()
                lengths = [batch.length] * (batch.pieces.stop - batch.pieces.start)
                assert sum(lengths) == positions.size
                missing = np.repeat(group.missing[batch.pieces], lengths, axis=0)
                for j, features in zip(positions, missing, strict=True):
                    assert (rows.columns[features, j] == 0).all()
    assert_array_equal(found, np.arange(n))


@pytest.mark.parametrize("kind", KINDS)
def test_small_chunks_add_up_to_the_same(kind, monkeypatch):
    rng = np.random.default_rng(0)
    parameters, whitening = mixture(kind, rng), whitening_for(kind, rng)
    Z, weights = draws(parameters, kind, 40, rng)
    X = with_holes(whitening.unwhiten(Z), rng)
    family = family_of(kind)
    whole = IncompleteProblem(X, weights, whitening, family).statistics(parameters)
    monkeypatch.setattr(_patterns, "_LEAST_ROWS", 7)
    monkeypatch.setattr(_patterns, "_CHUNK_BYTES", 0)
    found = IncompleteProblem(X, weights, whitening, family).statistics(parameters)
    for name in ("counts", "first", "scatter", "log_likelihood", "lowest_row"):
        one, other = getattr(whole, name), getattr(found, name)
        assert_allclose(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_complete_rows_have_the_statistics_of_the_pass_for_complete_rows(kind):
    rng = np.random.default_rng(0)
    parameters, whitening = mixture(kind, rng), whitening_for(kind, rng)
    Z, weights = draws(parameters, kind, 40, rng)
    X = whitening.unwhiten(Z)
    problem = IncompleteProblem(X, weights, whitening, family_of(kind))
    expected, complete = one_iteration(Z, weights, parameters, kind)
    found = problem.statistics(parameters)
    log_det = whitening.log_det + np.log(features_of(whitening)[0].scale).sum()
    assert_allclose(found.log_likelihood, expected.log_likelihood + log_det)
    new, _ = maximise(found, parameters, problem.family)
    assert_close(new, complete, np.ones(K), 1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_an_em_step_never_lowers_the_likelihood(kind, seed):
    rng = np.random.default_rng(seed)
    source, whitening = mixture(kind, rng), whitening_for(kind, rng)
    Z, weights = draws(source, kind, 30, rng)
    X = with_holes(whitening.unwhiten(Z), rng, fraction=rng.uniform(0.1, 0.7))
    # With a floor that some components reach.
    family = Family(OF_D[kind], 0.3, np.zeros(D, dtype=bool))
    problem = IncompleteProblem(X, weights, whitening, family)
    parameters = problem.from_responsibilities(
        lambda rows: np.eye(K)[np.arange(len(Z))[rows] % K], K
    )
    bounds = []
    for _ in range(25):
        found = problem.statistics(parameters)
        bounds.append(found.log_likelihood)
        parameters, _ = problem.maximise(found, parameters)
    assert np.diff(bounds).min() > -1e-12 * abs(bounds[0])
    assert bounds[-1] > bounds[0] + 1e-3


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_narrow_components_far_from_the_origin_keep_their_digits(kind):
    # Products about the origin would lose 12 of 16 digits of the variances.
    rng = np.random.default_rng(0)
    parameters = mixture(kind, rng, widths=(1e-6,) * K)
    never = np.zeros(D, dtype=bool)
    whitening = DiagonalWhitening(np.zeros(D), np.ones(D), never)
    X, weights = draws(parameters, kind, 30, rng)
    X = with_holes(X, rng)
    problem = IncompleteProblem(X, weights, whitening, family_of(kind))
    log_density, *_ = plain_loop(X, weights, parameters, kind, whitening)
    found = problem.statistics(parameters)
    expected = np.average(log_density, weights=weights)
    assert_allclose(found.log_likelihood, expected, rtol=1e-7)
    new, _ = maximise(found, parameters, problem.family)
    for k in range(K):  # every row belongs to one component
        rows = slice(30 * k, 30 * (k + 1))
        own, w = X[rows] - parameters.means[k], weights[rows]
        w = np.where(np.isnan(own).all(axis=1), 0.0, w)
        seen = ~np.isnan(own)
        first = (w[:, None] * np.where(seen, own, 0.0)).sum(axis=0) / w.sum()
        # The means have a rounding error of 1e-16, against widths of 1e-6.
        assert np.abs(new.means[k] - parameters.means[k] - first).max() < 1e-14


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_nearly_collinear_components_keep_their_digits(kind):
    rng = np.random.default_rng(0)
    full = np.tile(np.eye(D), (K, 1, 1))
    full[:, 0, 1] = full[:, 1, 0] = 1 - 1e-8
    weights = np.full(K, 1 / K)
    parameters = parameters_of(kind, weights, 3 * rng.standard_normal((K, D)), full)
    never = np.zeros(D, dtype=bool)
    whitening = DiagonalWhitening(np.zeros(D), np.ones(D), never)
    X, weights = draws(parameters, kind, 20, rng)
    X = with_holes(X, rng, fraction=0.2)
    problem = IncompleteProblem(X, weights, whitening, family_of(kind))
    log_density, *_ = plain_loop(X, weights, parameters, kind, whitening)
    found = problem.statistics(parameters)
    expected = np.average(log_density, weights=weights)
    assert_allclose(found.log_likelihood, expected, rtol=1e-5)


def test_moments_of_blocks_add_up():
    rng = np.random.default_rng(0)
    X = with_holes(1e6 + rng.standard_normal((60, 3)), rng)
    X[:20, 1] = np.nan  # a block without values of a feature
    X[40:] = 1e6 + rng.standard_normal((20, 3))  # a complete block
    w = rng.uniform(0.5, 2.0, 60)
    whole = observed_moments_of(X, w)
    blocks = [slice(0, 20), slice(20, 40)]
    first, second = (observed_moments_of(X[b], w[b]) for b in blocks)
    for full in (False, True):
        last = moments_of(X[40:], w[40:], full=full)
        for total in (first + second + last, last + first + second):
            for name in ("mean", "variances", "observed", "weight", "mean_weight"):
                one, other = getattr(total, name), getattr(whole, name)
                assert_allclose(one, other, rtol=1e-12, err_msg=name)
    for j in range(3):
        seen = ~np.isnan(X[:, j])
        mean = np.average(X[seen, j] - 1e6, weights=w[seen])
        assert_allclose(whole.mean[j] - 1e6, mean, atol=1e-9)
        square = np.average((X[seen, j] - 1e6 - mean) ** 2, weights=w[seen])
        assert_allclose(whole.variances[j], square, rtol=1e-9)
