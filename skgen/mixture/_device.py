"""The E-step on a device by PyTorch: large chunks, and one synchronisation per pass.

`Expectation` decides what is summed, and which components use products or differences,
as it does for NumPy; `_device_sums` computes the sums. float32 has its own limits
(`_precision`).
"""

import contextlib
from dataclasses import dataclass

import numpy as np

from skgen._lazy import is_installed, lazy_module
from skgen._torch import resolved_device, without_tf32
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

torch = lazy_module("torch", "The 'device' parameter")


@dataclass(frozen=True)
class Place:
    """A backend: a PyTorch device and the floating-point type of the rows on it."""

    device: object  # torch.device
    single: bool  # float32

    @property
    def precision(self):
        """Return the numerical limits of the floating-point type."""
        return SINGLE if self.single else DOUBLE

    @property
    def dtype(self):
        """Return the NumPy type of the rows."""
        return np.float32 if self.single else np.float64

    @property
    def _adds_on_cpu(self):
        # MPS has no float64.
        return self.device.type == "mps"

    def tensor(self, array, device=None):
        """Return an array as a tensor of the type of the rows."""
        array = np.ascontiguousarray(array, dtype=self.dtype)
        return torch.as_tensor(array, device=device or self.device)

    def rounded(self, array):
        """Return an array, rounded to the type of the rows, in float64."""
        return np.asarray(array, dtype=self.dtype).astype(np.float64)

    def indices(self, array):
        """Return an array of integers as a tensor."""
        return torch.as_tensor(array, device=self.device)

    def wide(self, array):
        """Return an array as a float64 tensor for sums."""
        device = "cpu" if self._adds_on_cpu else self.device
        return torch.tensor(array, dtype=torch.float64, device=device)

    def total(self, tensor, dim):
        """Return the sum over a tuple of dimensions in float64."""
        if self._adds_on_cpu:
            if tensor.ndim - 1 in dim:  # the rows of a block
                tensor = tensor.sum(dim=-1, keepdim=True)
            tensor = tensor.cpu()
        return tensor.sum(dim=dim, dtype=torch.float64)

    def arithmetic(self):
        """Return a context that disables TF32, which has three digits."""
        cuda = self.single and self.device.type == "cuda"
        return without_tf32() if cuda else contextlib.nullcontext()


def place_of(name, dtype):
    """Return the `Place` for rows of a type, or None to use NumPy."""
    if name == "cpu":  # PyTorch is not needed
        return None
    device = usable_device(name)
    if device is None:
        return None
    return Place(device, dtype == np.float32 or device.type == "mps")


def usable_device(name):
    """Return the device of a name, or None for the CPU and unavailable devices."""
    if not is_installed("torch"):
        return None
    device = resolved_device(name)
    if device.type == "cuda" and torch.cuda.is_available():
        exists = (device.index or 0) < torch.cuda.device_count()
        return device if exists else None
    if device.type == "mps" and torch.backends.mps.is_available():
        return device
    return None


class DeviceExpectation(Expectation):
    """The E-step of one pass on a device."""

    def __init__(self, parameters, family, loss, moved=None, *, place):
        self.place, self.precision = place, place.precision
        self.moved = moved is not None
        super().__init__(parameters, family, loss, moved)
        # Rounded to the values that the device subtracts.
        self.moments.origins = self.place.rounded(self.moments.origins)

    def sums(self, X, sample_weight):
        """Return the `Sums` of rows (n, d) with weights (n,), moved to the device."""
        if not np.abs(X).max() < self.precision.range:
            return super().sums(X, sample_weight)
        return self.sums_of(DeviceRows(lambda rows: X[rows], sample_weight, self.place))

    def sums_of(self, rows):
        """Return the `Sums` of `DeviceRows`."""
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
        """Add all rows to the moments, without synchronisation.

        Returns the log-likelihood, and the lowest log-density with its row number.
        """
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
            log_density.masked_fill_(weights == 0, torch.inf)  # padding
            worst = log_density.flatten().min(dim=0)
            least.append(worst.values)
            where.append(worst.indices + start * rows.c)
        worst = torch.stack(least).min(dim=0)
        where = torch.stack(where).index_select(0, worst.indices[None])
        return total, (worst.values, where)


def in_one_transfer(scalars, *sums):
    """Return scalars and sums as floats and NumPy arrays, in one synchronisation."""
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
    """Whitened rows on a device."""

    def __init__(self, rows, family, place):
        self.rows, self.family, self.place = rows, family, place
        self.precision = place.precision

    def expectation(self, parameters, loss, moved):
        family, place = self.family, self.place
        return DeviceExpectation(parameters, family, loss, moved, place=place)

    def sums(self, expectation):
        return expectation.sums_of(self.rows)


def device_problem(X, sample_weight, whitening, covariance, floor, place):
    """Return the problem on a device for rows (n, d) in the units of the data."""

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
