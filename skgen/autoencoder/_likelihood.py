r"""Likelihoods :math:`p(x | z)` of rows given the output of a decoder.

Every likelihood is a product over the features of an exponential family. With the
decoder's output `a` and natural parameters :math:`\eta = s a`,

.. math:: \log p(x | a) = \sum_j x_j \eta_j - A(\eta_j) + h(x_j).

Its gradient in `a` is :math:`s (x - E[x | a])`, and its Fisher information is
:math:`s^2 \operatorname{var}(x | a)`.
"""

import math
from abc import abstractmethod

import torch

# Below this, the formulas of the continuous Bernoulli suffer from cancellation and are
# replaced by series. The first omitted term is smaller than the rounding error of
# float64.
_SERIES = 0.1

# Weight of the last batch in the running mean of the noise variances.
_FOLLOW = 0.02


def gaussian_log_density(x, mean, variance):
    """Return log N(x; mean, diag(variance)): (...). x, mean: (..., d)."""
    squares = ((x - mean).square() / variance).sum(-1)  # (...)
    return -0.5 * (squares + variance.log().sum() + x.shape[-1] * math.log(2 * math.pi))


def mean_of_observed(values, observed, otherwise, shared, weight=None):
    """Return the means (d,) of values (..., n, d) over the observed entries (n, d).

    Rows have weights (n,), by default 1. Features without an observed entry have the
    mean `otherwise` (d,). If `shared`, the mean is over all features.
    """
    each = observed if weight is None else observed * weight[:, None]  # (n, d)
    counts = each.expand(values.shape).flatten(0, -2).sum(0)  # (d,)
    totals = (each * torch.where(observed, values, 0)).flatten(0, -2).sum(0)
    if shared:
        counts, totals = counts.sum().expand(counts.shape), totals.sum()
    means = totals / torch.where(counts > 0, counts, 1)
    return torch.where(counts > 0, means, otherwise)


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
    """Return the absolute logits, with 1 near 0, and the mask of logits near 0."""
    near = logits.abs() < _SERIES
    # torch.where needs finite gradients in the branch that is not chosen.
    return torch.where(near, torch.ones_like(logits), logits.abs()), near


class AbstractLikelihood(torch.nn.Module):
    """Abstract likelihood of rows x (..., d) given decoder outputs a (..., d)."""

    @abstractmethod
    def log_density(self, x, a):
        """Return log p(x | a): (...)."""

    @abstractmethod
    def terms(self, x, a):
        """Return log p(x_j | a) of each feature: (..., d)."""

    @abstractmethod
    def mean(self, a):
        """Return E[x | a]: (..., d)."""

    @abstractmethod
    def information(self, a):
        """Return the Fisher information in `a`: (..., d)."""

    def curvature(self, x, a):
        """Return the information in `a` of rows x: (..., d)."""
        return self.information(a)

    @abstractmethod
    def slope(self, x, a):
        """Return the gradient of log p(x | a) in `a`: (..., d)."""

    def statistics(self, x):
        """Return the features that `natural` returns parameters of: (..., d)."""
        return x

    @abstractmethod
    def natural(self, a):
        """Return the natural parameters (..., d) and the log-normaliser (...)."""

    @abstractmethod
    def natural_terms(self, a):
        """Return natural parameters and log-normalisers of the features: (..., d)."""

    @abstractmethod
    def base(self, x):
        """Return the part of log p(x | a) that does not depend on `a`: (...)."""

    @abstractmethod
    def draw(self, a, rng):
        """Return a draw from p(x | a) as an ndarray (..., d)."""

    def seen(self, x, generator):
        """Return the rows for a training step."""
        return x

    def follow(self, x, a, weight=None, observed=None):
        """Update parameters of the noise from a training batch.

        weight: (n,) of the rows; observed: (n, d) mask of the features to use.
        """


