r"""Priors of latents, with normal components for the proposals of scoring.

A prior has an exact :math:`\log p(z)` and a mixture of normal densities that guides
proposals. The two are the same if the prior is such a mixture; otherwise the guide is a
normal density with the moments of the prior or of the codes.

A *latent* is the argument of the prior, and a *code* is the input of the decoder. They
differ for `Cube`, whose latents are normal and whose codes are uniform.
"""

import math

import numpy as np
import torch
from scipy import special

from skgen._interop import draw
from skgen._quasi_random import uniform_points

# Distance from the border of a bounded prior at which codes are clipped: a probability
# for `Cube`, a fraction of the width for `Ring`.
_BORDER = 1e-6

# Number of components near the best mode whose modes are searched as well, and maximum
# number of components for which Laplace's method is used.
_NEIGHBOURS, _FEW = 8, 32


def log_components(z, means, factors, log_scales):
    """Return the log-densities (n, C) of normal components at z (n, k).

    means: (C, k); factors: (C, k, k), of the precisions; log_scales: (C,).
    """
    centred = z - means[:, None]  # (C, n, k)
    squares = (centred @ factors).square().sum(-1)  # (C, n)
    return (log_scales[:, None] - 0.5 * squares).T


class NormalMixture:
    """Mixture of normal densities; weights (C,), means (C, k), precisions (C, k, k).

    Subclasses override the density and keep the components as a guide for proposals.
    """

    # Whether Laplace's method is valid, and whether `spread` is quasi-random.
    smooth = True
    spreads_evenly = True

    # Number of components near the best mode whose modes are searched as well.
    n_neighbours = 0

    def __init__(self, weights, means, precisions):
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.means = torch.as_tensor(means, dtype=torch.float64)
        self.precisions = torch.as_tensor(precisions, dtype=torch.float64)
        self.factors = torch.linalg.cholesky(self.precisions)  # (C, k, k)
        log_dets = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        k = self.means.shape[1]
        self.log_scales = (
            self.weights.log() + log_dets - 0.5 * k * math.log(2 * math.pi)
        )  # (C,)

    def log_components(self, z):
        """Return the log-densities (n, C) of the weighted components at z (n, k)."""
        return log_components(z, self.means, self.factors, self.log_scales)

    def log_density(self, z):
        """Return the log-density (n,) of latents (n, k)."""
        return torch.logsumexp(self.log_components(z), dim=1)

    def draw(self, n, rng):
        """Return n draws (n, k)."""
        k = self.means.shape[1]
        return self._placed(rng.uniform(size=n), rng.standard_normal((n, k)))

    def spread(self, n, rng=None):
        """Return n quasi-random points (n, k) of the density, moved by `rng`."""
        k = self.means.shape[1]
        return self._placed(*quasi_noise(n, k, rng))

    def _placed(self, u, noise):
        """Map uniform numbers u (n,) and normal noise (n, k) to points (n, k)."""
        shares = np.cumsum(self.weights.numpy())
        c = np.searchsorted(shares, u * shares[-1], side="right")
        c = np.minimum(c, shares.size - 1)
        means, factors = self.means.numpy(), self.factors.numpy()
        z = np.empty_like(noise)
        for component in range(shares.size):
            rows = c == component
            inverse = np.linalg.inv(factors[component])
            z[rows] = means[component] + noise[rows] @ inverse
        return torch.from_numpy(z)

    def normal(self):
        """Return a prior with one component and the moments of the components."""
        if self.weights.numel() == 1:
            return self
        weights = self.weights / self.weights.sum()
        mean = weights @ self.means
        centred = self.means - mean
        covariance = (centred.T * weights) @ centred
        within = torch.linalg.inv(self.precisions)
        covariance = covariance + (weights[:, None, None] * within).sum(0)
        return NormalMixture([1.0], mean[None], torch.linalg.inv(covariance)[None])

    def project(self, z):
        """Return the nearest latents (n, k) with a positive density."""
        return z

    def to_code(self, z):
        """Return the codes (n, k) of latents (n, k)."""
        return z

    def slope_of_code(self, z):
        """Return the elementwise derivatives (n, k) of codes in latents."""
        return torch.ones_like(z)

    def from_code(self, code):
        """Return the latents (n, k) of codes (n, k)."""
        return code


def standard_normal(k):
    """Return the standard normal density in k dimensions."""
    return NormalMixture(np.ones(1), np.zeros((1, k)), np.eye(k)[None])


