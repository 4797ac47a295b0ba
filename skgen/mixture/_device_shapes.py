"""What products and differences are for each shape of covariances, on a device.

Rows are columns in blocks: a chunk has the shape (s, d, c), its features (s, p, c) and
its shares (s, m, c). Sums are of type float64.
"""

from abc import ABC, abstractmethod

import numpy as np

from skgen.mixture._covariance import Diagonal, Full, Spherical, Tied
from skgen.mixture._products import pairs


class AbstractDeviceShape(ABC):
    """One shape of covariances, as `AbstractCovariance` and `AbstractProducts` have it.

    Abstract: what they compute of rows is filled in.
    """

    @abstractmethod
    def fill(self, F, d, factors):
        """Fill in the features (s, p, c) after the first 1 + d."""

    def order(self, d):
        """Return which of NumPy's features each of these is: an index for (p,)."""
        return slice(None)

    @abstractmethod
    def standardise(self, difference, factors, k):
        """Return the chunk of differences (s, d, c) in units of component `k`."""

    @abstractmethod
    def add_scatter(self, scatter, k, weighted, difference, place):
        """Add the second moments of differences, once weighted and once not."""

    def add_products(self, sums, F, r, d, place):
        """Add rows of features F and weighted shares r to the sums of products."""
        # A block is one product: rounding grows with c, not with the rows, and blocks
        # keep a GPU busy that one small answer would not.
        sums[0] += place.total(_inner(F, r), (0,))  # (p, m)


class FullOnDevice(AbstractDeviceShape):
    """As `Full` and `FullProducts`."""

    def fill(self, F, d, factors):
        import torch

        start = 1 + d
        for i in range(d):
            rest = F[:, 1 + i : 1 + d]
            torch.mul(F[:, 1 + i, None], rest, out=F[:, start : start + d - i])
            start += d - i

    def order(self, d):
        # By rows of the upper triangle: squares before all else, which the rest then
        # takes back, cost a digit of float32.
        i, j = pairs(d)
        products = np.lexsort((np.maximum(i, j), np.minimum(i, j)))
        return np.concatenate([np.arange(1 + d), 1 + d + products])

    def standardise(self, difference, factors, k):
        return product(factors[k].T, difference)

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter[k] += place.total(_inner(weighted, difference), (0,))


class TiedOnDevice(AbstractDeviceShape):
    """As `Tied` and `TiedProducts`."""

    def fill(self, F, d, factors):
        import torch

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
    """As `Diagonal` and `DiagonalProducts`."""

    def fill(self, F, d, factors):
        import torch

        torch.square(F[:, 1 : 1 + d], out=F[:, 1 + d :])

    def standardise(self, difference, factors, k):
        return difference * factors[k, :, None]

    def add_scatter(self, scatter, k, weighted, difference, place):
        scatter[k] += place.total(weighted * difference, (0, 2))


class SphericalOnDevice(AbstractDeviceShape):
    """As `Spherical` and `SphericalProducts`."""

    def fill(self, F, d, factors):
        import torch

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
    """Return what a shape of covariances is on a device."""
    return _SHAPES[type(covariance)]


def product(matrix, chunk):
    """Return a matrix (m, p) times every block of a chunk (s, p, c): (s, m, c)."""
    import torch

    return torch.bmm(matrix.expand(chunk.shape[0], -1, -1), chunk)


def _inner(a, b):
    """Return the products of blocks (s, p, c) and (s, m, c) over rows: (s, p, m)."""
    import torch

    return torch.bmm(a, b.transpose(1, 2))
