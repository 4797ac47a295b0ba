r"""Estimates of the noise variances and of a normal prior, by EM.

The decoder is linearised at the latent :math:`z_i` of each row,
:math:`g(z) \approx g(z_i) + J_i (z - z_i)`. The model is then a factor analyser with
known loadings, for which EM has closed forms. The estimates use the posterior of the
codes and not the encoder's codes, because the encoder's codes contain noise.
"""

import torch

from skgen.autoencoder._likelihood import Gaussian
from skgen.autoencoder._prior import NormalMixture

# Limits on the entries of the Jacobians of all rows: with a variance for each feature,
# and with one variance for all features.
_ENTRIES, _ENTRIES_IF_SHARED = 2**23, 2**21
_LEAST_ROWS = 200

# Maximum number of EM iterations, tolerance on the logarithms of the variances, and
# number of linearisations of the decoder.
_ITERATIONS, _TOLERANCE, _ROUNDS = 200, 1e-4, 2

# Floor of the variance in any latent direction, relative to the mean variance.
_LEAST_VARIANCE = 1e-6


def linear_em(x, z, a, J, likelihood, mean, precision, learns_prior):
    """Set the noise variances; return the mean (k,) and precision (k, k) of the prior.

    x, a: (n, d) rows and decoder outputs; z: (n, k) latents; J: (n, k, d) Jacobians.
    """
    has_noise = isinstance(likelihood, Gaussian)
    slope, weight = likelihood.slope(x, a), likelihood.information(a)  # (n, d)
    before = None
    for _ in range(_ITERATIONS):
        if has_noise:
            slope, weight = likelihood.slope(x, a), likelihood.information(a)
        H = (J * weight[:, None]) @ J.mT + precision  # (n, k, k)
        pull = (J @ slope[..., None])[..., 0] + (mean - z) @ precision
        covariance = inverse(H)
        step = (covariance @ pull[..., None])[..., 0]  # (n, k)
        if learns_prior:
            mean, precision = _normal(z + step, covariance.mean(0))
        if has_noise:
            residual = x - a - (step[:, None] @ J)[:, 0]  # (n, d)
            spread = ((covariance @ J) * J).sum(1)  # (n, d)
            likelihood.set_variance((residual.square() + spread).mean(0))
        logs = torch.cat(
            [
                likelihood.variance.log() if has_noise else slope.new_zeros(0),
                precision.diagonal().log(),
            ]
        )
        if before is not None and (logs - before).abs().max() < _TOLERANCE:
            break
        before = logs
    return mean, precision


def _normal(z, covariance):
    """Return mean and precision of latents (n, k) with posterior covariance (k, k)."""
    mean = z.mean(0)
    centred = z - mean
    total = centred.T @ centred / z.shape[0] + covariance
    least = _LEAST_VARIANCE * float(total.diagonal().mean()) + 1e-12
    eye = torch.eye(z.shape[1], dtype=total.dtype)
    return mean, torch.linalg.inv(total + least * eye)


def inverse(H):
    """Return the inverses of curvatures (n, k, k), for any scale of the codes."""
    scale = H.diagonal(dim1=1, dim2=2).rsqrt()  # (n, k)
    both = scale[:, :, None] * scale[:, None]
    eye = torch.eye(H.shape[1], dtype=H.dtype)
    return torch.linalg.inv(both * H + 1e-14 * eye) * both


def normal_density_of(codes):
    """Return a normal prior with the mean and covariance of codes (n, k)."""
    codes = torch.from_numpy(codes)
    mean, precision = _normal(codes, torch.zeros(codes.shape[1], dtype=codes.dtype))
    return NormalMixture([1.0], mean[None], precision[None])


def calibrate(posterior, rows, learns_prior):
    """Fit the noise variances of a `Posterior`, and a normal prior if `learns_prior`.

    rows: (n, d), in random order. A prior that is not normal is replaced by a normal
    density with the same moments while the noise is fitted.
    """
    likelihood = posterior.module.likelihood
    k, d = posterior.codes.shape[1], max(posterior.module.width, 1)
    if not (learns_prior or isinstance(likelihood, Gaussian)):
        return
    one = not isinstance(likelihood, Gaussian) or likelihood.shared
    entries = _ENTRIES_IF_SHARED if one else _ENTRIES
    rows = rows[: max(_LEAST_ROWS, 2 * k, entries // (k * d))]
    x = posterior.module.rows(rows)
    given = posterior.prior
    posterior.prior = given.normal()
    with torch.no_grad():
        if isinstance(likelihood, Gaussian):
            # Initialise with the residuals at the encoder's codes.
            likelihood.set_variance(
                (x - posterior.module.decode(posterior.module.encode(rows)))
                .square()
                .mean(0)
            )
        for _ in range(_ROUNDS):
            z = posterior.modes(rows, from_encoder_only=True).z[:, 0]
            a, J = posterior.decode_with_jacobian(z)
            prior = posterior.prior
            mean, precision = linear_em(
                x,
                z,
                a,
                J,
                likelihood,
                prior.means[0],
                prior.precisions[0],
                learns_prior,
            )
            if learns_prior:
                posterior.prior = NormalMixture([1.0], mean[None], precision[None])
    if not learns_prior:
        posterior.prior = given


def posterior_draws(posterior, rows, n_draws, rng):
    """Return draws (n, n_draws, k) from Laplace approximations of the posteriors.

    rows: (n, d). The prior of `posterior` must be normal.
    """
    with torch.no_grad():
        z, _, factors = posterior.modes(rows, from_encoder_only=True)
        n, _, k = z.shape
        noise = torch.from_numpy(rng.standard_normal((n, n_draws, k)))
        offsets = torch.linalg.solve_triangular(
            factors[:, 0], noise, upper=False, left=False
        )
        return (z + offsets).numpy()