class Cube(NormalMixture):
    """Uniform density on the cube [-1, 1]^k, as a map of standard normal latents."""

    def __init__(self, k):
        super().__init__(np.ones(1), np.zeros((1, k)), np.eye(k)[None])

    def to_code(self, z):
        return torch.erf(z / math.sqrt(2))

    def slope_of_code(self, z):
        return math.sqrt(2 / math.pi) * torch.exp(-0.5 * z.square())

    def from_code(self, code):
        clipped = code.clamp(-1 + 2 * _BORDER, 1 - 2 * _BORDER)
        return math.sqrt(2) * torch.erfinv(clipped)


class Ring(NormalMixture):
    """Uniform density between the spheres of radii `inner` and `outer` in R^k."""

    smooth = False

    def __init__(self, k, inner, outer):
        self.radii = inner, outer
        # Variance of each coordinate: mean squared radius divided by k.
        square = k / (k + 2) * (outer ** (k + 2) - inner ** (k + 2))
        variance = square / (outer**k - inner**k) / k
        super().__init__(np.ones(1), np.zeros((1, k)), np.eye(k)[None] / variance)
        unit_ball = 0.5 * k * math.log(math.pi) - special.gammaln(0.5 * k + 1)
        self.log_volume = unit_ball + math.log(outer**k - inner**k)

    def log_density(self, z):
        inner, outer = self.radii
        radius = z.square().sum(-1).sqrt()
        has_density = (radius >= inner) & (radius <= outer)
        return torch.where(has_density, -self.log_volume, -math.inf).to(z.dtype)

    def project(self, z):
        inner, outer = self.radii
        radius = z.norm(dim=-1, keepdim=True)
        # The centre has no direction; take the first axis.
        first = torch.zeros_like(z)
        first[..., 0] = 1.0
        direction = torch.where(radius < 1e-30, first, z / radius.clamp(min=1e-30))
        # A small margin keeps the point inside despite rounding.
        border = _BORDER * (outer - inner)
        return direction * radius.clamp(inner + border, outer - border)

    def _placed(self, u, noise):
        inner, outer = self.radii
        k = noise.shape[1]
        radius = (inner**k + u * (outer**k - inner**k)) ** (1 / k)
        size = np.linalg.norm(noise, axis=1, keepdims=True)
        return torch.from_numpy(noise * (radius[:, None] / size))


class RoundMixture(NormalMixture):
    """Equal mixture of N(s, width^2 I) over samples s (C, k)."""

    def __init__(self, samples, width):
        n, k = samples.shape
        eye = torch.eye(k, dtype=torch.float64)
        self.width = width
        self.weights = torch.full((n,), 1 / n, dtype=torch.float64)
        self.means = torch.as_tensor(samples, dtype=torch.float64)
        # Views of a single matrix, which need no memory.
        self.precisions = (eye / width**2).expand(n, k, k)
        self.factors = (eye / width).expand(n, k, k)
        log_scale = -math.log(n) - k * math.log(width * math.sqrt(2 * math.pi))
        self.log_scales = torch.full((n,), log_scale, dtype=torch.float64)
        self.n_neighbours = min(_NEIGHBOURS, n)
        self.smooth = n <= _FEW

    def log_components(self, z):
        exact = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(z, self.means, compute_mode=exact)
        return self.log_scales - 0.5 * (distances / self.width).square()

    def _placed(self, u, noise):
        n = self.weights.numel()
        c = np.minimum((u * n).astype(np.intp), n - 1)
        return torch.from_numpy(self.means.numpy()[c] + self.width * noise)


class AnyDensity(NormalMixture):
    """Any fitted density; its guide has the mean and covariance of codes (n, k)."""

    smooth = False
    spreads_evenly = False

    def __init__(self, density, codes):
        covariance = np.atleast_2d(np.cov(codes.T, ddof=0))
        k = codes.shape[1]
        covariance += 1e-9 * max(np.trace(covariance) / k, 1e-300) * np.eye(k)
        super().__init__(
            np.ones(1), codes.mean(axis=0)[None], np.linalg.inv(covariance)[None]
        )
        self.density = density

    def log_density(self, z):
        answer = self.density.score_samples(z.cpu().numpy())
        return torch.as_tensor(answer, dtype=torch.float64, device=z.device)

    def draw(self, n, rng):
        return torch.from_numpy(draw(self.density, n, rng))

    def spread(self, n, rng=None):
        return self.draw(n, rng or np.random.RandomState(0))


def quasi_noise(n, k, rng=None):
    """Return quasi-random uniform (n,) and standard normal (n, k) numbers.

    rng moves all of them by the same random uniform numbers (Cranley and Patterson,
    1976).
    """
    u = uniform_points(n, k + 1)
    if rng is not None:
        u = (u + rng.uniform(size=k + 1)) % 1
        u = u.clip(2.0**-53, 1 - 2.0**-53)
    return u[:, 0], special.ndtri(u[:, 1:])
