r"""The noise about a decoder, and a normal density of codes, under their posterior.

About a latent :math:`z_i` of each row, the decoder is linear,
:math:`g(z) \approx g(z_i) + J_i (z - z_i)`, and the model is a factor analyser whose
loadings are known: EM has closed forms. The codes of a trained encoder carry the noise
already; their posterior is what the noise and the prior belong to.
"""

import torch

from skgen.autoencoder._likelihood import Gaussian
from skgen.autoencoder._priors import NormalMixture

# Numbers in the Jacobians of all rows that are looked at, at most: for a variance of
# each feature, and for one of all.
_NUMBERS, _NUMBERS_FOR_ONE = 2**23, 2**21
_LEAST_ROWS = 200

# Iterations of EM, the fall of a logarithm that ends them, and how often the decoder
# is linearised anew.
_ITERATIONS, _TOLERANCE, _ROUNDS = 200, 1e-4, 2

# The least variance of a code, as a share of their mean.
_LEAST_VARIANCE = 1e-6


def linear_em(x, z, a, J, likelihood, mean, precision, learns_prior):
    """Fit the noise, and a normal prior, to rows under a linearised decoder.

    Parameters
    ----------
    x, a : torch.Tensor of shape (n, d)
        Rows and the decoder's outputs at their latents.
    z : torch.Tensor of shape (n, k)
        The latents.
    J : torch.Tensor of shape (n, k, d)
        The Jacobians there.
    likelihood : AbstractLikelihood
        Its variances are set, where it has any.
    mean, precision : torch.Tensor of shape (k,) and (k, k)
        The normal prior to start from.
    learns_prior : bool
        Whether the prior follows the posterior.

    Returns
    -------
    mean, precision : torch.Tensor of shape (k,) and (k, k)
        The prior.
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
    """Return the mean and the precision of latents that have a covariance each."""
    mean = z.mean(0)
    centred = z - mean
    total = centred.T @ centred / z.shape[0] + covariance
    return mean, torch.linalg.inv(floored(total))


def inverse(H):
    """Return the inverses of curvatures (n, k, k), whatever units codes have."""
    scale = H.diagonal(dim1=1, dim2=2).rsqrt()  # (n, k)
    both = scale[:, :, None] * scale[:, None]
    eye = torch.eye(H.shape[1], dtype=H.dtype)
    return torch.linalg.inv(both * H + 1e-14 * eye) * both


def floored(covariance):
    """Return a covariance in which no direction is degenerate."""
    k = covariance.shape[0]
    least = _LEAST_VARIANCE * float(covariance.diagonal().mean()) + 1e-12
    return covariance + least * torch.eye(k, dtype=covariance.dtype)


def normal_density_of(codes):
    """Return the normal density with the moments of codes (n, k), as a prior."""
    mean, precision = _normal(codes, torch.zeros(codes.shape[1], dtype=codes.dtype))
    return NormalMixture([1.0], mean[None], precision[None])


def calibrate(posterior, rows, learns_prior):
    """Fit the noise under the posterior of latents, and a normal prior if asked.

    Parameters
    ----------
    posterior : Posterior
        Its likelihood's variances are set, under the normal density with the moments
        of its prior; that prior is replaced if it is fitted.
    rows : torch.Tensor of shape (n, d)
        Rows in random order.
    learns_prior : bool
        Whether the prior is fitted as well.
    """
    likelihood = posterior.module.likelihood
    k, d = posterior.codes.shape[1], max(posterior.module.width, 1)
    if not (learns_prior or isinstance(likelihood, Gaussian)):
        return
    one = not isinstance(likelihood, Gaussian) or likelihood.shared
    numbers = _NUMBERS_FOR_ONE if one else _NUMBERS
    rows = rows[: max(_LEAST_ROWS, 2 * k, numbers // (k * d))]
    x = posterior.module.rows(rows)
    given = posterior.prior
    posterior.prior = given.normal()
    with torch.no_grad():
        if isinstance(likelihood, Gaussian):
            # At first the residuals of the encoder's own codes.
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
    """Return draws from the Laplace approximation of each row's posterior.

    Parameters
    ----------
    posterior : Posterior
        Of rows under a normal prior.
    rows : torch.Tensor of shape (n, d)
        The rows.
    n_draws : int
        How many draws for each.
    rng : RandomState
        Where they come from.

    Returns
    -------
    ndarray of shape (n, n_draws, k)
    """
    with torch.no_grad():
        z, _, factors = posterior.modes(rows, from_encoder_only=True)
        n, _, k = z.shape
        noise = torch.from_numpy(rng.standard_normal((n, n_draws, k)))
        offsets = torch.linalg.solve_triangular(
            factors[:, 0], noise, upper=False, left=False
        )
        return (z + offsets).numpy()
