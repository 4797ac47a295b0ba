"""One pass over rows under a mixture: log-densities, responsibilities and moments.

The same pass serves rows in memory, in a memory map, on the workers of a cluster and on
a GPU: `Pass` computes `Sums`, which are additive, and turns their total into
`Statistics`. Components whose densities or moments would lose too many digits by
products (`_covariance`) take differences to their means.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from skgen.mixture._backend import (
    LEAST_LOSS,
    NUMPY,
    AbstractBackend,
    NumPyRows,
)
from skgen.mixture._covariance import Covariance, Parameters

# Outside these limits, products of two coordinates underflow or overflow in float64.
_LEAST_SPREAD, _MOST_SPREAD = 1e-70, 1e70

# Responsibilities below this multiple of the component weight, times the allowed
# rounding error, are ignored. The error that this causes is smaller than the rounding
# error of the matrix products.
_NEGLIGIBLE = 0.1 * np.finfo(np.float64).eps

# Sparse moments: maximum and minimum number of rows whose non-negligible
# responsibilities are gathered at once, and maximum bytes of these responsibilities.
_GATHERED, _LEAST_GATHERED, _GATHERED_BYTES = 4096, 1024, 2**23

# Minimum number of features for sparse moments. They are used if the fraction of
# non-negligible responsibilities is below d / 128: a row takes d^2 operations for each
# such responsibility, against d^2 / 2 for every component, three times as fast, by a
# product over all components.
_LEAST_FEATURES, _FEATURES_FOR_ALL = 24, 128


# -- log-densities ---------------------------------------------------------------------


class Joint:
    r"""Decide how to compute :math:`\log \pi_k + \log \mathcal{N}(x; \mu_k, \Sigma_k)`.

    `loss` is the maximum rounding error of products as a multiple of machine epsilon,
    `shift` (d,) the point that the features are about.
    """

    def __init__(self, parameters, covariance, backend, loss, shift=None):
        self.parameters, self.covariance, self.backend = parameters, covariance, backend
        (K, d), factors = parameters.means.shape, parameters.factors
        self.shift = np.zeros(d) if shift is None else shift
        with np.errstate(divide="ignore"):  # log(0) = -inf
            self.constants = np.log(parameters.weights)
        self.constants += covariance.log_det(factors, K) - 0.5 * d * np.log(2 * np.pi)
        near = np.zeros(K, dtype=bool)  # by products
        if covariance.by_products(d):
            with np.errstate(all="ignore"):  # components that take differences
                precisions = covariance.precisions(factors)
                lost = losses(parameters, covariance, precisions, self.shift)
                means = parameters.means - self.shift
                self.coefficients = covariance.coefficients(backend, means, precisions)
                # The distance of the means from `shift`, which moments would lose.
                self.moved = covariance.magnitudes(precisions, np.abs(means))  # (K,)
            near = (lost <= loss) & (parameters.weights > 0)
            self.coefficients = self.coefficients[near]
            # Here, because BLAS may compute log(0) * 0.
            self.coefficients[:, 0] += self.constants[near]
        self.near, self.apart = np.flatnonzero(near), np.flatnonzero(~near)


def losses(parameters, covariance, precisions, shift):
    r"""Return the rounding errors of products as multiples of machine epsilon: (K,).

    They are :math:`t^\top |\Lambda| t` (see `_covariance`), or infinite if products of
    coordinates overflow or underflow.
    """
    variances = covariance.diagonals(parameters.covariances)
    spread = np.hypot(parameters.means - shift, np.sqrt(variances))  # (K, d)
    lost = covariance.magnitudes(precisions, spread)
    outside = (spread < _LEAST_SPREAD) | ~(spread < _MOST_SPREAD)
    return np.where(outside.any(axis=1) | np.isnan(lost), np.inf, lost)


class Kernel:
    """The arrays of a `Joint` on its backend, for one task; it reuses its memory."""

    def __init__(self, joint):
        self.joint, self.backend, self._room = joint, joint.backend, None
        array, parameters = self.backend.array, joint.parameters
        self.K, self.d = parameters.means.shape
        self.factors, self.shift = (
            array(parameters.factors),
            array(joint.shift[:, None]),
        )
        if joint.near.size:
            self.coefficients = array(joint.coefficients)
        if joint.apart.size:
            self.near, self.apart = self.backend.index(joint.near), joint.apart.tolist()
            self.means = array(parameters.means[:, :, None])
            self.missing = self._missing() if self.backend.single else None

    def _missing(self):
        """Return the rounding errors of the means in units of the components."""
        rest = self.joint.parameters.means
        rest = (rest - self.backend.rounded(rest))[:, None, :, None]  # (K, 1, d, 1)
        factors, standardise = (
            self.joint.parameters.factors,
            self.joint.covariance.standardise,
        )
        rest = [standardise(NUMPY, row, factors, k) for k, row in enumerate(rest)]
        return self.backend.array(np.stack(rest))

    def features(self, z):
        """Return the features (s, p, c) of a chunk (s, d, c) of rows."""
        (s, d, c), covariance = z.shape, self.joint.covariance
        if self._room is None:  # the first chunk is the largest
            p = covariance.n_features(d)
            self._room = self.backend.room(z, p, by_rows=covariance.by_rows)
        F = self._room[:s, :, :c]
        F[:, 0] = 1.0
        self.backend.math.subtract(z, self.shift, out=F[:, 1 : 1 + d])
        covariance.fill(self.backend, F, d, self.factors)
        return F

    def __call__(self, z, F):
        """Return joint log-densities (s, K, c) of a chunk with its features."""
        joint, backend = self.joint, self.backend
        if not joint.apart.size:
            return backend.product(self.coefficients, F)
        values = backend.empty(z, (z.shape[0], self.K, z.shape[2]))
        if joint.near.size:
            values[:, self.near] = backend.product(self.coefficients, F)
        for k in self.apart:
            self._by_differences(z, k, values[:, k])
        return values

    def _by_differences(self, z, k, out):
        """Compute the joint log-densities of a chunk and one component in `out`."""
        standardise, math = self.joint.covariance.standardise, self.backend.math
        y = standardise(self.backend, z - self.means[k], self.factors, k)  # (s, d, c)
        if self.missing is not None:
            y -= self.missing[k]
        self.backend.add_squares(y, out)
        # Where squares overflow, all components are equally likely.
        math.clip(out, None, math.finfo(out.dtype).max, out=out)
        out *= -0.5
        out += self.joint.constants[k]


def normalise(math, joint):
    """Exponentiate joint log-densities (s, K, c) in place, relative to the maximum.

    Returns log-densities and sums (s, 1, c); `joint` / sums are the responsibilities.
    """
    top = math.amax(joint, axis=1, keepdims=True)
    joint -= top
    total = math.exp(joint, out=joint).sum(axis=1, keepdims=True)
    return top + math.log(total), total


# -- sums ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """The family of mixtures that is fitted to whitened rows."""

    covariance: Covariance
    floor: float  # minimum variance
    degenerate: np.ndarray  # (d,) whether all rows have the same coordinate


@dataclass(frozen=True)
class Sums:
    """Sums over some of the rows; sums over disjoint rows are added."""

    moments: list  # of arrays, see `Collector`
    log_likelihood: float  # sum of weight times log p
    weight: float
    lowest: float  # the lowest log p of a row, the row (d,), and its weight
    lowest_row: np.ndarray
    lowest_weight: float

    def __add__(self, other):
        lower = self if self.lowest <= other.lowest else other
        return Sums(
            [a + b for a, b in zip(self.moments, other.moments, strict=True)],
            self.log_likelihood + other.log_likelihood,
            self.weight + other.weight,
            lower.lowest,
            lower.lowest_row,
            lower.lowest_weight,
        )


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of all rows."""

    counts: np.ndarray  # (K,) sums of responsibilities
    first: np.ndarray  # (K, d) first moments about the origins
    scatter: np.ndarray  # second moments about the origins; shape depends on the type
    origins: np.ndarray  # (K, d)
    log_likelihood: float  # weighted mean of log p
    lowest_row: np.ndarray  # (d,) the row of lowest density
    lowest_weight: float  # its weight as a fraction of the total
    # The part of the second moments that is the conditional covariance of missing
    # entries.
    conditional: np.ndarray | None = None


