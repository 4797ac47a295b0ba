r"""Estimates of the noise variances and of a normal prior, by EM.

The decoder is linearised at the latent :math:`z_i` of each row,
:math:`g(z) \approx g(z_i) + J_i (z - z_i)`. The model is then a factor analyser with
known loadings, for which EM has closed forms. The estimates use the posterior of the
codes and not the encoder's codes, because the encoder's codes contain noise.
"""

import torch

from skgen.autoencoder._likelihood import Gaussian, Observed
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


def linear_em(x, z, a, J, likelihood, mean, precision, learns_prior=False):
    """Set the noise variances; return the mean (k,) and precision (k, k) of the prior.

    x, a: (n, d) rows, which can have NaN, and decoder outputs; z: (n, k) latents; J:
    (n, k, d) Jacobians. A mean that is given can be one for each row: (n, k).
    """
    has_noise, observed = isinstance(likelihood, Gaussian), ~x.isnan()
    of_rows = likelihood if observed.all() else Observed(likelihood)
    slope, weight = of_rows.slope(x, a), of_rows.curvature(x, a)  # (n, d)
    before = None
    for _ in range(_ITERATIONS):
        if has_noise:
            slope, weight = of_rows.slope(x, a), of_rows.curvature(x, a)
        H = (J * weight[:, None]) @ J.mT + precision  # (n, k, k)
        pull = (J @ slope[..., None])[..., 0] + (mean - z) @ precision
        covariance = inverse(H)
        step = (covariance @ pull[..., None])[..., 0]  # (n, k)
        if learns_prior:
            mean, precision = _normal(z + step, covariance.mean(0))
        if has_noise:
            residual = x - a - (step[:, None] @ J)[:, 0]  # (n, d)
            spread = ((covariance @ J) * J).sum(1)  # (n, d)
            squares = residual.square() + spread
            likelihood.set_variance(likelihood.mean_square(squares, observed))
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
    if not (learns_prior or isinstance(likelihood, Gaussian)):
        return
    given = posterior.prior
    posterior.prior = given.normal()
    with torch.no_grad():
        rows = _enough(posterior, rows)
        _set_initial_variance([(posterior, rows)])
        for _ in range(_ROUNDS):
            mean, precision = linear_em(
                *_linearised(posterior, rows),
                likelihood,
                posterior.prior.means[0],
                posterior.prior.precisions[0],
                learns_prior,
            )
            if learns_prior:
                posterior.prior = NormalMixture([1.0], mean[None], precision[None])
    if not learns_prior:
        posterior.prior = given


def calibrate_classes(posteriors, rows, classes):
    """Fit the noise variances that the `Posterior` of each class shares.

    rows: (n, d), in random order, of classes (n,). The priors are normal and have one
    covariance.
    """
    likelihood = posteriors[0].module.likelihood
    if not isinstance(likelihood, Gaussian):
        return
    with torch.no_grad():
        rows = _enough(posteriors[0], rows)
        classes = classes[: rows.shape[0]]
        parts = [
            (posterior, rows[classes == c])
            for c, posterior in enumerate(posteriors)
            if (classes == c).any()
        ]
        _set_initial_variance(parts)
        for _ in range(_ROUNDS):
            linear = zip(*(_linearised(*part) for part in parts), strict=True)
            means = [p.prior.means.expand(rows.shape[0], -1) for p, rows in parts]
            precision = posteriors[0].prior.precisions[0]
            linear_em(*map(torch.cat, linear), likelihood, torch.cat(means), precision)


def _enough(posterior, rows):
    """Return the first of the rows (n, d), enough for the noise variances."""
    likelihood = posterior.module.likelihood
    k, d = posterior.codes.shape[1], max(posterior.module.width, 1)
    one = not isinstance(likelihood, Gaussian) or likelihood.shared
    entries = _ENTRIES_IF_SHARED if one else _ENTRIES
    return rows[: max(_LEAST_ROWS, 2 * k, entries // (k * d))]


def _set_initial_variance(parts):
    """Set the noise variances to the residuals at the encoder's codes."""
    module = parts[0][0].module
    if isinstance(module.likelihood, Gaussian):
        residuals = [
            posterior.module.rows(rows)
            - posterior.module.decode(posterior.module.encode(rows))
            for posterior, rows in parts
        ]
        squares = torch.cat(residuals).square()
        variance = module.likelihood.mean_square(squares, ~squares.isnan())
        module.likelihood.set_variance(variance)


def _linearised(posterior, rows):
    """Return x, the modes z, and the decoder's outputs a and Jacobians J at z."""
    z = posterior.modes(rows, from_encoder_only=True).z[:, 0]
    return posterior.module.rows(rows), z, *posterior.decode_with_jacobian(z)


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
