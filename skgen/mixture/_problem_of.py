"""The EM problem of rows, wherever they are stored and computed."""

from functools import partial

from skgen.mixture._device import DeviceExpectation, device_problem, place_of
from skgen.mixture._problem import AbstractProblem, Problem
from skgen.mixture._products import pays, products_of
from skgen.mixture._statistics import Family


def problem_of(table, whitening, covariance, floor, device="cpu"):
    """Return the EM problem of the rows of a table in whitened coordinates."""
    if not table.in_memory:
        return TableProblem(table, whitening, covariance, floor, device)
    rows, rest = (table.X, table.sample_weight), (whitening, covariance, floor)
    place = place_of(device, table.dtype)
    if place is not None:
        return device_problem(*rows, *rest, place)
    return problem_in_memory(*rows, *rest)


class TableProblem(AbstractProblem):
    """EM problem of the rows of a table, which are whitened block by block."""

    def __init__(self, table, whitening, covariance, floor, device):
        products = products_of(covariance)
        products = products if pays(products, table.n_features) else None
        self.table, self.whitening = table, whitening
        self.family = Family(covariance, products, floor, whitening.degenerate)
        self.place = place_of(device, table.dtype)
        if self.place is not None:
            self.precision = self.place.precision

    def expectation(self, parameters, loss, moved):
        if self.place is None:
            return super().expectation(parameters, loss, moved)
        # Blocks are copied to the device one by one.
        rest = self.family, loss, moved
        return DeviceExpectation(parameters, *rest, place=self.place)

    def sums(self, expectation):
        return self.table.total(
            partial(_whitened_sums, whitening=self.whitening, expectation=expectation)
        )


def problem_in_memory(X, sample_weight, whitening, covariance, floor):
    """Return the EM problem of rows in memory, given in the units of the data."""
    rows = whitening.whiten(X), sample_weight
    return Problem(*rows, covariance, floor, whitening.degenerate)


def _whitened_sums(X, sample_weight, *, whitening, expectation):
    return expectation.sums(whitening.whiten(X), sample_weight)