class Pass:
    """The E-step of one pass. Pickled and sent to workers that hold the rows.

    `loss` is the rounding error allowed to products; `moved` a mask of components (K,)
    and their new origins (K, d); `scatter` the known second moment of all rows about 0.
    """

    # Components with one covariance need the second moment of all rows, whose
    # responsibilities sum to 1: it does not depend on the mixture.

    def __init__(self, parameters, family, backend, loss, moved=None, scatter=None):
        K, d = parameters.means.shape
        self.covariance, self.backend = family.covariance, backend
        loss = backend.limits.allowed(loss)
        self.joint = Joint(parameters, family.covariance, backend, loss)
        # Moments about 0 by products or, for `apart`, by differences to the origins.
        apart = np.ones(K, dtype=bool)
        if family.covariance.by_products(d):
            apart = self.joint.moved > backend.limits.far
        origins = parameters.means
        if moved is not None:
            apart |= moved[0]
            origins = np.where(moved[0][:, None], moved[1], origins)
        if family.covariance.shared:
            apart[:] = apart.any()
        self.near, self.apart = np.flatnonzero(~apart), np.flatnonzero(apart)
        # Rounded to the values that a device subtracts.
        self.origins = np.where(apart[:, None], backend.rounded(origins), 0.0)
        self.least = _NEGLIGIBLE * loss * parameters.weights  # (K,)
        self.scatter = scatter if self.near.size else None
        self._corrects = backend.single and moved is None

    def sums(self, X, sample_weight):
        """Return the `Sums` of rows (n, d) with weights (n,)."""
        return self.sums_of(self.backend.hold(lambda rows: X[rows], sample_weight))

    def sums_of(self, rows, given=None):
        """Return the `Sums` of rows that the backend holds.

        `given` maps a slice of rows to responsibilities (b, K) that take the place of
        responsibilities of the mixture; the likelihood is then 0.
        """
        K, d = self.origins.shape
        uses_features = self.near.size or (given is None and self.joint.near.size)
        p = self.covariance.n_features(d) if uses_features else 0

        def collect(chunks):
            kernel, collector = Kernel(self.joint), Collector(self, rows)
            for start, z, w in chunks:
                F = kernel.features(z) if uses_features else None
                if given is None:
                    r = kernel(z, F)  # (s, K, c)
                    log_density, norm = normalise(self.backend.math, r)
                    r *= w / norm
                else:
                    r = given(slice(start, start + z.shape[2])).T * w
                    log_density = np.zeros_like(w)
                collector.add(start, z, w, F, r, log_density)
            return collector.finish()

        with self.backend.arithmetic():
            # In a fixed order, whichever thread finishes first.
            return reduce(add, rows.map(collect, p, K))

    def statistics(self, sums):
        """Return the `Statistics` of the total `Sums`."""
        counts, first, scatter, *products = sums.moments
        log_likelihood = sums.log_likelihood
        if self._corrects:
            log_likelihood += rounding_of(self, sums.moments)
        if self.near.size:
            of_near, d = products[0].T, first.shape[1]  # (m, p)
            counts, first, scatter = counts.copy(), first.copy(), scatter.copy()
            counts[self.near] += of_near[:, 0]
            first[self.near] += of_near[:, 1 : 1 + d]
            if not self.covariance.common:
                second = self.covariance.second_moments(self.backend, of_near, d)
                if self.covariance.shared:
                    scatter += second.sum(axis=0)
                else:
                    scatter[self.near] += second
        return Statistics(
            counts,
            first,
            scatter if self.scatter is None else self.scatter,
            self.origins,
            log_likelihood / sums.weight,
            sums.lowest_row,
            sums.lowest_weight / sums.weight,
        )


