"""Products and differences for each covariance type, on a device.

Rows are columns in blocks: a chunk has the shape (s, d, c), its features (s, p, c) and
its responsibilities (s, m, c). Sums are float64.
"""

from abc import ABC, abstractmethod

import numpy as np

from skgen._lazy import lazy_module
from skgen.mixture._covariance import Diagonal, Full, Spherical, Tied
from skgen.mixture._products import pairs

torch = lazy_module("torch", "The 'device' parameter")


class AbstractDeviceShape(ABC):
    """The parts of `AbstractCovariance` and `AbstractProducts` that process rows."""

    @abstractmethod
    def fill(self, F, d, factors):
        """Compute the features (s, p, c) after the first 1 + d, in place."""

    def order(self, d):
        """Return the position of each feature in the order of NumPy: an index (p,)."""
        return slice(None)

    @abstractmethod
    def standardise(self, difference, factors, k):
        """Return ``U_k^T`` times a chunk of differences (s, d, c)."""

    @abstractmethod
    def add_scatter(self, scatter, k, weighted, difference, place):
        """Add second moments of differences (s, d, c), weighted and plain, in place."""

    def add_products(self, sums, F, r, d, place):
        """Add features (s, p, c) with weighted responsibilities (s, m, c), in place."""
        # One product per block: rounding errors grow with c rather than the number of
        # rows, and the blocks occupy a GPU that one small product would not.
        sums[0] += place.total(_inner(F, r), (0,))  # (p, m)


class FullOnDevice(AbstractDeviceShape):
    """`Full` and `FullProducts` on a device."""

    def fill(self, F, d, factors):
        multiply, start = torch.mul, 1 + d
        for i in range(d):
            rest = F[:, 1 + i : 1 + d]
            multiply(F[:, 1 + i, None], rest, out=F[:, start : start + d - i])
            start += d - i

    def order(self, d):
        # By rows of the upper triangle. With all squares first, the other products
        # would cancel most of their sum, which costs a digit of float32.
        i, j = pairs(d)
        products = np.lexsort((np.maximum(i, j), np.minimum(i, j)))
        return np.concatenate([np.arange(1 + d), 1 + d + products])

    def standardise(self, difference, factors, k):
        return product(factors[k].T, difference)

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter[k] += place.total(_inner(weighted, difference), (0,))


class TiedOnDevice(AbstractDeviceShape):
    """`Tied` and `TiedProducts` on a device."""

    def fill(self, F, d, factors):
        y = product(factors.T, F[:, 1 : 1 + d])
        torch.sum(y.square_(), dim=1, out=F[:, 1 + d])

    def standardise(self, difference, factors, k):
        return product(factors.T, difference)

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter += place.total(_inner(weighted, difference), (0,))

    def add_products(self, sums, F, r, d, place):
        super().add_products(sums, F, r, d, place)
        z = F[:, 1 : 1 + d]
        sums[1] += place.total(_inner(z * r.sum(dim=1, keepdim=True), z), (0,))


class DiagonalOnDevice(AbstractDeviceShape):
    """`Diagonal` and `DiagonalProducts` on a device."""

    def fill(self, F, d, factors):
        torch.square(F[:, 1 : 1 + d], out=F[:, 1 + d :])

    def standardise(self, difference, factors, k):
        return difference * factors[k, :, None]

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter[k] += place.total(weighted * difference, (0, 2))


class SphericalOnDevice(AbstractDeviceShape):
    """`Spherical` and `SphericalProducts` on a device."""

    def fill(self, F, d, factors):
        torch.sum(F[:, 1 : 1 + d].square(), dim=1, out=F[:, 1 + d])

    def standardise(self, difference, factors, k):
        return difference * factors[k]

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter[k] += place.total(weighted * difference, (0, 1, 2))


_SHAPES = {
    Full: FullOnDevice(),
    Tied: TiedOnDevice(),
    Diagonal: DiagonalOnDevice(),
    Spherical: SphericalOnDevice(),
}


def on_device(covariance):
    """Return the `AbstractDeviceShape` of a covariance type."""
    return _SHAPES[type(covariance)]


def product(matrix, chunk):
    """Return a matrix (m, p) times every block of a chunk (s, p, c): (s, m, c)."""
    return torch.bmm(matrix.expand(chunk.shape[0], -1, -1), chunk)


def _inner(a, b):
    """Return the inner products over rows of (s, p, c) and (s, m, c): (s, p, m)."""
    return torch.bmm(a, b.transpose(1, 2))