class Gaussian(AbstractLikelihood):
    """Normal features with mean `a` and variances of at least `floor`.

    `shared` means one variance for all features. If `learned`, the variances follow the
    residuals in training; otherwise they are 1, and the loss is half the squared error.
    """

    def __init__(self, d, shared, floor, learned):
        super().__init__()
        self.shared, self.floor, self.learned = shared, floor, learned
        self.register_buffer("variance", torch.ones(d))
        self.register_buffer("n_followed", torch.zeros(()))

    def set_variance(self, variance):
        """Set the variances to `variance` (d,), or to its mean if they are shared."""
        if self.shared:
            variance = variance.mean().expand(self.variance.shape)
        self.variance.copy_(variance.clamp(min=self.floor))

    def follow(self, x, a, weight=None, observed=None):
        if not (self.learned and self.training):
            return
        with torch.no_grad():
            squares = self.mean_square((x - a).square(), observed, weight)
            self.n_followed += 1
            # Equal weights for the first batches, exponential weights afterwards.
            share = (1 / self.n_followed).clamp(min=_FOLLOW)
            self.set_variance(torch.lerp(self.variance, squares, share))

    def mean_square(self, squares, observed=None, weight=None):
        """Return the mean (d,) of squared residuals (..., n, d) for `set_variance`.

        It is over the entries of the mask `observed` (n, d), with weights (n,), and
        stays the variance where there are none.
        """
        if observed is None or observed.all():
            if weight is not None:
                return weight @ squares / weight.sum()
            return squares.flatten(0, -2).mean(0)
        return mean_of_observed(squares, observed, self.variance, self.shared, weight)

    def log_density(self, x, a):
        return gaussian_log_density(x, a, self.variance)

    def terms(self, x, a):
        squares = (x - a).square() / self.variance
        return -0.5 * (squares + (2 * math.pi * self.variance).log())

    def mean(self, a):
        return a

    def information(self, a):
        return (1 / self.variance).expand(a.shape)

    def slope(self, x, a):
        return (x - a) / self.variance

    def natural(self, a):
        eta = a / self.variance
        return eta, 0.5 * (a * eta).sum(-1)

    def natural_terms(self, a):
        eta = a / self.variance
        return eta, 0.5 * a * eta

    def base(self, x):
        return gaussian_log_density(x, torch.zeros_like(x), self.variance)

    def draw(self, a, rng):
        a = a.cpu().numpy()
        return a + self.variance.sqrt().cpu().numpy() * rng.standard_normal(a.shape)


class UnitFamily(AbstractLikelihood):
    """Abstract likelihood of features in [0, 1], proportional to exp(a x).

    Subclasses implement `log_normalizer`, whose derivatives are `mean` and
    `information`, and `draw`.
    """

    @abstractmethod
    def cdf(self, x, a):
        """Return P(x' <= x) of a feature given its decoder outputs a: as `a`."""

    @abstractmethod
    def log_normalizer(self, a):
        """Return the log-normaliser of each feature: (..., d)."""

    def log_density(self, x, a):
        return self.terms(x, a).sum(-1)

    def terms(self, x, a):
        return x * a - self.log_normalizer(a)

    def slope(self, x, a):
        return x - self.mean(a)

    def natural(self, a):
        return a, self.log_normalizer(a).sum(-1)

    def natural_terms(self, a):
        return a, self.log_normalizer(a)

    def base(self, x):
        return torch.zeros_like(x[..., 0])


class Bernoulli(UnitFamily):
    """Zeros and ones with logits `a`.

    The log-density of a value between 0 and 1 is a mean over zeros and ones of that
    probability. In training, each step draws zeros and ones.
    """

    def seen(self, x, generator):
        noise = torch.empty_like(x).uniform_(generator=generator)
        return (noise < x).to(x.dtype)

    def cdf(self, x, a):
        if x >= 1:
            return torch.ones_like(a)
        return torch.sigmoid(-a) if x >= 0 else torch.zeros_like(a)

    def log_normalizer(self, a):
        return torch.nn.functional.softplus(a)

    def mean(self, a):
        return torch.sigmoid(a)

    def information(self, a):
        p = torch.sigmoid(a)
        return p * (1 - p)

    def draw(self, a, rng):
        p = self.mean(a).cpu().numpy()
        return (rng.uniform(size=p.shape) < p).astype(p.dtype)


