"""EM's pass over rows on a device, by PyTorch: large chunks, and one answer a pass.

What is summed, and what goes by products or by differences, is what `Expectation` says
for NumPy; `_device_sums` computes it. float32 has limits of its own (`_precision`).
"""

import contextlib
from dataclasses import dataclass

import numpy as np

from skgen._tensors import resolved_device, without_tf32
from skgen.mixture._device_rounding import left_out
from skgen.mixture._device_rows import DeviceRows
from skgen.mixture._device_sums import (
    DeviceJoint,
    DeviceMoments,
    blocks_in_chunk,
    normalised,
)
from skgen.mixture._joint import MOST_SPREAD
from skgen.mixture._precision import DOUBLE, SINGLE
from skgen.mixture._problem import AbstractProblem, Problem
from skgen.mixture._products import pays, products_of
from skgen.mixture._statistics import Expectation, Family, Sums


@dataclass(frozen=True)
class Place:
    """A device and the arithmetic on it."""

    device: object  # of PyTorch
    single: bool

    @property
    def precision(self):
        return SINGLE if self.single else DOUBLE

    @property
    def dtype(self):
        """Return the type of the rows as NumPy names it."""
        return np.float32 if self.single else np.float64

    @property
    def _adds_on_cpu(self):
        # Apple's devices have no float64.
        return self.device.type == "mps"

    def tensor(self, array, device=None):
        """Return an array in the arithmetic of the device, there or elsewhere."""
        import torch

        array = np.ascontiguousarray(array, dtype=self.dtype)
        return torch.as_tensor(array, device=device or self.device)

    def rounded(self, array):
        """Return an array with the digits that it has on the device, in float64."""
        return np.asarray(array, dtype=self.dtype).astype(np.float64)

    def indices(self, array):
        """Return whole numbers on the device."""
        import torch

        return torch.as_tensor(array, device=self.device)

    def wide(self, array):
        """Return an array as a tensor to add sums to."""
        import torch

        device = "cpu" if self._adds_on_cpu else self.device
        return torch.tensor(array, dtype=torch.float64, device=device)

    def total(self, tensor, dim):
        """Return the sum along dimensions (a tuple) in float64."""
        import torch

        if self._adds_on_cpu:
            if tensor.ndim - 1 in dim:  # the rows of a block
                tensor = tensor.sum(dim=-1, keepdim=True)
            tensor = tensor.cpu()
        return tensor.sum(dim=dim, dtype=torch.float64)

    def arithmetic(self):
        """Return a context of full float32: TF32 has three digits."""
        cuda = self.single and self.device.type == "cuda"
        return without_tf32() if cuda else contextlib.nullcontext()


def place_of(name, dtype):
    """Return where to sum over rows of a type; None is the CPU, by NumPy."""
    if name == "cpu":  # PyTorch is not loaded for nothing
        return None
    device = usable_device(name)
    if device is None:
        return None
    return Place(device, dtype == np.float32 or device.type == "mps")


def usable_device(name):
    """Return the device of a name; None for the CPU, and where it is missing."""
    import torch

    device = resolved_device(name)
    if device.type == "cuda" and torch.cuda.is_available():
        return device
    if device.type == "mps" and torch.backends.mps.is_available():
        return device
    return None


