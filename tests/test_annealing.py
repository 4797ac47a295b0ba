"""The log-density of autoencoders against annealed importance sampling on MNIST."""

import gzip
import itertools
import math

import numpy as np
import pytest
import torch

from skgen import VAE, AutoEncoder
from skgen.autoencoder._posterior import Posterior

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning"),
]

CHAINS, TEMPERATURES, LEAPS = 16, 1500, 5


def images(path, n):
    with gzip.open(path) as file:
        pixels = np.frombuffer(file.read(16 + 784 * n), dtype=np.uint8, offset=16)
    return pixels.reshape(n, 784) / 255.0


def annealed(log_prior, log_likelihood, draws):
    """Return log p(x) of n rows by annealed importance sampling (Neal, 2001).

    Each row has chains that start at draws from the prior, and Hamiltonian steps
    whose size follows the share that is accepted (Wu et al., 2017).
    """
    z = draws  # (chains, n, k)
    log_weight = torch.zeros(z.shape[:2], dtype=z.dtype)
    # As many temperatures near 0 and near 1 as between.
    ramp = torch.sigmoid(torch.linspace(-5, 5, TEMPERATURES, dtype=z.dtype))
    betas = (ramp - ramp[0]) / (ramp[-1] - ramp[0])
    size = torch.full((1, z.shape[1], 1), 0.1, dtype=z.dtype)

    def value_and_slope(z, beta):
        z = z.detach().requires_grad_()
        fit = log_likelihood(z)
        total = log_prior(z) + beta * fit
        (slope,) = torch.autograd.grad(total.sum(), z)
        return total.detach(), slope, fit.detach()

    with torch.enable_grad():
        _, _, fit = value_and_slope(z, 0.0)
        for before, beta in itertools.pairwise(betas):
            log_weight += (beta - before) * fit
            start, slope, _ = value_and_slope(z, beta)
            momentum = torch.randn_like(z)
            energy = start - 0.5 * momentum.square().sum(-1)
            new, p = z, momentum + 0.5 * size * slope
            for leap in range(LEAPS):
                new = new + size * p
                value, slope, new_fit = value_and_slope(new, beta)
                p = p + (1.0 if leap < LEAPS - 1 else 0.5) * size * slope
            gain = value - 0.5 * p.square().sum(-1) - energy
            accepted = torch.rand_like(gain).log() < gain
            z = torch.where(accepted[..., None], new, z)
            fit = torch.where(accepted, new_fit, fit)
            share = accepted.double().mean(0)[None, :, None]
            size = size * torch.exp(0.05 * (share - 0.65))
    return torch.logsumexp(log_weight, dim=0) - math.log(z.shape[0])


@pytest.mark.parametrize(
    ("model", "tolerance"),
    [
        (VAE(10, likelihood="bernoulli"), 0.5),
        (VAE(10, noise_covariance="spherical"), 2.0),
        (AutoEncoder(5, noise_covariance="spherical"), 2.0),
    ],
    ids=["Bernoulli", "Gaussian", "AutoEncoder"],
)
def test_log_density_agrees_with_annealing(model, tolerance, real_data):
    X = images(real_data("mnist/train-images-idx3-ubyte.gz"), 6000)
    held_out = images(real_data("mnist/t10k-images-idx3-ubyte.gz"), 50)
    if model.likelihood == "bernoulli":
        held_out = (
            np.random.RandomState(0).uniform(size=held_out.shape) < held_out
        ) * 1.0
    model.set_params(hidden_layer_sizes=(64,), max_epochs=20, random_state=0).fit(X)
    posterior: Posterior = model._inference
    x = torch.from_numpy(model._coordinates.standardized(held_out))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        k = model.n_components
        rng = np.random.RandomState(0)
        draws = posterior.prior.draw(CHAINS * len(x), rng).view(CHAINS, len(x), k)

        def log_prior(z):
            return posterior.prior.log_density(z.reshape(-1, k)).view(z.shape[:2])

        def log_likelihood(z):
            return posterior.module.likelihood.log_density(x, posterior.decode(z))

        reference = annealed(log_prior, log_likelihood, draws).numpy()
    ours = posterior.log_density(x, 64).numpy()
    error = ours - reference
    # Annealing is a lower bound itself, but a good one: too high is a fault as well.
    assert np.abs(error).mean() < tolerance
    assert np.median(np.abs(error)) < tolerance
