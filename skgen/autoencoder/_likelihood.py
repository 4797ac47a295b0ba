r"""What a decoder says of a row: :math:`p(x | z)`, a product over the features.

Every likelihood is an exponential family in each feature. With the output `a` of the
decoder and natural parameters :math:`\eta = s a`,

.. math:: \log p(x | a) = \sum_j x_j \eta_j - A(\eta_j) + h(x_j),

so that its slope in `a` is :math:`s (x - E[x | a])` and its Fisher information is
:math:`s^2 \operatorname{var}(x | a)`.
"""

import math
from abc import abstractmethod

import torch

# Below this the formulas of the continuous Bernoulli cancel and a series serves: its
# next term is less than rounding to float64.
_SERIES = 0.1

# Of the mean over the batches that a variance follows, the weight of the last.
_FOLLOW = 0.02


def gaussian_log_density(x, mean, variance):
    """Return the log-density of rows under independent normal features.

    Parameters
    ----------
    x, mean : torch.Tensor of shape (..., d)
        The rows and their means.
    variance : torch.Tensor of shape (d,)
        The variances.

    Returns
    -------
    torch.Tensor of shape (...)
    """
    squares = ((x - mean).square() / variance).sum(-1)  # (...)
    return -0.5 * (squares + variance.log().sum() + x.shape[-1] * math.log(2 * math.pi))


def bernoulli_log_density(x, logits):
    """Return the log-probability of rows of zeros and ones, of shape (..., d).

    Values between 0 and 1 give the mean over rows of zeros and ones that they are
    the probabilities of.
    """
    return (x * logits - torch.nn.functional.softplus(logits)).sum(-1)


def continuous_bernoulli_log_density(x, logits):
    """Return the log-density of rows in [0, 1], of shape (..., d)."""
    return (x * logits - continuous_bernoulli_log_normalizer(logits)).sum(-1)


def continuous_bernoulli_log_normalizer(logits):
    r"""Return :math:`\log \int_0^1 e^{\eta x} dx = \log ((e^\eta - 1) / \eta)`."""
    size, near = _apart(logits)
    far = logits.clamp(min=0) + torch.log(-torch.expm1(-size) / size)
    square = logits.square()
    series = logits / 2 + square / 24 * (
        1 - square / 120 * (1 - square / 63 * (1 - square * 3 / 160))
    )
    return torch.where(near, series, far)


def continuous_bernoulli_mean(logits):
    r"""Return :math:`E[x] = 1 / (1 - e^{-\eta}) - 1 / \eta`."""
    size, near = _apart(logits)
    signed = torch.where(logits < 0, -size, size)
    decay = torch.exp(-size)
    far = torch.where(logits < 0, decay, -1.0) / torch.expm1(-size) - 1 / signed
    square = logits.square()
    series = 0.5 + logits / 12 * (
        1 - square / 60 * (1 - square / 42 * (1 - square / 40))
    )
    return torch.where(near, series, far)


def continuous_bernoulli_variance(logits):
    r"""Return :math:`\mathrm{var}(x) = 1 / \eta^2 - 1 / (4 \sinh^2(\eta / 2))`."""
    size, near = _apart(logits)
    decay = torch.exp(-size)
    far = size**-2 - decay / torch.expm1(-size).square()
    square = logits.square()
    series = (1 - square / 20 * (1 - square * 5 / 126 * (1 - square * 7 / 200))) / 12
    return torch.where(near, series, far)


def _apart(logits):
    """Return |logits| kept away from 0, and where they are near it."""
    near = logits.abs() < _SERIES
    # Not only the value but the gradient of what is not chosen must be finite.
    return torch.where(near, torch.ones_like(logits), logits.abs()), near


class AbstractLikelihood(torch.nn.Module):
    """A family of densities of rows given outputs of a decoder.

    Abstract: a family fills in the hooks below; `a` is an output of the decoder and
    `x` are rows, both of shape (..., d) and in the coordinates of the module.
    """

    @abstractmethod
    def log_density(self, x, a):
        """Return log p(x | a): (...)."""

    @abstractmethod
    def mean(self, a):
        """Return E[x | a]: (..., d)."""

    @abstractmethod
    def information(self, a):
        """Return the Fisher information of `a`: (..., d)."""

    @abstractmethod
    def slope(self, x, a):
        """Return the gradient of log p(x | a) in `a`: (..., d)."""

    @abstractmethod
    def natural(self, a):
        """Return natural parameters (..., d) and the log-normaliser (...)."""

    @abstractmethod
    def base(self, x):
        """Return the part of log p(x | a) that no `a` changes: (...)."""

    @abstractmethod
    def draw(self, a, rng):
        """Return a draw from p(x | a): (..., d) as an array."""

    def seen(self, x, generator):
        """Return the rows as training sees them."""
        return x

    def follow(self, x, a):
        """Take account of a batch of rows in training."""


