"""The autoencoders: log-densities against closed forms, quadrature and annealing."""

import math
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import starmap

import numpy as np
import pytest
import torch
from estimators import rows as normal_rows
from estimators import thorough
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import (
    ConvergenceWarning,
    DataDimensionalityWarning,
    NotFittedError,
)
from sklearn.frozen import FrozenEstimator
from torch import nn

from skgen import RAE, SWAE, VAE, AutoEncoder, EMGaussianMixture, GaussianKDE
from skgen.autoencoder._autoencoder import Reconstruction
from skgen.autoencoder._latent_density import as_prior
from skgen.autoencoder._likelihood import Bernoulli, ContinuousBernoulli, Gaussian
from skgen.autoencoder._posterior import Posterior
from skgen.autoencoder._prior import (
    AnyDensity,
    Cube,
    NormalMixture,
    Ring,
    RoundMixture,
    standard_normal,
)

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 15, "random_state": 0}
EVERY = [AutoEncoder(2, **QUICK), VAE(2, **QUICK), SWAE(2, **QUICK), RAE(2, **QUICK)]


def over(models):
    """Parametrize a test by `model`: VAE, the fastest, and the others thoroughly."""
    return pytest.mark.parametrize(
        "model",
        [
            pytest.param(
                model,
                id=type(model).__name__,
                marks=() if type(model) is VAE else pytest.mark.thorough,
            )
            for model in models
        ],
    )


every_model = over(EVERY)
# For what all of them have in common: RAE is an AutoEncoder with another loss.
one_model = over(EVERY[:3])