class DeviceExpectation(Expectation):
    """What to sum of every row in an E-step, on a device.

    Parameters
    ----------
    parameters, family, loss, moved
        As `Expectation` takes them; `loss` is a multiple of the device's rounding.
    place : Place
        Where, and in what arithmetic.
    """

    def __init__(self, parameters, family, loss, moved=None, *, place):
        self.place, self.precision = place, place.precision
        self.moved = moved is not None
        super().__init__(parameters, family, loss, moved)
        # What the device subtracts, to the digit.
        self.moments.origins = self.place.rounded(self.moments.origins)

    def sums(self, X, sample_weight):
        """Return the sums over rows (n, d) of weights (n,), which go to the device."""
        if not np.abs(X).max() < self.precision.range:
            return super().sums(X, sample_weight)
        return self.sums_of(DeviceRows(lambda rows: X[rows], sample_weight, self.place))

    def sums_of(self, rows):
        """Return the sums over rows that are on the device."""
        with self.place.arithmetic():
            moments = DeviceMoments(self.moments, self.place)
            joint = DeviceJoint(self.joint, self.place)
            total, lowest = self._added(rows, joint, moments)
        (log_likelihood, least, where), *sums = in_one_transfer(
            [total, *lowest], *moments.sums
        )
        sums = moments.ordered(sums)
        if self.place.single and not self.moved:
            log_likelihood += left_out(self, sums)
        row, weight = rows.row(int(where))
        return Sums(sums, log_likelihood, rows.weight, least, row, weight)

    def _added(self, rows, joint, moments):
        """Add all rows to the moments, without waiting for the device.

        Returns the log-likelihood, and the least log-density and its row.
        """
        import torch

        place, products = self.place, self.moments.products
        total, least, where = torch.zeros_like(moments.sums[0][0]), [], []
        size = blocks_in_chunk(rows.d, joint.K, products, rows.c, rows.X.itemsize)
        for start, X, weights in rows.chunks(size):
            F = None if products is None else joint.features(X)
            r = joint(X, F)  # (s, K, c)
            log_density, norm = normalised(r)
            r *= weights[:, None] / norm
            moments.add(X, F, r)
            total += place.total(weights * log_density, (0, 1))
            log_density.masked_fill_(weights == 0, torch.inf)  # rows that fill a block
            worst = log_density.flatten().min(dim=0)
            least.append(worst.values)
            where.append(worst.indices + start * rows.c)
        worst = torch.stack(least).min(dim=0)
        where = torch.stack(where).index_select(0, worst.indices[None])
        return total, (worst.values, where)


def in_one_transfer(scalars, *sums):
    """Return scalars and sums on the device as NumPy's, waiting once."""
    import torch

    device = sums[0].device
    parts = [value.reshape(1).to(device).to(torch.float64) for value in scalars]
    parts += [array.flatten() for array in sums]
    sizes = np.cumsum([part.numel() for part in parts])[:-1]
    values = np.split(torch.cat(parts).cpu().numpy(), sizes)
    arrays = [
        part.reshape(array.shape)
        for part, array in zip(values[len(scalars) :], sums, strict=True)
    ]
    return [float(value[0]) for value in values[: len(scalars)]], *arrays


class DeviceProblem(AbstractProblem):
    """Rows in whitened coordinates that are on a device.

    Parameters
    ----------
    rows : DeviceRows
        The rows.
    family : Family
        What to fit to them.
    place : Place
        Where they are, and in what arithmetic.
    """

    def __init__(self, rows, family, place):
        self.rows, self.family, self.place = rows, family, place
        self.precision = place.precision

    def expectation(self, parameters, loss, moved):
        family, place = self.family, self.place
        return DeviceExpectation(parameters, family, loss, moved, place=place)

    def sums(self, expectation):
        return expectation.sums_of(self.rows)


def device_problem(X, sample_weight, whitening, covariance, floor, place):
    """Return rows in memory, in the units of the data, as a problem on a device."""

    def white(rows):
        return whitening.whiten(X[rows])

    rows = DeviceRows(white, sample_weight, place)
    if place.single and not rows.largest < SINGLE.range:
        if place.device.type == "mps":
            white = whitening.whiten(X), sample_weight
            return Problem(*white, covariance, floor, whitening.degenerate)
        place = Place(place.device, single=False)
        rows = DeviceRows(white, sample_weight, place)
    products = products_of(covariance)
    if not (rows.largest < MOST_SPREAD and pays(products, rows.d)):
        products = None
    family = Family(covariance, products, floor, whitening.degenerate)
    return DeviceProblem(rows, family, place)