def far(parameters, covariance, origins, most):
    """Return for which components moments about origins lose too many digits: (K,)."""
    move = np.abs(parameters.means - origins)  # (K, d)
    return covariance.magnitudes(covariance.precisions(parameters.factors), move) > most


class Collector:
    """Sum the weighted moments of the chunks of one task."""

    # By products or, where these lose too many digits, by differences. Chunks with few
    # non-negligible responsibilities are buffered and summed sparsely: in many
    # dimensions clusters hardly overlap. The sum that is left out of a component is
    # below `least` times the weight of the rows.

    def __init__(self, pass_, rows):
        self.of, self.rows, self.backend = pass_, rows, pass_.backend
        (K, d), covariance = pass_.origins.shape, pass_.covariance
        zeros, self.covariance = self.backend.zeros, covariance
        self.near = self.backend.index(pass_.near) if pass_.apart.size else None
        self.apart = set(pass_.apart.tolist())
        self.origins = self.backend.array(pass_.origins[:, :, None])  # (K, d, 1)
        # Counts, first and second moments by differences, and sums of features.
        shape = pass_.joint.parameters.covariances.shape
        self.sums = [zeros(K), zeros((K, d)), zeros(shape)]
        if pass_.near.size:
            self.sums.append(zeros((covariance.n_features(d), pass_.near.size)))
        self._adds_scatter = (
            covariance.common and pass_.near.size and pass_.scatter is None
        )
        self._log_likelihood, self._lowest, self._rows = zeros(()), [], []
        self._first = self._end = rows.sample_weight.size  # the rows of the task
        self._held = None  # responsibilities of the buffered rows, a slice
        self._start = self._stop = 0
        per_component = covariance.dense and not covariance.shared
        if isinstance(rows, NumPyRows) and per_component and d >= _LEAST_FEATURES:
            size = min(rows.X.shape[0], _GATHERED, _GATHERED_BYTES // (8 * K))
            if size >= _LEAST_GATHERED:
                self._held = np.empty((K, size))

    def add(self, start, z, w, F, r, log_density):
        """Add a chunk from row `start` on, the next one in its task.

        `r` (s, K, c) are responsibilities times the weights.
        """
        s, _, c = z.shape
        self._first, self._end = min(self._first, start), start + s * c
        lowest, position = self.backend.lowest(log_density, w)
        self._lowest.append(lowest)
        self._rows.append(start + position)
        self._log_likelihood += self.backend.dot(w, log_density)
        if self._adds_scatter:
            self.sums[2][0] += self.backend.inner(w * z, z)
        if self._held is None or not self._waits(start, r):
            self._add_all(z, F, r)

    def finish(self):
        """Return the `Sums` of the task."""
        self._add_few()
        lowest, rows = map(self.backend.joined, (self._lowest, self._rows))
        found = [*self.sums, self._log_likelihood, lowest, rows]
        *sums, log_likelihood, lowest, rows = self.backend.fetch(found)
        worst = lowest.argmin()
        weight = self.rows.sample_weight[self._first : self._end].sum()
        row = self.rows.row(int(rows[worst]))
        return Sums(sums, float(log_likelihood), weight, float(lowest[worst]), *row)

    def _add_all(self, z, F, r):
        """Add a chunk of rows (s, d, c) with features F (s, p, c)."""
        if len(self.sums) > 3:
            near = r if self.near is None else r[:, self.near]
            self.sums[3] += self.backend.inner(F, near)
        for k in self.apart:
            self._add_one(k, z - self.origins[k], r[:, k])

    def _add_one(self, k, difference, r):
        """Add differences (s, d, c) with responsibilities (s, c) to a component."""
        counts, first, scatter, *_ = self.sums
        backend, covariance = self.backend, self.covariance
        counts[k] += backend.total(r, (0, 1))
        first[k] += backend.inner(difference, r[:, None])[:, 0]
        if covariance.dense:
            moment = backend.second_moment(difference, r)
        else:
            squares = backend.math.square(difference)
            moment = backend.inner(squares, r[:, None])[:, 0]
        scatter[0 if covariance.shared else k] += moment

    def _waits(self, start, r):
        """Return whether to buffer a chunk; once buffering, chunks fill the buffer."""
        (r,), size = r, self._held.shape[1]
        stop = start + r.shape[1]
        if self._start < self._stop and stop - self._start > size:
            self._add_few()
        if self._start == self._stop:
            self._start = self._stop = start
            many = np.count_nonzero(r > self._least(start, stop)[:, None])
            if many * _FEATURES_FOR_ALL >= r.size * self.rows.X.shape[1]:
                return False
        self._held[:, start - self._start : stop - self._start] = r
        self._stop = stop
        return True

    def _add_few(self):
        """Add the buffered rows: of each component those that are not negligible."""
        rows, self._start = slice(self._start, self._stop), self._stop
        if rows.start == rows.stop:
            return
        X, least = self.rows.X[rows], self._least(rows.start, rows.stop)
        room = np.empty(X.shape)
        for k, r in enumerate(self._held[:, : len(X)]):
            kept = np.flatnonzero(r > least[k])  # (h,)
            if not kept.size:
                continue
            # mode="clip" avoids a buffered copy; all indices are valid.
            few = np.take(X, kept, axis=0, out=room[: kept.size], mode="clip")
            if k in self.apart:  # else about 0
                few -= self.of.origins[k]
            self._add_one(k, few.T[None], r[kept][None])

    def _least(self, start, stop):
        """Return the largest negligible responsibilities times weights: (K,)."""
        return self.of.least * self.rows.sample_weight[start:stop].mean()


def rounding_of(pass_, moments):
    """Return the first-order effect of rounded parameters on a log-likelihood.

    `moments` are the totals of `Collector`.
    """
    # To first order, the effect is the rounding error of coefficients and precisions
    # times the sums of features and the scatter, which the M-step needs anyway. Without
    # the correction, rounding would change the likelihood between iterations by more
    # than a late iteration improves it.
    joint, rounded = pass_.joint, pass_.backend.rounded
    counts, _, scatter, *products = moments
    effect = 0.0
    near = np.intersect1d(joint.near, pass_.near)
    if near.size:
        coefficients = joint.coefficients[np.searchsorted(joint.near, near)]
        features = products[0][:, np.searchsorted(pass_.near, near)]  # (p, m)
        effect += np.vdot((coefficients - rounded(coefficients)).T, features)
    apart = np.intersect1d(joint.apart, pass_.apart)
    apart = apart[joint.parameters.weights[apart] > 0]
    constants = joint.constants[apart]
    effect += (constants - rounded(constants)) @ counts[apart]
    factors, precisions = joint.parameters.factors, joint.covariance.precisions
    lost = precisions(factors) - precisions(rounded(factors))
    if not joint.covariance.shared:
        return effect - 0.5 * np.vdot(lost[apart], scatter[apart])
    if near.size or apart.size:
        scatter = scatter if pass_.scatter is None else pass_.scatter
        effect -= 0.5 * np.vdot(lost, scatter)
    return effect


# -- EM --------------------------------------------------------------------------------


class AbstractProblem(ABC):
    """Whitened rows of any storage, and the family of mixtures to fit; abstract.

    Subclasses define `family`, `backend` and `sums`.
    """

    family: Family
    backend: AbstractBackend = NUMPY

    # Whether the rows are in memory, so that the initialisation can use all of them.
    in_memory = False

    # The second moment of all rows about 0, once it is known (`Pass`).
    _scatter = None

    @abstractmethod
    def sums(self, pass_):
        """Return the `Sums` of all rows under a `Pass`."""

    def new_pass(self, parameters, loss, moved=None):
        """Return the `Pass` of an E-step."""
        return Pass(parameters, self.family, self.backend, loss, moved, self._scatter)

    def statistics(self, parameters, loss=LEAST_LOSS, moved=None):
        """Return the `Statistics` of all rows under the parameters (E-step)."""
        pass_ = self.new_pass(parameters, loss, moved)
        found = pass_.statistics(self.sums(pass_))
        if pass_.covariance.common and pass_.near.size:
            self._scatter = found.scatter
        return found

    def maximise(self, collected, parameters):
        """Return the parameters of an M-step, and which components collapsed (K,)."""
        return self._maximise(
            collected,
            parameters,
            lambda moved: self.statistics(parameters, moved=moved),
        )

    def _maximise(self, collected, previous, again):
        """Return the parameters of an M-step, and which components collapsed (K,).

        `again` computes the statistics about other origins.
        """
        found = maximise(collected, previous, self.family)
        covariance, most = self.family.covariance, self.backend.limits.far
        moved = far(found[0], covariance, collected.origins, most)
        moved &= found[0].weights > 0
        if moved.any():
            # Moments about the new means do not cancel.
            found = maximise(again((moved, found[0].means)), previous, self.family)
        return found


def maximise(collected, previous, family):
    """Return the `Parameters` of the M-step, and which covariances hit the floor (K,).

    Empty components keep their `previous` mean and covariance.
    """
    counts, covariance = collected.counts, family.covariance
    # Counts below the rounding error mean an empty component.
    least = 10 * np.finfo(np.float64).eps * counts.sum()
    counts = np.where(counts > least, counts, 0.0)
    shift = collected.first / np.where(counts > 0, counts, 1.0)[:, None]  # (K, d)
    shift[counts == 0] = 0.0
    covariances, at_floor = covariance.from_scatter(
        collected.scatter,
        counts,
        shift,
        previous.covariances,
        family.floor,
        family.degenerate,
    )
    means = np.where((counts > 0)[:, None], collected.origins + shift, previous.means)
    factors = covariance.factors(covariances)
    return Parameters(counts / counts.sum(), means, covariances, factors), at_floor


def standard_parameters(covariance, K, d):
    """Return K components of the same weight, mean 0 and unit covariance."""
    unit = covariance.unit(K, d)
    factors = covariance.factors(unit)
    return Parameters(np.full(K, 1 / K), np.zeros((K, d)), unit, factors)


@dataclass
class Problem(AbstractProblem):
    """Whitened rows in memory, for NumPy."""

    X: np.ndarray  # (n, d)
    sample_weight: np.ndarray  # (n,)
    covariance: Covariance
    floor: float  # minimum variance
    degenerate: np.ndarray  # (d,) whether all rows have the same coordinate

    in_memory = True

    def __post_init__(self):
        self.family = Family(self.covariance, self.floor, self.degenerate)

    def sums(self, pass_):
        return pass_.sums(self.X, self.sample_weight)

    def from_responsibilities(self, responsibilities, K):
        """Return the parameters for given responsibilities, a function of slices."""
        standard = standard_parameters(self.covariance, K, self.X.shape[1])

        def collect(moved=None):
            pass_ = Pass(standard, self.family, NUMPY, 0.0, moved)
            rows = NumPyRows(self.X, self.sample_weight)
            return pass_.statistics(pass_.sums_of(rows, responsibilities))

        return self._maximise(collect(), standard, collect)[0]
