"""Proposals of importance sampling, and the mean of its weights."""

import itertools
import math

import numpy as np
import torch
from sklearn.cluster import KMeans

from skgen._lazy import cached_property
from skgen.autoencoder._modes import BLOCK_ENTRIES, BLOCK_ROWS

# Number of groups of points. The best point of each group is an initial value.
_GROUPS = 16

# Minimum weight of a mode in the proposal, if its log-evidence lies within this number
# of nats of the best mode.
_LEAST_SHARE, _WITHIN = 0.1, 12.0


class Proposal:
    """Mixture of normal densities around the M modes, for each of n rows."""

    def __init__(self, modes):
        self.z, log_evidence, self.factors = modes
        best = log_evidence.max(dim=1, keepdim=True).values
        weights = torch.exp(log_evidence - best)
        floor = _LEAST_SHARE * (log_evidence > best - _WITHIN)
        weights = torch.maximum(weights / weights.sum(1, keepdim=True), floor)
        self.weights = weights / weights.sum(1, keepdim=True)  # (n, M)
        self.log_scales = (
            self.weights.log()
            + self.factors.diagonal(dim1=2, dim2=3).log().sum(2)
            - 0.5 * self.z.shape[2] * math.log(2 * math.pi)
        )  # (n, M)

    def draw(self, u, noise):
        """Map uniform numbers u (m,) and normal noise (m, k) to latents (n, m, k)."""
        n, n_modes, k = self.z.shape
        shares = self.weights.cumsum(1)
        chosen = torch.searchsorted(shares, u.expand(n, -1).contiguous())
        chosen = chosen.clamp(max=n_modes - 1)  # (n, m)
        # The solution x of x L = e for noise e has the covariance (L L^T)^-1.
        offsets = torch.linalg.solve_triangular(
            self.factors, noise.expand(n, n_modes, -1, -1), upper=False, left=False
        )  # (n, M, m, k)
        everywhere = self.z[:, :, None] + offsets
        index = chosen[:, None, :, None].expand(-1, 1, -1, k)
        return everywhere.gather(1, index)[:, 0]  # (n, m, k)

    def log_density(self, z):
        """Return the log-density (n, m) of latents (n, m, k)."""
        centred = z[:, None] - self.z[:, :, None]  # (n, M, m, k)
        squares = (centred @ self.factors).square().sum(-1)
        return torch.logsumexp(self.log_scales[..., None] - 0.5 * squares, dim=1)


def grouped(z):
    """Return latents z (N, k) sorted by groups of k-means, and the ends of groups."""
    n_groups = min(_GROUPS, z.shape[0])
    labels = KMeans(n_groups, n_init=1, max_iter=20, random_state=0).fit_predict(
        z.numpy()
    )
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(n_groups + 1))
    groups = [
        (int(start), int(stop))
        for start, stop in itertools.pairwise(ends)
        if stop > start
    ]
    return z[torch.from_numpy(order)], groups


class Points:
    """Latents z (N, k) with their natural parameters (N, d'), and groups of them."""

    def __init__(self, posterior, z, groups=()):
        self.z, self.groups, self._posterior = z, groups, posterior
        self.rows_at_once = max(1, min(BLOCK_ROWS, BLOCK_ENTRIES // z.shape[0]))
        a = posterior.decode(self.z)
        self.natural, log_normalizer = posterior.likelihood.natural(a)
        self.log_prior = posterior.prior.log_density(self.z)  # (N,)
        self.offset = self.log_prior - log_normalizer

    def joint(self, x):
        """Return log p(x | z) p(z), up to a constant for each row: (n, N)."""
        statistics = self._posterior.likelihood.statistics(x)
        return statistics @ self.natural.T + self.offset

    @cached_property
    def answers(self):
        """Return the codes and the means of the features: (N, k + d')."""
        return self._posterior.answers(self.z)


def with_control(log_ratio, log_control):
    """Return the log of the mean ratio (n,), with a control variate of mean 1.

    log_ratio, log_control: (n, m).
    """
    # The intercept of the regression on the control (Owen and Zhou, 2000), or the plain
    # mean if the two differ by more than a factor of 2.
    top = log_ratio.max(dim=1, keepdim=True).values
    y = torch.exp(log_ratio - top)
    h = torch.exp(log_control) - 1
    mean, mean_h = y.mean(1), h.mean(1)
    h = h - mean_h[:, None]
    slope = (h * y).sum(1) / h.square().sum(1).clamp(min=1e-300)
    intercept = mean - slope * mean_h
    usable = (intercept > 0.5 * mean) & (intercept < 2 * mean)
    return torch.where(usable, intercept, mean).log() + top[:, 0]