class Gaussian(AbstractLikelihood):
    """Normal features about the output, with variances of their own.

    Parameters
    ----------
    d : int
        The number of features.
    shared : bool
        Whether one variance serves all features.
    floor : float
        The least variance.
    learned : bool
        Whether the variances follow the residuals while the network trains; else
        they stay 1, which makes the loss half the sum of squares.
    """

    def __init__(self, d, shared, floor, learned):
        super().__init__()
        self.shared, self.floor, self.learned = shared, floor, learned
        self.register_buffer("variance", torch.ones(d))
        self.register_buffer("n_followed", torch.zeros(()))

    def set_variance(self, variance):
        """Set the variances from residuals: their mean where one is shared."""
        if self.shared:
            variance = variance.mean().expand(self.variance.shape)
        self.variance.copy_(variance.clamp(min=self.floor))

    def follow(self, x, a):
        if not (self.learned and self.training):
            return
        with torch.no_grad():
            squares = (x - a).square().flatten(0, -2).mean(0)  # (d,)
            self.n_followed += 1
            # The mean of the first batches, then of the last ones.
            share = (1 / self.n_followed).clamp(min=_FOLLOW)
            self.set_variance(torch.lerp(self.variance, squares, share))

    def log_density(self, x, a):
        return gaussian_log_density(x, a, self.variance)

    def mean(self, a):
        return a

    def information(self, a):
        return (1 / self.variance).expand(a.shape)

    def slope(self, x, a):
        return (x - a) / self.variance

    def natural(self, a):
        eta = a / self.variance
        return eta, 0.5 * (a * eta).sum(-1)

    def base(self, x):
        return gaussian_log_density(x, torch.zeros_like(x), self.variance)

    def draw(self, a, rng):
        a = a.cpu().numpy()
        return a + self.variance.sqrt().cpu().numpy() * rng.standard_normal(a.shape)


class Bernoulli(AbstractLikelihood):
    """Zeros and ones, whose logits are the output.

    Rows between 0 and 1 are the probabilities of ones: training draws zeros and ones
    from them anew in every step.
    """

    def seen(self, x, generator):
        noise = torch.empty_like(x).uniform_(generator=generator)
        return (noise < x).to(x.dtype)

    def log_density(self, x, a):
        return bernoulli_log_density(x, a)

    def mean(self, a):
        return torch.sigmoid(a)

    def information(self, a):
        p = torch.sigmoid(a)
        return p * (1 - p)

    def slope(self, x, a):
        return x - torch.sigmoid(a)

    def natural(self, a):
        return a, torch.nn.functional.softplus(a).sum(-1)

    def base(self, x):
        return torch.zeros_like(x[..., 0])

    def draw(self, a, rng):
        p = self.mean(a).cpu().numpy()
        return (rng.uniform(size=p.shape) < p).astype(p.dtype)


class ContinuousBernoulli(AbstractLikelihood):
    """Features in [0, 1] with an exponential density, whose slope is the output."""

    def log_density(self, x, a):
        return continuous_bernoulli_log_density(x, a)

    def mean(self, a):
        return continuous_bernoulli_mean(a)

    def information(self, a):
        return continuous_bernoulli_variance(a)

    def slope(self, x, a):
        return x - continuous_bernoulli_mean(a)

    def natural(self, a):
        return a, continuous_bernoulli_log_normalizer(a).sum(-1)

    def base(self, x):
        return torch.zeros_like(x[..., 0])

    def draw(self, a, rng):
        a = a.cpu()
        u = torch.from_numpy(rng.uniform(size=tuple(a.shape))).to(a.dtype)
        size, near = _apart(a)
        # The inverse of the distribution function; mirrored for negative slopes.
        u = torch.where(a < 0, 1 - u, u)
        x = 1 + torch.log(u + (1 - u) * torch.exp(-size)) / size
        x = torch.where(a < 0, 1 - x, x)
        # To second order in the slope where that is near 0.
        v = torch.where(a < 0, 1 - u, u)
        flat = v + v * (v - 1) / 2 * -a + a**2 * v * (v - 1) * (2 * v - 1) / 6
        return torch.where(near, flat, x).clamp(0, 1).numpy()