class ContinuousBernoulli(UnitFamily):
    """Features in [0, 1] with a density proportional to exp(a x)."""

    def cdf(self, x, a):
        x = min(max(x, 0.0), 1.0)
        if x == 0:
            return torch.zeros_like(a)
        # The integral up to x is x times the normaliser of the slope x a.
        log_integral = math.log(x) + continuous_bernoulli_log_normalizer(x * a)
        return torch.exp(log_integral - continuous_bernoulli_log_normalizer(a))

    def log_normalizer(self, a):
        return continuous_bernoulli_log_normalizer(a)

    def mean(self, a):
        return continuous_bernoulli_mean(a)

    def information(self, a):
        return continuous_bernoulli_variance(a)

    def draw(self, a, rng):
        a = a.cpu()
        u = torch.from_numpy(rng.uniform(size=tuple(a.shape))).to(a.dtype)
        size, near = _apart(a)
        # Inverse distribution function, mirrored for negative logits.
        u = torch.where(a < 0, 1 - u, u)
        x = 1 + torch.log(u + (1 - u) * torch.exp(-size)) / size
        x = torch.where(a < 0, 1 - x, x)
        # Series to second order for logits near 0.
        v = torch.where(a < 0, 1 - u, u)
        series = v + v * (v - 1) / 2 * -a + a**2 * v * (v - 1) * (2 * v - 1) / 6
        return torch.where(near, series, x).clamp(0, 1).numpy()


# Features are independent given the latent, so log p(x_o | a) is the sum of the terms
# of the observed features. With s = (x_o, 1_o), 0 for missing features, it is
# s . (eta, -A(eta)) + h(x_o), one matrix product for rows of all patterns.
class Observed:
    """A likelihood of the observed features of rows, which have NaN for the others."""

    def __init__(self, likelihood):
        self.of_features = likelihood

    def log_density(self, x, a):
        """Return log p(x_o | a): (...)."""
        observed, x = _split(x)
        return torch.where(observed, self.of_features.terms(x, a), 0).sum(-1)

    def mean(self, a):
        """Return E[x | a] of all features: (..., d)."""
        return self.of_features.mean(a)

    def curvature(self, x, a):
        """Return the information in `a`, which is 0 for missing features: (..., d)."""
        return torch.where(x.isnan(), 0, self.of_features.information(a))

    def slope(self, x, a):
        """Return the gradient of log p(x_o | a) in `a`: (..., d)."""
        observed, x = _split(x)
        return torch.where(observed, self.of_features.slope(x, a), 0)

    def statistics(self, x):
        """Return the features and the mask: (..., 2 d)."""
        observed, x = _split(x)
        return torch.cat([x, observed.to(x.dtype)], dim=-1)

    def natural(self, a):
        """Return the natural parameters (..., 2 d) and a log-normaliser of 0 (...)."""
        eta, log_normalizer = self.of_features.natural_terms(a)
        return torch.cat([eta, -log_normalizer], dim=-1), torch.zeros_like(a[..., 0])

    def base(self, x):
        """Return the part of log p(x_o | a) that does not depend on `a`: (...)."""
        observed, x = _split(x)
        zero = torch.zeros_like(x)  # whose natural parameter is 0
        base = self.of_features.terms(x, zero) + self.of_features.natural_terms(zero)[1]
        return torch.where(observed, base, 0).sum(-1)

    def seen(self, x, generator):
        """Return the rows for a training step."""
        return torch.where(x.isnan(), x, self.of_features.seen(x, generator))

    def follow(self, x, a, weight=None):
        """Update parameters of the noise from a training batch, with weights (n,)."""
        self.of_features.follow(x, a, weight, ~x.isnan())


def _split(x):
    """Return the mask of observed features, and rows with 0 for NaN: (..., d)."""
    observed = ~x.isnan()
    return observed, torch.where(observed, x, 0)
