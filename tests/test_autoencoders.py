"""The autoencoders: log-densities against closed forms, quadrature and annealing."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch import nn

from skgen import SWAE, VAE, AutoEncoder, GaussianKDE
from skgen.autoencoder._likelihood import Bernoulli, ContinuousBernoulli, Gaussian
from skgen.autoencoder._modules import Reconstruction
from skgen.autoencoder._posterior import Posterior
from skgen.autoencoder._priors import (
    AnyDensity,
    Cube,
    NormalMixture,
    Ring,
    standard_normal,
)

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 15, "random_state": 0}
EVERY = [AutoEncoder(2, **QUICK), VAE(2, **QUICK), SWAE(2, **QUICK)]
every_model = pytest.mark.parametrize("model", EVERY, ids=lambda m: type(m).__name__)


def plane(n, d=6, noise=0.5, seed=0):
    """Return rows about a plane of two dimensions."""
    rng = np.random.RandomState(seed)
    loadings = rng.standard_normal((2, d)) * [[2.0], [1.0]]
    noise = noise * rng.standard_normal((n, d))
    return 3 + rng.standard_normal((n, 2)) @ loadings + noise


def curve(n, seed=0):
    """Return rows about a curve in three dimensions."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(0, 2 * np.pi, n)
    noise = 0.1 * rng.standard_normal((n, 3))
    return np.column_stack([np.cos(t), np.sin(2 * t), t / 3]) + noise


# -- probabilistic PCA -----------------------------------------------------------