@pytest.fixture(autouse=True)
def one_thread():
    """Let posteriors that no estimator calls work as those of estimators do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    scale = model._coordinates.whitening.scale[0]
    gains = np.sqrt(pca.explained_variance_ - pca.noise_variance_)  # (k,)
    stretch = 1.0 if prior == "its own" else 3.0
    module = model._inference.module
    loadings = pca.components_.T * gains / scale  # (d, k)
    module.decoder[0].weight.copy_(torch.from_numpy(loadings / stretch))
    offset = pca.mean_ - model._coordinates.whitening.mean
    module.decoder[0].bias.copy_(torch.from_numpy(offset / scale))
    module.likelihood.variance.fill_(pca.noise_variance_ / scale**2)
    if prior != "its own":
        model._inference.prior = NormalMixture(
            np.ones(1), np.zeros((1, k)), np.eye(k)[None] / stretch**2
        )
    np.testing.assert_allclose(
        model.score_samples(held_out), pca.score_samples(held_out), rtol=0, atol=1e-9
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "model", [AutoEncoder(2), thorough(VAE(2))], ids=["AutoEncoder", "VAE"]
)
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
    a, weight = module.decode(z), log_prior(z) + cell
    return np.array(
        [
            float(torch.logsumexp(module.likelihood.log_density(row, a) + weight, 0))
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


SLOW_QUADRATURES = {
    "2 codes, a fifth",
    "2 codes, a twentieth",
    "2 codes, a fiftieth",
    "2 codes, Bernoulli",
    "2 codes, continuous Bernoulli",
}


@pytest.mark.parametrize(
    "case", [thorough(c) if c in SLOW_QUADRATURES else c for c in QUADRATURES]
)
def test_log_density_agrees_with_quadrature(case):
    k, d, likelihood, noise = QUADRATURES[case]
    errors = []
    for seed in range(2 if noise is None or noise > 0.1 else 1):
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
@pytest.mark.parametrize("k", [1, thorough(2)])
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


@pytest.mark.parametrize(
    ("n", "noise"), [thorough(30, 0.1), thorough(300, 0.2), thorough(300, 0.1)]
)
def test_a_prior_of_samples_agrees_with_quadrature(n, noise):
    module, _x = toy(2, 3, 1, "gaussian", noise)
    samples = np.random.RandomState(0).standard_normal((n, 2))
    prior = RoundMixture(samples, 0.05 * samples.std())
    z = prior.draw(60, np.random.RandomState(3))
    rows = module.likelihood.draw(module.decode(z), np.random.RandomState(4))
    rows = torch.from_numpy(rows)

    def log_prior(z):
        return torch.cat([prior.log_density(part) for part in z.split(4096)])

    error = Posterior(module, prior, z.numpy()).log_density(rows, 64).numpy()
    error = error - by_quadrature(module, rows, log_prior)
    assert np.abs(error).mean() < 0.03
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("n", [20, thorough(200), thorough(600)])
def test_samples_as_a_prior_are_narrow_normal_densities(n):
    samples = np.random.RandomState(0).standard_normal((n, 2)) * [1.0, 2.0]
    X = curve(200)
    model = SWAE(2, prior=samples, noise_covariance="spherical", **QUICK).fit(X)
    width = 0.05 * np.sqrt(samples.var(axis=0).mean())
    codes = model.sample_latent(40, random_state=0)
    log_p = norm(samples[:, None], width).logpdf(codes).sum(axis=2)  # (n, 40)
    expected = logsumexp(log_p, axis=0) - math.log(n)
    found = model.latent_density_.score_samples(codes)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    steered = model._inference.prior
    np.testing.assert_allclose(
        steered.log_density(torch.from_numpy(codes)), expected, atol=1e-5
    )
    assert isinstance(steered, RoundMixture if n <= 500 else AnyDensity)
    # The density of rows is the mean over draws of that density.
    codes = model.latent_density_.sample(40_000, random_state=1)
    means = model.inverse_transform(codes)
    for x in X[:5]:
        log_p = norm(means, math.sqrt(model.noise_variance_)).logpdf(x).sum(axis=1)
        weights = np.exp(log_p - log_p.max())
        error = math.sqrt((weights**2).sum()) / weights.sum()
        assert model.score_samples(x[None])[0] == pytest.approx(
            logsumexp(log_p) - math.log(len(codes)), abs=0.03 + 5 * error
        )
    model.set_params(n_importance_samples=0)
    if n <= 32:
        assert np.isfinite(model.score_samples(X)).all()
    else:
        with pytest.raises(ValueError, match="or a set of at most 32 samples"):
            model.score_samples(X)


@pytest.mark.thorough
def test_the_order_of_a_priors_components_does_not_change_the_noise():
    density = EMGaussianMixture(2, random_state=0)
    density.fit(np.concatenate([plane(50, 2), plane(50, 2) + 40]) / 20)
    X, noises = curve(200), []
    for order in ([0, 1], [1, 0]):
        other = clone(density).fit(plane(50, 2))
        other.weights_ = density.weights_[order]
        other.means_ = density.means_[order]
        other.covariances_ = density.covariances_[order]
        model = SWAE(2, prior=other, swd_weight=0, **QUICK).fit(X)
        noises.append(model.noise_variance_)
    np.testing.assert_allclose(noises[0], noises[1], rtol=1e-6)


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


@pytest.mark.thorough
@pytest.mark.parametrize(("k", "noise"), [(3, 0.2), (4, 0.5), (6, 0.5)])
def test_log_density_agrees_with_a_million_draws(k, noise):
    # Out of reach of quadrature, but wide enough for draws from the prior.
    module, x = toy(k, k + 2, 0, "gaussian", noise)
    prior = standard_normal(k)
    posterior = Posterior(module, prior, module.encode(x).numpy())
    outputs = module.decode(prior.spread(2**18))
    expected = [
        float(torch.logsumexp(module.likelihood.log_density(row, outputs), 0))
        for row in x[:200]  # a row's estimate scatters by 0.2: many, for their mean
    ] - np.log(2**18)
    error = posterior.log_density(x[:200], 64).numpy() - expected
    assert np.abs(error).mean() < 0.2
    assert abs(error.mean()) < 0.06


# -- a plain Monte Carlo mean, through the estimator --------------------------------


@every_model
@pytest.mark.parametrize("noise_covariance", ["diag", thorough("spherical")])
def test_log_density_is_that_of_what_is_drawn(model, noise_covariance):
    # p(x) is the mean of p(x | z) over draws of codes, in the units of the data.
    X = curve(200) * [1.0, 10.0, 0.1] + [5.0, 0.0, -2.0]
    model = clone(model).set_params(noise_covariance=noise_covariance).fit(X)
    rng = np.random.RandomState(1)
    if model.latent_density_ is None:
        codes = rng.standard_normal((60_000, 2))
    else:
        codes = model.latent_density_.sample(60_000, random_state=rng)
    means = model.inverse_transform(codes)
    noise = np.sqrt(model.noise_variance_)
    for x in X[:6]:
        log_p = norm(means, noise).logpdf(x).sum(axis=1)
        expected = logsumexp(log_p) - math.log(len(codes))
        weights = np.exp(log_p - log_p.max())
        error = math.sqrt((weights**2).sum()) / weights.sum()  # of the mean of draws
        assert model.score_samples(x[None])[0] == pytest.approx(
            expected, abs=0.03 + 5 * error
        )


# -- what is answered ---------------------------------------------------------------


@pytest.mark.thorough
@one_model
def test_a_reconstruction_is_near_and_a_draw_has_noise(model):
    X = curve(300)
    model = clone(model).set_params(max_epochs=60, lr=1e-2).fit(X)
    again = model.inverse_transform(model.transform(X))
    assert ((again - X) ** 2).mean() < 0.2 * X.var(axis=0).mean()
    codes = model.sample_latent(5000, random_state=0)
    assert codes.shape == (5000, 2)
    means, draws = model.inverse_transform(codes), model.sample(5000, random_state=0)
    noise = draws.var(axis=0) - means.var(axis=0)
    np.testing.assert_allclose(noise, model.noise_variance_, rtol=0.3, atol=0.02)


def test_codes_of_the_latent_density_are_drawn():
    density = EMGaussianMixture(2, random_state=0)
    model = AutoEncoder(2, latent_density=density, **QUICK).fit(curve(200))
    codes = model.sample_latent(20_000, random_state=0)
    expected = model.latent_density_.weights_ @ model.latent_density_.means_
    np.testing.assert_allclose(codes.mean(axis=0), expected, atol=0.05)
    assert model.latent_density_ is not density
    assert not hasattr(density, "means_")


@pytest.mark.thorough
def test_the_noise_of_a_linear_model_is_counted_once():
    # A density fitted to the bare codes holds the noise, and the decoder adds it again:
    # for one factor the variance would be that of the codes, not less the noise.
    X = plane(2000, d=3, noise=1.0)
    model = AutoEncoder(
        1,
        hidden_layer_sizes=(),
        noise_covariance="spherical",
        latent_density=EMGaussianMixture(1),
        lr=1e-2,
        max_epochs=30,
        random_state=0,
    ).fit(X)
    draws = model.sample(100_000, random_state=0)
    top = np.linalg.eigvalsh(np.cov(X.T))[-1]
    assert np.linalg.eigvalsh(np.cov(draws.T))[-1] == pytest.approx(top, rel=0.03)
    bare = model.transform(X).var()
    assert model.latent_density_.covariances_.item() < 0.97 * bare


@pytest.mark.parametrize("likelihood", ["bernoulli", thorough("continuous_bernoulli")])
@one_model
def test_rows_in_the_unit_cube(model, likelihood):
    rng = np.random.RandomState(0)
    p = 1 / (1 + np.exp(3 - plane(200, 5)))
    X = (rng.uniform(size=p.shape) < p) * 1.0 if likelihood == "bernoulli" else p
    model = clone(model).set_params(likelihood=likelihood).fit(X)
    assert not hasattr(model, "noise_variance_")
    draws = model.sample(500)
    assert draws.min() >= 0
    assert draws.max() <= 1
    means = model.inverse_transform(model.transform(X))
    assert ((means > 0) & (means < 1)).all()
    scores = model.score_samples(X)
    order = rng.permutation(200)
    permuted = model.score_samples(X[order])
    np.testing.assert_allclose(permuted, scores[order], rtol=1e-12)
    if likelihood == "bernoulli":
        assert set(np.unique(draws)) == {0.0, 1.0}
        # All of the 32 rows that there are have a probability, and one in sum.
        every = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T
        assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=0.01)
    else:
        # Most of the mass is near 0 and 1, as is that of the arcsine density.
        x = np.sin(0.5 * np.pi * rng.uniform(size=(20_000, 5))) ** 2
        x = x.clip(1e-9, 1 - 1e-9)
        log_q = -np.log(np.pi * np.sqrt(x * (1 - x))).sum(axis=1)
        ratio = np.exp(model.score_samples(x) - log_q)
        error = ratio.std() / np.sqrt(ratio.size)
        assert error < 0.05
        assert abs(ratio.mean() - 1) < 5 * error + 0.01


def test_grey_values_are_drawn_anew_and_zeros_and_ones_are_not():
    grey = np.full((40, 3), 0.3)
    module = VAE(1, likelihood="bernoulli", **QUICK).fit(grey).net_.module_
    x = torch.tensor([[0.3] * 3] * 2000)
    generator = torch.Generator().manual_seed(0)
    first = module.likelihood.seen(x, generator)
    again = module.likelihood.seen(x, generator)
    assert first.mean() == pytest.approx(0.3, abs=0.02)
    assert (first != again).any()
    assert torch.equal(module.likelihood.seen(again, generator), again)


@pytest.mark.parametrize("shape", [(4, 5), thorough((2, 5, 2))])
@one_model
def test_images(model, shape):
    X = plane(20, 20)
    model = clone(model).set_params(image_shape=shape, max_epochs=1).fit(X)
    kinds = {type(layer) for layer in model.net_.module_.decoder.modules()}
    assert nn.ConvTranspose2d in kinds
    assert model.sample(3).shape == (3, 20)
    assert np.isfinite(model.score_samples(X)).all()


def network(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 7), nn.LayerNorm(7), nn.Linear(7, n_out))


@one_model
def test_networks_of_the_users_own(model):
    X = plane(80)
    n_encoded = 4 if isinstance(model, VAE) else 2
    own = network(6, n_encoded)
    before = [value.clone() for value in own.parameters()]
    model = clone(model).set_params(encoder=own, decoder=network).fit(X)
    for old, now in zip(before, own.parameters(), strict=True):
        assert torch.equal(old, now)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))


@one_model
def test_activations_that_work_in_place(model):
    X = plane(80)
    n_encoded = 4 if isinstance(model, VAE) else 2
    scores = []
    for inplace in (False, True):
        torch.manual_seed(0)
        encoder = nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(inplace), nn.Linear(8, n_encoded)
        )
        decoder = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace), nn.Linear(8, 6))
        own = clone(model).set_params(encoder=encoder, decoder=decoder).fit(X)
        scores.append(own.score_samples(X))
    np.testing.assert_array_equal(*scores)


@one_model
def test_own_networks_are_trained_whatever_the_default_dtype_of_pytorch(model):
    X = np.random.RandomState(0).normal(size=(40, 6))
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            own = clone(model).set_params(encoder=nn.Linear, max_epochs=1).fit(X)
        finally:
            torch.set_default_dtype(torch.float32)
        assert {p.dtype for p in own.net_.module_.parameters()} == {torch.float32}
        assert np.isfinite(own.score_samples(X)).all()


@one_model
def test_fits_in_threads_are_alike(model):
    def with_dropout(n_in, n_out):
        layers = nn.Linear(n_in, 8), nn.Dropout(0.2), nn.Linear(8, n_out)
        return nn.Sequential(*layers)

    X, stop = plane(60), threading.Event()

    def fit(encoder):
        own = clone(model).set_params(encoder=encoder, max_epochs=1, random_state=0)
        own.fit(X)
        values = own.net_.module_.state_dict().values()
        return [value.tolist() for value in values]

    def draws():
        while not stop.is_set():
            torch.rand(3)

    alone = [fit(encoder) for encoder in (None, with_dropout)]
    before = torch.random.get_rng_state()
    assert fit(with_dropout) == alone[1]
    assert torch.equal(before, torch.random.get_rng_state())
    other = threading.Thread(target=draws)
    other.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            fits = list(pool.map(fit, 2 * [None, with_dropout]))
    finally:
        stop.set()
        other.join()
    assert fits == 2 * alone


# -- streams, stops, and other densities ----------------------------------------------


@one_model
def test_a_stream_of_blocks_is_learned(model):
    X = plane(400)
    model = clone(model).set_params(lr=1e-2)
    for block in np.split(X, 10):
        model.partial_fit(block)
    first = clone(model).partial_fit(X[:40]).score(X)
    assert model.score(X) > first
    assert model.n_iter_ == 10


@pytest.mark.thorough
@every_model
@pytest.mark.parametrize("first", ["blocks", "fit"])
def test_a_small_block_does_not_set_noise_and_density_alone(model, first):
    X, held_out = plane(400), plane(200, seed=0) + 0.1
    model = clone(model).set_params(lr=1e-2)
    if first == "fit":
        model.fit(X)
    for block in np.split(X, 4) if first == "blocks" else []:
        model.partial_fit(block)
    before = model.score(held_out)
    model.partial_fit(X[:1])
    assert model.score(held_out) == pytest.approx(before, abs=0.5)
    again = pickle.loads(pickle.dumps(model))
    for copied in (model, again):
        copied.partial_fit(X[1:2])
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))


def sampled(model, X):
    """Return the sample of a stream of rows that an autoencoder draws from a block."""
    return model._sampled(torch.as_tensor(X), np.random.RandomState(0))


def test_the_sample_of_a_stream_is_uniform_and_bounded():
    model, counts = clone(EVERY[0]).fit(plane(60)), np.zeros(9000)
    for seed in range(40):
        sample = None
        blocks = torch.arange(9000.0)[:, None].split([1, 999, 5000, 3000])
        for i, block in enumerate(blocks):
            model.net_.n_steps_ = 10 * seed + i
            new = sampled(model, block)
            sample = new if sample is None else sample + new
        kept = sample.X[:, 0].astype(int)
        assert kept.size == np.unique(kept).size == 2000
        counts[kept] += 1
    # Of each thousand rows as many as of any other.
    of_each = counts.reshape(9, 1000).sum(axis=1)
    assert (np.abs(of_each - 80_000 / 9) < 5 * np.sqrt(80_000 / 9)).all()
    assert len(sampled(model, np.zeros((3000, 10_000))).X) == 200


def test_a_stream_extends_its_sample():
    X = plane(5_000)
    model = clone(EVERY[1]).set_params(batch_size=1_000).fit(X[:100])
    for block in (X[100:700], X[700:]):
        model.partial_fit(block)
    rows = model._coordinates.standardized(X).astype(np.float32)
    places = [np.flatnonzero((rows == row).all(axis=1)) for row in model._reservoir.X]
    assert {place.size for place in places} == {1}
    thirds = np.histogram(np.concatenate(places), [0, 1_000, 3_000, 5_000])[0]
    assert np.abs(thirds - [400, 800, 800]).max() < 100


@every_model
def test_a_density_for_one_row_is_refused(model):
    model = clone(model).fit(plane(60))
    message = rf"'X' argument of {type(model).__name__}.fit_latent_density must have at"
    with pytest.raises(ValueError, match=message):
        model.fit_latent_density(plane(60)[:1])


@every_model
def test_codes_keep_their_size_where_the_parameter_changes(model):
    X = plane(60)
    model = clone(model).fit(X).set_params(n_components=4).fit_latent_density(X)
    assert model.sample_latent(3).shape == (3, 2)
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("value", [-5, "a", 2.5, None])
@one_model
def test_a_number_of_samples_that_is_set_after_the_fit_is_checked(model, value):
    model = clone(model).fit(plane(60)).set_params(n_importance_samples=value)
    message = "'n_importance_samples' parameter of .* must be an int of at least 0"
    for method in (model.score_samples, model.score):
        with pytest.raises(ValueError, match=message):
            method(plane(4))
    assert model.sample(2).shape == (2, 6)


def test_a_warm_start_knows_equal_parameters_of_arrays_and_sequences():
    X, samples = plane(60), np.random.RandomState(0).standard_normal((50, 2))
    model = SWAE(2, prior=samples, warm_start=True, net_params={"verbose": 0}, **QUICK)
    model.set_params(max_epochs=1).fit(X)
    model.set_params(prior=samples.copy(), hidden_layer_sizes=[8]).fit(X)
    model.set_params(prior=samples.tolist(), net_params={"verbose": 0}).fit(X)
    assert model.partial_fit(X).n_iter_ == 4
    for prior in (samples + 1, samples[:9], "normal", samples.tolist()[:9]):
        with pytest.raises(ValueError, match=r"continues a model.*prior="):
            model.set_params(prior=prior).fit(X)
        with pytest.raises(ValueError, match=r"continues a model.*prior="):
            model.partial_fit(X)


@one_model
def test_warm_start_goes_on(model):
    X = plane(200)
    model = clone(model).set_params(warm_start=True).fit(X)
    first = model.history_[0]["train"]
    model.fit(X)
    assert len(model.history_) == 30
    assert model.history_[15]["train"] < first
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model.set_params(hidden_layer_sizes=(9,)).fit(X)


@pytest.mark.parametrize("kind", [VAE, *map(thorough, [AutoEncoder, SWAE, RAE])])
@pytest.mark.parametrize(
    ("shift", "scale"),
    [
        *[(1e6, 1.0), (0, 1e-4)],
        *starmap(thorough, [(0, 1e3), (-40, 1), (1e6, 1e3), (1e9, 1), (0.1, 1e-7)]),
    ],
)
def test_rows_that_moved_start_again(kind, shift, scale):
    X, options = plane(40), {**QUICK, "max_epochs": 1}
    model = kind(2, warm_start=True, **options).fit(X)
    moved = scale * X + shift
    with pytest.warns(ConvergenceWarning, match=r"\.fit continues.*starts again"):
        model.fit(moved)
    expected = kind(2, **options).fit(moved).noise_variance_
    np.testing.assert_array_equal(model.noise_variance_, expected)
    with pytest.warns(ConvergenceWarning, match=r"\.partial_fit con.*starts again"):
        model.partial_fit(1e3 * moved + 1e7)
    assert len(model.history_) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = 1e3 * moved + 1e7 + 1e3 * scale
        model.partial_fit(np.vstack([moved, moved[:1] + 1e9]))  # one far row


class Broken(BaseEstimator):
    """A density that cannot be fitted."""

    def fit(self, X, y=None):
        raise RuntimeError("no such density")

    def score_samples(self, X):
        return np.zeros(len(X))

    def sample(self, n_samples=1, random_state=None):
        return np.zeros((n_samples, 2))


@pytest.mark.parametrize("kind", [thorough(AutoEncoder), VAE])
def test_a_density_that_fails_keeps_the_networks(kind):
    X = plane(80)
    model = kind(2, latent_density=Broken(), **QUICK)
    with pytest.raises(ValueError, match=r"are trained and kept.*no such density"):
        model.fit(X)
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    assert len(model.history_) == 15
    with pytest.raises(NotFittedError, match="fit_latent_density"):
        model.score_samples(X)
    model.set_params(latent_density=EMGaussianMixture(2, random_state=0))
    assert np.isfinite(model.fit_latent_density(X).score(X))


class Unusable(Broken):
    """A density that can be fitted, and then not be used."""

    def __init__(self, how="scores"):
        self.how = how

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        if self.how == "scores":
            return np.full(len(X), np.nan)
        return np.zeros((len(X), 1) if self.how == "shape" else len(X))

    def sample(self, n_samples=1, random_state=None):
        return np.zeros((n_samples, 3 if self.how == "draws" else 2))


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["scores", thorough("shape"), thorough("draws")])
def test_a_density_that_cannot_be_used_keeps_the_networks(how):
    X = plane(80)
    model = AutoEncoder(2, latent_density=Unusable(how), **QUICK)
    with pytest.raises(ValueError, match=r"trained and kept, but Unusable\(.*density"):
        model.fit(X)
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    with pytest.raises(NotFittedError, match="fit_latent_density"):
        model.sample()
    model.set_params(latent_density=EMGaussianMixture(1))
    scores = model.fit_latent_density(X).score_samples(X)
    with pytest.raises(ValueError, match=r"trained and kept, but Unusable\("):
        model.set_params(latent_density=Unusable(how)).fit_latent_density(X)
    np.testing.assert_array_equal(model.score_samples(X), scores)
    with pytest.raises(ValueError, match=r"trained and kept, but Unusable\("):
        model.partial_fit(X)
    assert len(model.history_) == 16


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@every_model
def test_what_fails_after_training_keeps_the_networks(model, method, monkeypatch):
    def fails(*args):
        raise RuntimeError("no such noise")

    X, model = plane(80), clone(model)
    monkeypatch.setattr("skgen.autoencoder._base.calibrate", fails)
    with pytest.raises(ValueError, match=r"are trained and kept.*no such noise"):
        getattr(model, method)(X)
    monkeypatch.undo()
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    with pytest.raises(NotFittedError, match="fit_latent_density"):
        model.score_samples(X)
    assert np.isfinite(model.fit_latent_density(X).score(X))


@pytest.mark.thorough
def test_another_density_for_the_same_networks():
    X = curve(200)
    model = AutoEncoder(2, latent_density=EMGaussianMixture(1), **QUICK)
    model.set_params(max_epochs=80, lr=1e-2).fit(X)
    net, before = model.net_, model.score(X)
    model.set_params(latent_density=EMGaussianMixture(5, random_state=0))
    assert model.score(X) == before
    assert model.fit_latent_density(X).score(X) > before + 0.1
    assert model.net_ is net


def test_held_out_rows_stop_the_training():
    X = plane(300)
    model = VAE(
        2,
        hidden_layer_sizes=(64,),
        lr=1e-2,
        max_epochs=300,
        early_stopping=True,
        n_iter_no_change=5,
        random_state=0,
    ).fit(X)
    losses = [epoch["validation"] for epoch in model.history_]
    assert len(losses) < 300
    assert np.argmin(losses) == len(losses) - 6


# -- parameters reach what they are about ------------------------------------------


@pytest.mark.thorough
def test_the_weight_of_the_divergence_reaches_the_loss():
    X, sizes = plane(200), []
    for beta in (0.0, 1.0, 1000.0):
        model = VAE(2, beta=beta, **QUICK).set_params(max_epochs=60).fit(X)
        assert model.net_.module_.beta == beta
        sizes.append(model.transform(X).std())
    assert sizes[0] > sizes[1] > 10 * sizes[2]


@pytest.mark.thorough
def test_weights_make_codes_and_decoders_smaller():
    X = np.random.RandomState(0).standard_normal((200, 3))

    def sizes(**params):
        model = RAE(2, **QUICK, **params).fit(X)
        weights = model.net_.module_.decoder.parameters()
        return np.square(model.transform(X)).mean(), sum(
            float(p.detach().square().sum()) for p in weights
        )

    codes, decoder = sizes(code_weight=0, decoder_decay=0)
    small_codes, large_decoder = sizes(code_weight=1.0, decoder_decay=0)
    assert small_codes < 0.5 * codes
    assert large_decoder > decoder
    assert sizes(code_weight=0, decoder_decay=0.1)[1] < 0.5 * decoder


def test_the_number_of_draws_reaches_the_loss():
    X = plane(100)
    histories = []
    for n_importance in (1, 4):
        model = VAE(2, n_importance=n_importance, **QUICK).fit(X)
        assert model.net_.module_.n_importance == n_importance
        histories.append([epoch["train"] for epoch in model.history_])
    assert (np.array(histories[0]) != histories[1]).all()


@pytest.mark.thorough
def test_the_weight_of_the_distance_reaches_the_loss():
    X, distances = curve(200), []
    samples = 5 + np.random.RandomState(0).standard_normal((100, 2))
    for weight in (0.0, 100.0):
        model = SWAE(2, prior=samples, swd_weight=weight, n_projections=7, **QUICK)
        model.set_params(max_epochs=60).fit(X)
        module = model.net_.module_
        assert (module.weight, module.n_projections) == (weight, 7)
        distances.append(np.abs(model.transform(X).mean(axis=0) - 5).max())
    assert distances[0] > 2
    assert distances[1] < 0.5


@one_model
def test_rows_held_out_have_no_part_in_noise_and_density(model):
    model = clone(model).set_params(early_stopping=True, validation_fraction=0.25)
    model.fit(plane(200))
    assert model._inference.codes.shape == (150, 2)
    model.set_params(early_stopping=False).fit(plane(200))
    assert model._inference.codes.shape == (200, 2)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
@every_model
def test_decoders_of_the_unit_cube_start_at_the_mean(model, likelihood):
    X = np.random.RandomState(0).uniform(size=(100, 4)) ** [1, 2, 4, 8]
    model = clone(model).set_params(
        likelihood=likelihood, hidden_layer_sizes=(), lr=1e-9, max_epochs=1
    )
    bias = model.fit(X).net_.module_.decoder[-1].bias.detach().numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), X.mean(axis=0), rtol=1e-5)


@every_model
def test_constant_features_are_drawn_with_the_noise_of_the_floor(model):
    X = np.column_stack([plane(200), np.full(200, 7.0)])
    with pytest.warns(DataDimensionalityWarning, match="Constant"):
        model = clone(model).fit(X)
    with pytest.warns(DataDimensionalityWarning, match="Constant"):
        floor = EMGaussianMixture(1).fit(X).covariances_[0, -1, -1]
    assert model.noise_variance_[-1] == pytest.approx(floor)
    drawn = model.sample(20_000, random_state=0)[:, -1]
    assert drawn.mean() == pytest.approx(7, abs=5 * math.sqrt(floor / 20_000))
    assert drawn.var() == pytest.approx(floor, rel=0.05)


# -- bad input -----------------------------------------------------------------------


BAD = {
    "n_components": (0, "an int of at least 1"),
    "hidden_layer_sizes": (8, "a tuple of ints"),
    "activation": ("relux", "one of 'relu'"),
    "image_shape": ((2, 2, 2, 2), r"\(height, width\)"),
    "likelihood": ("normal", "one of 'gaussian'"),
    "noise_covariance": ("full", "one of 'diag'"),
    "n_importance_samples": (-1, "an int of at least 0"),
    "n_iter_no_change": (0, "an int of at least 1"),
    "encoder": (3, "None, a torch.nn.Module"),
    "decoder": (nn.Linear(2, 5), r"a module that maps .*\(n, 2\) to one of \(n, 6\)"),
    "batch_size": (0, "'auto' or an int"),
    "lr": (0, "a finite number above 0"),
    "device": ("tpu", "'cpu'"),
}


@every_model
@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_named(model, name):
    value, rule = BAD[name]
    model = clone(model).set_params(**{name: value})
    message = f"(?s)'{name}' parameter of {type(model).__name__} must be .*{rule}.* Got"
    with pytest.raises(ValueError, match=message):
        model.fit(plane(40))


@pytest.mark.parametrize(
    ("model", "name", "rule"),
    [
        (VAE(beta=-1), "beta", "at least 0"),
        (RAE(code_weight=-1), "code_weight", "at least 0"),
        (RAE(decoder_decay=None), "decoder_decay", "at least 0"),
        (VAE(n_importance=0), "n_importance", "an int of at least 1"),
        (VAE(latent_density=3), "latent_density", "None or an estimator"),
        (AutoEncoder(latent_density=PCA), "latent_density", "None or an estimator"),
        (SWAE(swd_weight=-1), "swd_weight", "at least 0"),
        (SWAE(n_projections=0), "n_projections", "an int of at least 1"),
        (SWAE(prior="gauss"), "prior", "one of 'normal', 'uniform', 'ring'"),
        (SWAE(prior=GaussianKDE()), "prior", "a fitted density of 2.*not fitted"),
        (
            SWAE(prior=GaussianKDE().fit(plane(9, 3))),
            "prior",
            "of 2 features.*one of 3",
        ),
        (SWAE(prior=np.ones((9, 3))), "prior", r"shape \(n, 2\)"),
        (SWAE(image_shape=(2, 2)), "image_shape", "product is the number of features"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_parameters_of_one_model_are_named(model, name, rule):
    message = f"(?s)'{name}' parameter of {type(model).__name__} must be .*{rule}"
    with pytest.raises(ValueError, match=message):
        model.fit(plane(40))


@every_model
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_rows_outside_the_unit_cube_are_named(model, likelihood):
    model = clone(model).set_params(likelihood=likelihood)
    message = r"'X' argument of .* must lie in \[0, 1\].*Got values from"
    with pytest.raises(ValueError, match=message):
        model.fit(plane(40))
    model.fit(np.random.RandomState(0).uniform(size=(40, 6)))
    with pytest.raises(ValueError, match=message):
        model.score_samples(plane(4))


@every_model
def test_one_row_is_refused(model):
    with pytest.raises(ValueError, match=r"at least 2 rows.*1 sample"):
        clone(model).fit(plane(40)[:1])


@every_model
def test_more_codes_than_features_are_allowed_and_named(model):
    with pytest.warns(DataDimensionalityWarning, match="n_components=2"):
        model = clone(model).fit(plane(60)[:, :1])
    assert np.isfinite(model.score_samples(plane(9)[:, :1])).all()


@pytest.mark.thorough
@one_model
def test_constant_features_have_the_shared_floor(model):
    X = plane(200)
    gains = []
    for table in (X, np.column_stack([X, np.full(200, 7.0)])):
        mixture = EMGaussianMixture(1)
        if table is not X:
            with pytest.warns(DataDimensionalityWarning, match="Constant"):
                mixture.fit(table)
            with pytest.warns(DataDimensionalityWarning, match="Constant"):
                autoencoder = clone(model).fit(table)
        else:
            mixture.fit(table)
            autoencoder = clone(model).fit(table)
        gains.append((mixture.score(table), autoencoder.score(table)))
    floor = gains[1][0] - gains[0][0]
    # The networks have one more input: not the same fit, but the same floor.
    assert gains[1][1] - gains[0][1] == pytest.approx(floor, abs=1.5)
    assert floor > 3


@every_model
def test_a_loss_that_is_no_number_is_named(model):
    model = clone(model).set_params(lr=1e30, optimizer="sgd")
    with pytest.raises(FloatingPointError, match="became NaN"):
        model.fit(plane(200))


@pytest.mark.thorough
def test_laplace_alone_needs_a_smooth_prior():
    model = SWAE(2, prior="ring", n_importance_samples=0, **QUICK).fit(plane(60))
    message = "'n_importance_samples' parameter of SWAE must be at least 1"
    with pytest.raises(ValueError, match=message):
        model.score_samples(plane(4))
    model = AutoEncoder(2, n_importance_samples=0, **QUICK).fit(plane(60))
    assert np.isfinite(model.score_samples(plane(4))).all()


@pytest.mark.parametrize(
    "prior", ["uniform", *map(thorough, ["ring", "samples", "density"])]
)
def test_priors_of_a_sliced_autoencoder(prior):
    rng = np.random.RandomState(0)
    given = {
        "samples": rng.standard_normal((300, 2)),
        "density": EMGaussianMixture(2, random_state=0).fit(rng.normal(size=(300, 2))),
    }.get(prior, prior)
    X = curve(300)
    model = SWAE(2, prior=given, **QUICK).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    codes = model.sample_latent(2000, random_state=0)
    if prior == "ring":
        radius = np.linalg.norm(codes, axis=1)
        assert ((radius >= 0.8) & (radius <= 1.2)).all()
    elif prior == "uniform":
        assert (np.abs(codes) <= 1).all()
    else:
        np.testing.assert_allclose(codes.std(axis=0), 1, atol=0.15)
    assert (model.latent_density_ is None) == (prior in ("uniform", "ring"))


def test_a_fitted_prior_survives_a_search_in_a_frozen_estimator():
    density = EMGaussianMixture(2, random_state=0).fit(plane(100, 2))
    X = curve(120)
    with pytest.raises(ValueError, match="FrozenEstimator"):
        clone(SWAE(2, prior=density, **QUICK)).fit(X)
    model = clone(SWAE(2, prior=FrozenEstimator(density), **QUICK)).fit(X)
    assert np.isfinite(model.score(X))
    codes = model.sample_latent(5000, random_state=0)
    expected = density.weights_ @ density.means_
    np.testing.assert_allclose(codes.mean(axis=0), expected, atol=0.2)


@pytest.mark.parametrize(
    ("kernels", "k"),
    [
        (GaussianKDE(0.3), 2),
        (GaussianKDE(covariance_type="spherical"), 2),
        (GaussianKDE(covariance_type="full"), 1),
        (GaussianKDE([0.3]), 1),
    ],
    ids=["number", "spherical", "full", "array"],
)
def test_few_round_kernels_are_a_mixture_to_steer_by(kernels, k):
    kernels = clone(kernels).fit(plane(80, k))
    z = kernels.sample(40, random_state=0)
    for density in (kernels, FrozenEstimator(kernels)):
        prior = as_prior(density, z)
        assert isinstance(prior, RoundMixture)
        found = prior.log_density(torch.from_numpy(z))
        np.testing.assert_allclose(found, kernels.score_samples(z), rtol=1e-9)


class Shifted(GaussianKDE):
    """A density of another class than that of its kernels."""


@pytest.mark.parametrize(
    ("kernels", "n"),
    [
        (GaussianKDE(0.3), 600),
        (GaussianKDE([0.3, 0.4]), 80),
        (GaussianKDE(covariance_type="full"), 80),
        (GaussianKDE(0.3, bounds=(-9, None)), 80),
        (Shifted(0.3), 80),
    ],
    ids=["many", "not round", "full", "bounds", "another class"],
)
def test_other_kernels_are_scored_as_any_density(kernels, n):
    kernels = clone(kernels).fit(plane(n, 2))
    assert isinstance(as_prior(kernels, plane(9, 2)), AnyDensity)


def test_kernels_of_unequal_weights_are_scored_as_any_density():
    kernels = GaussianKDE(0.3).fit(plane(80, 2), sample_weight=np.arange(80) + 1.0)
    assert isinstance(as_prior(kernels, plane(9, 2)), AnyDensity)


class Wrong(EMGaussianMixture):
    """A mixture that draws or scores what it should not."""

    def __init__(self, draws=None, scores=None):
        super().__init__()
        self.draws, self.scores = draws, scores

    def sample(self, n_samples=1, *, random_state=None):
        return np.full((n_samples, 2), 0.0) if self.draws is None else self.draws

    def score_samples(self, X):
        return np.zeros(len(X)) if self.scores is None else self.scores


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Wrong(draws=np.zeros((4, 3))), r"shape \(4, 3\)"),
        (Wrong(draws=np.full((4, 2), np.nan)), "finite"),
        (Wrong(scores=np.full(4, -np.inf)), "score_samples of 4 draws.*inf"),
        (Wrong(scores=np.zeros(3)), "score_samples of 4 draws"),
    ],
    ids=["shape", "NaN", "infinite", "too few"],
)
def test_a_prior_that_does_not_serve_is_named_before_training(wrong, what):
    prior = wrong.fit(plane(80, 2))
    del prior.weights_  # or its components would be taken for it
    model = SWAE(2, prior=prior, max_epochs=10**9, random_state=0)
    message = f"(?s)'prior' parameter of SWAE must be .*cannot be used.*{what}"
    with pytest.raises(ValueError, match=message):
        model.fit(plane(40))


@pytest.mark.parametrize("k", [1, thorough(3), thorough(9)])
@pytest.mark.parametrize(
    "density", [None, thorough(GaussianKDE())], ids=["mixture", "kernels"]
)
def test_a_row_is_scored_alone_whatever_the_code_and_its_density(density, k):
    X = plane(60, d=10)
    model = AutoEncoder(k, latent_density=density, **QUICK).fit(X)
    together = model.score_samples(X)
    order = np.random.RandomState(0).permutation(60)
    permuted = model.score_samples(X[order])
    np.testing.assert_allclose(permuted, together[order], rtol=1e-12)
    alone = [model.score_samples(X[i : i + 1])[0] for i in range(8)]
    np.testing.assert_allclose(alone, together[:8], rtol=1e-12)


@pytest.mark.thorough
def test_a_refit_of_the_density_that_fails_loses_nothing():
    X = plane(80)
    model = AutoEncoder(2, **QUICK).fit(X)
    before = model.score(X)
    with pytest.raises(ValueError, match="no such density"):
        model.set_params(latent_density=Broken()).fit_latent_density(X)
    assert model.score(X) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_model
def test_cuda_scores_as_the_cpu(model):
    X = curve(200)
    model = clone(model).set_params(device="cuda").fit(X)
    scores = model.score_samples(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.score_samples(X), scores, atol=1e-4)


@pytest.mark.parametrize("cls", [thorough(AutoEncoder), VAE, thorough(SWAE)])
@pytest.mark.parametrize("noise", ["diag", thorough("spherical")])
def test_one_far_row_does_not_set_the_noise_of_the_others(cls, noise):
    X = normal_rows(300, 2)
    model = cls(1, noise_covariance=noise, hidden_layer_sizes=(8,), random_state=0)
    model.set_params(max_epochs=20, lr=0.02)
    expected = clone(model).fit(X).score(X)
    far = np.vstack([X, [1e6, -1e6]])
    assert model.fit(far).score(X) > expected - 1
    assert (
        model.fit_latent_density(far).score(X) > expected - 1
    )  # without limits, 7 nats
    assert model.score_samples(far)[-1] < -1e6


def test_a_heavy_tail_is_no_outlier():
    tail = np.exp(3 * np.random.RandomState(0).standard_normal((400, 2)))
    model = VAE(1, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(tail)
    assert np.isinf(model._coordinates.limits).all()
    np.testing.assert_allclose(model._coordinates.whitening.scale, tail.std(axis=0))
