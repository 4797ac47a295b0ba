r"""Whitened coordinates of incomplete rows, from one normal density of all rows.

The covariance of incomplete rows is the maximum-likelihood covariance of a normal
density, by EM (Orchard and Woodbury, 1972, A missing information principle), on a
sample of the rows.
"""

import numpy as np

from skgen._warnings import quiet
from skgen._whitening import (
    DiagonalWhitening,
    known_errors,
    rounding_resolution,
    whitening_of,
)
from skgen.mixture._central import ROWS, central_whitening, moved_inside
from skgen.mixture._covariance import COVARIANCES, Parameters
from skgen.mixture._incomplete import IncompletePass
from skgen.mixture._iterations import Run
from skgen.mixture._pass import Family, standard_parameters
from skgen.mixture._problem import IncompleteProblem
from skgen.rows._moments import moments_from, observed_moments_of

# Minimum variance of the normal density in any direction, in variances of a feature,
# and the variance below which features are collinear: EM approaches a variance of 0
# geometrically.
_FLOOR, _COLLINEAR = 1e-10, 4e-10

# Convergence threshold in nats per row, and maximum number of iterations.
_TOL, _MOST_ITERATIONS = 1e-4, 200

# A feature with fewer observed values per feature than this is whitened alone: its
# covariances are not determined.
_ROWS_FOR_FEATURE = 5


def incomplete_whitening(
    X, sample_weight, moments, covariance, normal=None, *, dtype, names
):
    """Return the whitening of incomplete rows with given `ObservedMoments`.

    X (m, d) is a sample of the rows, in random order. `normal` are the mean (d,) and
    the covariance (d, d) of all rows, if they are known.
    """
    X, sample_weight = X[:ROWS], sample_weight[:ROWS]
    options = {"dtype": dtype, "names": names}
    if covariance.whitening != "full":
        whitening = whitening_of(moments, covariance.whitening, **options)
        filled, weights = completed_rows(X, sample_weight, whitening)
        return central_whitening(whitening, filled, weights)
    with quiet():  # the warning of constant features follows
        scaled = whitening_of(moments, "diag", **options)
    inside = moved_inside(X)
    if inside is not X:
        X, scaled = inside, _narrowed(scaled, inside, sample_weight)
    varying = np.where(scaled.degenerate, 0.0, 1.0)
    if normal is None:
        normal = normal_density(X, sample_weight, scaled)
    else:
        normal = np.zeros(varying.size), correlation_of(normal[1], varying)
    mean, root = normal[0], varying * scaled.scale
    of_normal = moments_from(
        moments.weight,
        scaled.unwhiten(varying * mean),
        root[:, None] * normal[1] * root,
    )
    few = np.isfinite(X).sum(axis=0) < _ROWS_FOR_FEATURE * varying.size
    blocks = _without(few, covariance.blocks or [range(varying.size)])

    def projected(mean, matrix):
        """Return the moments of linear functionals of the normal density."""
        of_rows = matrix @ (root[:, None] * normal[1] * root) @ matrix.T
        return moments_from(moments.weight, (of_normal.mean - mean) @ matrix.T, of_rows)

    errors = np.sqrt(_COLLINEAR * of_normal.variances)
    errors = np.maximum(errors, rounding_resolution(moments, dtype))
    with known_errors(errors):
        whitening = whitening_of(
            of_normal, "full", blocks=blocks, projected=projected, **options
        )
    filled, weights = completed_rows(X, sample_weight, scaled, normal)
    return central_whitening(whitening, filled, weights, blocks)


def _narrowed(scaled, X, sample_weight):
    """Return the diagonal whitening with the scales of central rows, if smaller."""
    moments = observed_moments_of(X, sample_weight)
    deviations = np.sqrt(moments.variances)
    narrow = (deviations > 0) & (deviations < scaled.scale)
    return DiagonalWhitening(
        np.where(narrow, moments.mean, scaled.mean),
        np.where(narrow, deviations, scaled.scale),
        scaled.degenerate,
    )


def normal_density(X, sample_weight, scaled):
    """Return the mean (d,) and covariance (d, d) of one normal density of the rows.

    They are in the `scaled` coordinates, a diagonal whitening.
    """
    family = Family(COVARIANCES["full"], _FLOOR, scaled.degenerate)
    problem = IncompleteProblem(X, sample_weight, scaled, family)
    start = standard_parameters(family.covariance, 1, X.shape[1])
    run = Run(start, problem.statistics(start), np.inf)
    for _ in range(_MOST_ITERATIONS):
        if run.converged or run.stalled:
            break
        run.step(problem, _TOL)
    return run.parameters.means[0], run.parameters.covariances[0]


def correlation_of(covariance, varying):
    """Return the correlation (d, d) of a covariance, 0 with constant features."""
    root = np.sqrt(np.diagonal(covariance))
    correlation = covariance / root / root[:, None] * varying * varying[:, None]
    np.fill_diagonal(correlation, 1.0)
    return correlation


def completed_rows(X, sample_weight, scaled, normal=None):
    """Return rows (m, d) completed under a normal density, and their weights.

    `normal` is in scaled coordinates, by default a standard normal density.
    """
    kind = COVARIANCES["diag" if normal is None else "full"]
    family = Family(kind, 0.0, scaled.degenerate)
    problem = IncompleteProblem(X, sample_weight, scaled, family)
    if normal is None:
        return scaled.unwhiten(problem.X), problem.sample_weight
    mean, covariance = normal
    factors = kind.factors(covariance[None])
    parameters = Parameters(np.ones(1), mean[None], covariance[None], factors)
    filled = IncompletePass(parameters, family, None).filled(problem.rows)
    return scaled.unwhiten(filled), problem.sample_weight


def _without(few, blocks):
    """Return groups of features, with each of the `few` (d,) alone."""
    alone = [[j] for j in np.flatnonzero(few).tolist()]
    rest = ([j for j in block if not few[j]] for block in blocks)
    return [*filter(len, rest), *alone]