@pytest.mark.parametrize("n_importance_samples", [0, 64])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("prior", ["its own", "that of the codes"])
def test_linear_networks_with_the_solution_of_pca_score_as_pca(
    k, n_importance_samples, prior
):
    X, held_out = plane(200), plane(50, seed=0) + 1.0
    pca = PCA(k).fit(X)
    model = VAE(
        k,
        hidden_layer_sizes=(),
        noise_covariance="spherical",
        n_importance_samples=n_importance_samples,
        max_epochs=1,
        random_state=0,
    ).fit(X)
    scale = model._coordinates.scale[0]
    gains = np.sqrt(pca.explained_variance_ - pca.noise_variance_)  # (k,)
    stretch = 1.0 if prior == "its own" else 3.0
    module = model._inference.module
    loadings = pca.components_.T * gains / scale  # (d, k)
    module.decoder[0].weight.copy_(torch.from_numpy(loadings / stretch))
    offset = pca.mean_ - model._coordinates.mean
    module.decoder[0].bias.copy_(torch.from_numpy(offset / scale))
    module.likelihood.variance.fill_(pca.noise_variance_ / scale**2)
    if prior != "its own":
        model._inference.prior = NormalMixture(
            np.ones(1), np.zeros((1, k)), np.eye(k)[None] / stretch**2
        )
    np.testing.assert_allclose(
        model.score_samples(held_out), pca.score_samples(held_out), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("model", [AutoEncoder(2), VAE(2)], ids=["AutoEncoder", "VAE"])
def test_trained_linear_networks_are_probabilistic_pca(model):
    X = plane(1500)
    model = clone(model).set_params(
        hidden_layer_sizes=(),
        noise_covariance="spherical",
        lr=1e-2,
        random_state=0,
    )
    X, held_out = X[:1000], X[1000:]
    pca = PCA(2).fit(X)
    model.fit(X)
    assert model.score(held_out) == pytest.approx(pca.score(held_out), abs=0.02)
    assert model.noise_variance_ == pytest.approx(pca.noise_variance_, rel=0.02)


# -- quadrature ------------------------------------------------------------------


def decoder(k, d, seed):
    """Return a decoder that bends and folds."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(k, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, d)
    ).double()
    for layer in network[::2]:
        nn.init.normal_(layer.weight, 0, 2 / math.sqrt(layer.in_features))
        nn.init.normal_(layer.bias, 0, 0.3)
    return network


def toy(k, d, seed, likelihood, noise=None):
    """Return a module with that decoder, and a linear encoder by least squares."""
    with torch.random.fork_rng():
        network = decoder(k, d, seed)
        z = torch.randn(5000, k, dtype=torch.float64)
    family = {
        "gaussian": Gaussian(d, True, 1e-9, False),
        "bernoulli": Bernoulli(),
        "continuous_bernoulli": ContinuousBernoulli(),
    }[likelihood]
    encoder = nn.Linear(d, k)
    module = Reconstruction(encoder, network, family, torch.ones(d, dtype=bool))
    module = module.double().requires_grad_(False)
    if noise is not None:
        spread = float(module.decode(z).std(0).mean())
        family.variance.fill_((noise * spread) ** 2)
    x = torch.from_numpy(family.draw(module.decode(z), np.random.RandomState(7)))
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    solution = torch.linalg.lstsq(design, z).solution
    encoder.weight.copy_(solution[:-1].T)
    encoder.bias.copy_(solution[-1])
    return module, x


def by_quadrature(module, x, log_prior, noise=None):
    """Return log p(x) by the trapezoidal rule over codes."""
    k = module.encoder.out_features
    n_points = 20_001 if k == 1 else 401
    if k == 2 and noise is not None and noise < 0.1:
        n_points = 1201  # a posterior must be wider than a step
    grid = torch.linspace(-5, 5, n_points, dtype=torch.float64)
    z = grid[:, None] if k == 1 else torch.cartesian_prod(grid, grid)
    cell = k * math.log(float(grid[1] - grid[0]))
    a = module.decode(z)
    return np.array(
        [
            float(
                torch.logsumexp(
                    module.likelihood.log_density(row, a) + log_prior(z) + cell, 0
                )
            )
            for row in x
        ]
    )


QUADRATURES = {
    "1 code, half the scale": (1, 2, "gaussian", 0.5),
    "1 code, a tenth": (1, 2, "gaussian", 0.1),
    "1 code, a fiftieth": (1, 2, "gaussian", 0.02),
    "2 codes, half the scale": (2, 3, "gaussian", 0.5),
    "2 codes, a fifth": (2, 3, "gaussian", 0.2),
    "2 codes, a twentieth": (2, 3, "gaussian", 0.05),
    "2 codes, a fiftieth": (2, 3, "gaussian", 0.02),
    "1 code, Bernoulli": (1, 20, "bernoulli", None),
    "2 codes, Bernoulli": (2, 20, "bernoulli", None),
    "2 codes, continuous Bernoulli": (2, 5, "continuous_bernoulli", None),
}


@pytest.mark.parametrize("case", QUADRATURES)
def test_log_density_agrees_with_quadrature(case):
    k, d, likelihood, noise = QUADRATURES[case]
    errors = []
    for seed in range(2):
        module, x = toy(k, d, seed, likelihood, noise)
        prior = standard_normal(k)
        posterior = Posterior(module, prior, module.encode(x).numpy())
        rows = x[:40]
        estimate = posterior.log_density(rows, 64).numpy()
        exact = by_quadrature(module, rows, prior.log_density, noise)
        errors.append(estimate - exact)
    assert np.abs(errors).mean() < 0.03
    assert abs(np.mean(errors)) < 0.02


def test_the_encoder_alone_misses_modes():
    # What the bank of starts is for: without it the test above must fail.
    module, x = toy(1, 2, 1, "gaussian", 0.02)
    prior = standard_normal(1)
    posterior = Posterior(module, prior, module.encode(x).numpy())
    rows = x[:60]
    alone = posterior.modes(rows, from_encoder_only=True).log_evidence[:, 0].numpy()
    assert (by_quadrature(module, rows, prior.log_density) - alone).mean() > 1


@pytest.mark.parametrize("name", ["uniform", "ring", "mixture", "any density"])
@pytest.mark.parametrize("k", [1, 2])
def test_other_priors_agree_with_quadrature(name, k):
    module, _x = toy(k, 3, 1, "gaussian", 0.2)
    codes = np.random.RandomState(0).standard_normal((400, k))
    prior, log_prior = {
        "uniform": lambda: (Cube(k), uniform_on_the_cube),
        "ring": lambda: (Ring(k, 0.8, 1.2), Ring(k, 0.8, 1.2).log_density),
        "mixture": lambda: two_components(k),
        "any density": lambda: kernel_density(codes),
    }[name]()
    # Rows that this prior gives rise to.
    z = prior.to_code(prior.draw(60, np.random.RandomState(3)))
    rows = module.likelihood.draw(module.decode(z), np.random.RandomState(4))
    rows = torch.from_numpy(rows)
    posterior = Posterior(module, prior, codes)
    estimate = posterior.log_density(rows, 64).numpy()
    expected = by_quadrature(module, rows, log_prior)
    # The border of a ring or a cube costs a grid some digits.
    assert np.abs(estimate - expected).mean() < 0.03


def uniform_on_the_cube(z):
    inside = (z.abs() <= 1).all(dim=1)
    return torch.where(inside, -z.shape[1] * math.log(2), -math.inf)


def two_components(k):
    prior = NormalMixture(
        np.array([0.3, 0.7]),
        np.array([[-1.5] * k, [0.8] * k]),
        np.stack([4 * np.eye(k), np.eye(k)]),
    )
    return prior, prior.log_density


def kernel_density(codes):
    prior = AnyDensity(GaussianKDE().fit(codes), codes)
    return prior, prior.log_density


@pytest.mark.parametrize(("k", "noise"), [(3, 0.2), (4, 0.5), (6, 0.5)])
def test_log_density_agrees_with_a_million_draws(k, noise):
    # Out of reach of quadrature, but wide enough for draws from the prior.
    module, x = toy(k, k + 2, 0, "gaussian", noise)
    prior = standard_normal(k)
    posterior = Posterior(module, prior, module.encode(x).numpy())
    outputs = module.decode(prior.spread(2**18))
    expected = [
        float(torch.logsumexp(module.likelihood.log_density(row, outputs), 0))
        for row in x[:30]
    ] - np.log(2**18)
    error = posterior.log_density(x[:30], 64).numpy() - expected
    assert np.abs(error).mean() < 0.2
    assert abs(error.mean()) < 0.06


# -- a plain Monte Carlo mean, through the estimator --------------------------------


@every_model
@pytest.mark.parametrize("noise_covariance", ["diag", "spherical"])
def test_log_density_is_that_of_what_is_drawn(model, noise_covariance):
    # p(x) is the mean of p(x | z) over draws of codes, in the units of the data.
    X = curve(200) * [1.0, 10.0, 0.1] + [5.0, 0.0, -2.0]
    model = clone(model).set_params(noise_covariance=noise_covariance).fit(X)
    rng = np.random.RandomState(1)
    if model.latent_density_ is None:
        codes = rng.standard_normal((200_000, 2))
    else:
        codes = model.latent_density_.sample(200_000, random_state=rng)
    means = model.inverse_transform(codes)
    noise = np.sqrt(model.noise_variance_)
    for x in X[:10]:
        log_p = norm(means, noise).logpdf(x).sum(axis=1)
        expected = logsumexp(log_p) - math.log(len(codes))
        weights = np.exp(log_p - log_p.max())
        error = math.sqrt((weights**2).sum()) / weights.sum()  # of the mean of draws
        assert model.score_samples(x[None])[0] == pytest.approx(
            expected, abs=0.03 + 5 * error
        )
