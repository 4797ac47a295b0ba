r"""Missing features and codes given observed features, by importance sampling.

Samples :math:`z_s` with weights :math:`w_s` stand for the density of the latent given
the observed features :math:`x_o`. Features are independent given the latent, so

.. math:: p(x_m | x_o) \approx \sum_s w_s \, p(x_m | z_s) .

The functions take a `Posterior` and scaled rows (n, d) with NaN.
"""

import numpy as np
import torch
from sklearn.utils import gen_batches

from skgen.autoencoder._importance import Points
from skgen.autoencoder._modes import Modes, by_blocks
from skgen.autoencoder._posterior import BANK
from skgen.autoencoder._prior import quasi_noise

# Minimum number of samples for each row, maximum number of draws that are chosen among
# the same samples, and number of samples for each of them.
_LEAST_SAMPLES, _DRAWN_TOGETHER, _SAMPLES_OF_DRAW = 64, 1024, 4


def expectations(posterior, rows, n_samples):
    """Return the means of the codes (n, k) and of the features (n, d') given rows."""
    k = posterior.codes.shape[1]
    with torch.no_grad():
        means = _means(posterior.given(rows), rows, max(n_samples, _LEAST_SAMPLES))
    return means[:, :k], means[:, k:]


def _means(posterior, rows, n_samples):
    """Return the means of `Posterior.answers` given rows: (n, k + d')."""
    if posterior.is_normal():
        z = posterior.modes(rows, from_encoder_only=True).z[:, 0]
        size = posterior.ascents_in_block(z.shape[1])
        return by_blocks(posterior.answers, size, z)
    if posterior.points is None:
        return _means_of_samples(posterior, rows, n_samples)
    # For a wide posterior, points of the prior alone are sufficient.
    means, effective = _means_of_points(posterior, posterior.module.rows(rows))
    narrow = effective < posterior.enough
    if narrow.any():
        means[narrow] = _means_of_samples(posterior, rows[narrow], n_samples)
    return means


def _means_of_points(posterior, x):
    """Return the means by points of the prior, and effective sample sizes (n,)."""
    points = posterior.points

    def mean(x):
        weight = torch.softmax(points.joint(x) - points.log_prior, dim=1)
        return weight @ points.answers, 1 / weight.square().sum(1)

    return by_blocks(mean, points.rows_at_once, x)


def _means_of_samples(posterior, rows, n_samples):
    """Return the means by samples around the modes, and by points of the prior."""
    modes, points = posterior.modes(rows), posterior.points
    noise = _quasi_noise(n_samples, modes)

    def mean(x, *modes):
        z, log_weight, _ = posterior.samples(x, Modes(*modes), *noise, points)
        weight = torch.softmax(log_weight, dim=1)[:, None]  # (n, 1, m + N)
        n, m, k = z.shape
        of_samples = posterior.answers(z.reshape(-1, k)).view(n, m, -1)
        means = weight[..., :m] @ of_samples
        if points is not None:
            means = means + weight[..., m:] @ points.answers
        return means[:, 0]

    size = posterior.rows_at_once(n_samples, modes)
    return by_blocks(mean, size, posterior.module.rows(rows), *modes)


def draw_latents(posterior, rows, n_draws, n_samples, rng):
    """Return draws of latents given rows (n, d): (n_draws, n, k).

    They are drawn among samples, with the weights of the samples (Rubin, 1988).
    """
    with torch.no_grad():
        posterior = posterior.given(rows)
        if posterior.is_normal():
            return _normal_draws(posterior, rows, n_draws, rng)
        return _resampled_draws(posterior, rows, n_draws, n_samples, rng)


def _normal_draws(posterior, rows, n_draws, rng):
    z, _, factors = posterior.modes(rows, from_encoder_only=True)
    n, _, k = z.shape
    noise = torch.from_numpy(rng.standard_normal((n, n_draws, k)))
    offsets = torch.linalg.solve_triangular(
        factors[:, 0], noise, upper=False, left=False
    )
    return (z + offsets).transpose(0, 1)


def _resampled_draws(posterior, rows, n_draws, n_samples, rng):
    x, modes = posterior.module.rows(rows), posterior.modes(rows)
    points, (n, _, k) = None, modes.z.shape
    if posterior.points is not None:
        # Other points in each call: the same points would be drawn in all of them.
        points = Points(posterior, posterior.prior.spread(BANK, rng))
    drawn = torch.empty(n_draws, n, k, dtype=torch.float64)
    for draws in gen_batches(n_draws, _DRAWN_TOGETHER):
        n_together = draws.stop - draws.start
        m = max(n_samples, _LEAST_SAMPLES, _SAMPLES_OF_DRAW * n_together)
        for some in gen_batches(n, posterior.rows_at_once(m, modes)):
            u = torch.from_numpy(rng.uniform(size=m))
            noise = torch.from_numpy(rng.standard_normal((m, k)))
            of_some = Modes(*(part[some] for part in modes))
            z, log_weight, _ = posterior.samples(x[some], of_some, u, noise, points)
            if points is not None:
                z = torch.cat([z, points.z.expand(z.shape[0], -1, -1)], dim=1)
            chosen = resampled(torch.softmax(log_weight, dim=1), n_together, rng)
            index = chosen[..., None].expand(-1, -1, k)
            drawn[draws, some] = z.gather(1, index).transpose(0, 1)
    return drawn


def resampled(weights, n_draws, rng):
    """Return the indices (n, n_draws) of items drawn with weights (n, m).

    Systematic resampling, in random order: item i is drawn `n_draws * weights[i]`
    times, up to one.
    """
    n, m = weights.shape
    u = (np.arange(n_draws) + rng.uniform(size=(n, 1))) / n_draws
    order = rng.uniform(size=u.shape).argsort(axis=1)
    u = torch.from_numpy(np.take_along_axis(u, order, axis=1))
    limits = weights.cumsum(1)
    return torch.searchsorted(limits, u * limits[:, -1:], right=True).clamp(max=m - 1)


def components(posterior, rows, n_samples):
    """Return weights (C,), decoder outputs a (C, d') and slopes given one row (1, d).

    The density of the features given the row is the mean of p(x | a). If rows are
    normal, there is one component, with the slopes (k, d') of its output in a standard
    normal latent; else the slopes are None.
    """
    with torch.no_grad():
        posterior = posterior.given(rows)
        if posterior.is_normal():
            z, _, factors = posterior.modes(rows, from_encoder_only=True)
            a, J = posterior.decode_with_jacobian(z[:, 0])
            slopes = torch.linalg.solve_triangular(factors[:, 0], J, upper=False)
            return torch.ones(1, dtype=torch.float64), a, slopes[0]
        modes, points = posterior.modes(rows), posterior.points
        x, n_samples = posterior.module.rows(rows), max(n_samples, _LEAST_SAMPLES)
        noise = _quasi_noise(n_samples, modes)
        z, log_weight, _ = posterior.samples(x, modes, *noise, points)
        z = z[0] if points is None else torch.cat([z[0], points.z])
        return torch.softmax(log_weight[0], dim=0), posterior.decode(z), None


def _quasi_noise(n_samples, modes):
    """Return quasi-random numbers for `Posterior.samples`."""
    numbers = quasi_noise(n_samples, modes.z.shape[2])
    return [torch.from_numpy(part) for part in numbers]
