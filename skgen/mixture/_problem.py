"""Problems of EM: the rows of a source, in memory, on a device or read block by block.

Rows with missing entries are computed by NumPy, whatever the device.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from skgen.mixture._backend import (
    LEAST_LOSS,
    NUMPY,
    AbstractBackend,
    TorchRows,
    backend_of,
)
from skgen.mixture._incomplete import IncompletePass, features_of
from skgen.mixture._pass import (
    AbstractProblem,
    Family,
    Problem,
    maximise,
    standard_parameters,
)
from skgen.mixture._patterns import IncompleteRows
from skgen.rows._moments import ObservedMoments


@dataclass
class DeviceProblem(AbstractProblem):
    """Whitened rows on a device."""

    rows: TorchRows
    family: Family
    backend: AbstractBackend

    def sums(self, pass_):
        return pass_.sums_of(self.rows)


class RowsProblem(AbstractProblem):
    """Rows of any source, which are whitened block by block in each pass."""

    def __init__(self, rows, whitening, family, backend):
        self.rows, self.whitening = rows, whitening
        self.family, self.backend = family, backend

    def sums(self, pass_):
        return self.rows.total(
            partial(_whitened_sums, whitening=self.whitening, pass_=pass_)
        )


class IncompleteRowsProblem(RowsProblem):
    """Rows of any source with missing entries."""

    def __init__(self, rows, whitening, family):
        features, self.matrix = features_of(whitening)
        super().__init__(rows, features, family, NUMPY)

    def new_pass(self, parameters, loss, moved=None):
        return IncompletePass(parameters, self.family, self.matrix, loss, moved)


class IncompleteProblem(AbstractProblem):
    """Rows in memory with missing entries, in the order of their patterns."""

    in_memory = True

    def __init__(self, X, sample_weight, whitening, family):
        features, self.matrix = features_of(whitening)
        self.family = family
        self.rows = IncompleteRows(features.whiten(X), sample_weight)
        self.sample_weight = self.rows.sample_weight

    @cached_property
    def X(self):  # noqa: N802 (as in Problem)
        """The whitened rows (n, d), completed by their means given what is observed.

        As initialisations use them, they are completed under one normal density.
        """
        return self._standard(1).filled(self.rows)

    def new_pass(self, parameters, loss, moved=None):
        return IncompletePass(parameters, self.family, self.matrix, loss, moved)

    def sums(self, pass_):
        return pass_.sums_of(self.rows)

    def from_responsibilities(self, responsibilities, K):
        """Return the parameters for given responsibilities, a function of slices.

        Missing entries have their moments under one normal density of all rows.
        """
        pass_ = self._standard(K)
        collected = pass_.statistics(pass_.sums_of(self.rows, responsibilities))
        return maximise(collected, pass_.given, self.family)[0]

    def _standard(self, K):
        """Return the pass of a standard normal density, which whitened rows have."""
        standard = standard_parameters(
            self.family.covariance, K, len(self.rows.columns)
        )
        return self.new_pass(standard, LEAST_LOSS)


def _whitened_sums(X, sample_weight, *, whitening, pass_):
    return pass_.sums(whitening.whiten(X), sample_weight)


def problem_of(source, whitening, covariance, floor, device="cpu", *, incomplete=False):
    """Return the EM problem of the rows of a source in whitened coordinates.

    `incomplete` is whether entries of the rows are missing.
    """
    backend = backend_of(device, source.dtype)
    family = Family(covariance, floor, whitening.degenerate)
    if not source.in_memory:
        if incomplete:
            return IncompleteRowsProblem(source, whitening, family)
        return RowsProblem(source, whitening, family, backend)
    X, sample_weight = source.X, source.sample_weight
    if backend is NUMPY or incomplete:
        return problem_in_memory(X, sample_weight, whitening, covariance, floor)
    rows = backend.hold(lambda part: whitening.whiten(X[part]), sample_weight)
    return DeviceProblem(rows, family, backend)


def log_det_of(whitening, moments):
    """Return nats in the units of the data minus nats in the coordinates of EM.

    They are nats per row. `moments` are moments of all rows.
    """
    if not isinstance(moments, ObservedMoments):
        return whitening.log_det
    features, _ = features_of(whitening)
    return -(moments.observed / moments.weight) @ np.log(features.scale)


def problem_in_memory(X, sample_weight, whitening, covariance, floor):
    """Return the EM problem of rows in memory, given in the units of the data."""
    if np.isnan(X).any():
        family = Family(covariance, floor, whitening.degenerate)
        return IncompleteProblem(X, sample_weight, whitening, family)
    rows = whitening.whiten(X), sample_weight
    return Problem(*rows, covariance, floor, whitening.degenerate)
