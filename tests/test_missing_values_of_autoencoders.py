"""Autoencoders and NaN: formulas, closed forms of linear models, quadrature, fits."""

import math
import pickle

import numpy as np
import pytest
import skops.io
import torch
from estimators import FLOWS, over, rows, thorough
from scipy.special import expit, logsumexp
from scipy.stats import kstest, multivariate_normal, norm
from sklearn.base import clone
from test_autoencoder_formulas import every_family, likelihood, rows_of, tensor

import skgen
from skgen import RAE, SWAE, VAE, AutoEncoder, EMGaussianMixture, GaussianKDE
from skgen.autoencoder._calibration import linear_em
from skgen.autoencoder._conditional import resampled
from skgen.autoencoder._likelihood import ContinuousBernoulli, Gaussian, Observed
from skgen.autoencoder._vae import Variational, kl_to_standard_normal

TINY = {"hidden_layer_sizes": (6,), "max_epochs": 15, "random_state": 0}


def holes(X, fraction, seed=0):
    """Return a copy of rows with NaN at random."""
    hidden = np.random.RandomState(seed).uniform(size=X.shape) < fraction
    return np.where(hidden, np.nan, X)


# -- likelihoods of the observed features ------------------------------------------


def with_holes(family, rng, n=6):
    """Return a likelihood, rows with and without NaN, decoder outputs and the mask."""
    x, a = rows_of(family, rng, (n, 4)), tensor(2 * rng.standard_normal((n, 4)))
    seen = torch.from_numpy(rng.uniform(size=(n, 4)) < 0.6)
    seen[0], seen[1] = False, True
    return likelihood(family, 4), torch.where(seen, x, torch.nan), x, a, seen


@every_family
def test_the_density_of_observed_features_is_the_sum_of_their_terms(family, rng):
    model, x, whole, a, seen = with_holes(family, rng)
    found = Observed(model).log_density(x, a)
    for i, mask in enumerate(seen):
        one = likelihood(family, 4)
        if family == "gaussian":
            one.variance = one.variance[mask]
        expected = one.log_density(whole[i, mask], a[i, mask])
        torch.testing.assert_close(found[i], expected)
    assert found[0] == 0
    # Codes in front of the rows.
    found = Observed(model).log_density(x, torch.stack([a, a + 1]))
    torch.testing.assert_close(found[1], Observed(model).log_density(x, a + 1))


@every_family
def test_slope_and_curvature_of_missing_features_are_zero(family, rng):
    model, x, _, a, seen = with_holes(family, rng)
    a.requires_grad_()
    (slope,) = torch.autograd.grad(Observed(model).log_density(x, a).sum(), a)
    torch.testing.assert_close(Observed(model).slope(x, a), slope)
    a = a.detach()
    found = Observed(model).curvature(x, a)
    torch.testing.assert_close(found[seen], model.information(a)[seen])
    assert (found[~seen] == 0).all()


@every_family
def test_natural_parameters_of_the_mask_make_up_the_density(family, rng):
    model, x, _, a, _ = with_holes(family, rng)
    observed = Observed(model)
    eta, log_normalizer = observed.natural(a)
    found = (observed.statistics(x) * eta).sum(-1) - log_normalizer + observed.base(x)
    torch.testing.assert_close(found, observed.log_density(x, a))


@every_family
def test_training_sees_no_value_where_none_was_observed(family, rng):
    model, x, *_, seen = with_holes(family, rng)
    found = Observed(model).seen(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.isnan(), ~seen)


@pytest.mark.parametrize("shared", [False, True])
def test_noise_follows_the_residuals_of_observed_features(shared, rng):
    x = holes(rng.standard_normal((50, 3)) * [1, 2, 3], 0.4)
    x[:, 2] = np.nan
    a = rng.standard_normal((2, 50, 3))
    model = Gaussian(3, shared, floor=1e-8, learned=True).double().train()
    model.set_variance(tensor([0.7, 0.7, 0.7]))
    Observed(model).follow(tensor(x), tensor(a))
    squares = np.square(x - a)
    expected = np.nanmean(squares[..., :2], axis=(0, 1))
    if shared:
        expected = np.full(3, np.nanmean(squares))
    else:
        expected = np.append(expected, 0.7)
    np.testing.assert_allclose(model.variance, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_em_of_incomplete_rows_is_at_the_maximum(shared, rng):
    J = np.array([[1.0, -0.5, 2.0, 0.7]])
    x = 0.5 + 1.4 * rng.standard_normal((400, 1)) @ J
    x = holes(x + rng.standard_normal(x.shape), 0.4)
    model = Gaussian(4, shared, floor=1e-8, learned=False).double()
    zero = torch.zeros(400, 1, dtype=torch.float64)
    mean, precision = linear_em(
        *(tensor(x), zero, zero @ tensor(J), tensor(J).expand(400, 1, 4), model),
        *(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64)),
        learns_prior=True,
    )

    def log_likelihood(mean, log_variance, log_noise):
        covariance = math.exp(log_variance) * J.T @ J + np.diag(np.exp(log_noise))
        return marginals(x, mean * J[0], covariance).sum()

    best = float(mean), -math.log(precision), np.log(model.variance.numpy())
    at_best = log_likelihood(*best)
    noises = [np.ones(4)] if shared else np.eye(4)
    steps = [(1, 0, 0), (0, 1, 0), *((0, 0, e) for e in noises)]
    for step in steps:
        for size in (-0.03, 0.03):
            moved = [b + size * np.asarray(s) for b, s in zip(best, step, strict=True)]
            assert log_likelihood(*moved) < at_best + 1e-3


def marginals(X, mean, covariance):
    """Return log-densities (n,) of the observed entries of normal rows."""
    answers = np.zeros(len(X))
    for i, x in enumerate(X):
        o = ~np.isnan(x)
        if o.any():
            of_row = multivariate_normal(mean[o], covariance[np.ix_(o, o)])
            answers[i] = of_row.logpdf(x[o])
    return answers


@pytest.mark.parametrize("logit", [-40.0, -0.05, 0.0, 3.0])
def test_the_distribution_function_of_the_continuous_bernoulli(logit):
    model, a = ContinuousBernoulli().double(), tensor([logit])
    assert [float(model.cdf(x, a)) for x in (-0.5, 0.0)] == [0, 0]
    for x in (1.0, 1.5):
        np.testing.assert_allclose(float(model.cdf(x, a)), 1, rtol=1e-12)
    for x in (0.1, 0.7):
        expected = np.expm1(logit * x) / np.expm1(logit) if logit else x
        np.testing.assert_allclose(float(model.cdf(x, a)), expected, rtol=1e-9)


def test_resampling_draws_each_item_by_its_weight():
    weights = torch.tensor([[0.5, 0.3, 0.0, 0.2], [0.0, 0.0, 1.0, 0.0]]).double()
    chosen = resampled(weights, 10, np.random.RandomState(0))
    counts = np.array([np.bincount(row, minlength=4) for row in chosen])
    assert (np.abs(counts - 10 * weights.numpy()) <= 1).all()
    assert (np.diff(chosen[0]) < 0).any()  # in random order


# -- closed forms of linear models -------------------------------------------------


def linear(cls=VAE, **parameters):
    """Return a linear model of four features, its mean and its covariance."""
    X = rows(150, 4) * [1.0, 20.0, 0.1, 3.0]
    parameters = {"max_epochs": 15, "random_state": 0, **parameters}
    if cls is not VAE:
        parameters["latent_density"] = EMGaussianMixture(1)
    model = cls(2, hidden_layer_sizes=(), **parameters).fit(X)
    decoder, prior = model._inference.module.decoder[0], model._inference.prior
    W, b = decoder.weight.numpy(), decoder.bias.numpy()
    scale, centre = (
        model._coordinates.whitening.scale,
        model._coordinates.whitening.mean,
    )
    of_codes = np.linalg.inv(prior.precisions[0].numpy())
    mean = centre + scale * (W @ prior.means[0].numpy() + b)
    W = scale[:, None] * W
    covariance = W @ of_codes @ W.T + np.diag(np.full(4, 1) * model.noise_variance_)
    return model, mean, covariance, W @ of_codes


@pytest.mark.parametrize(
    ("cls", "noise"), [(VAE, "diag"), (AutoEncoder, "spherical"), (RAE, "diag")]
)
def test_linear_models_have_the_answers_of_one_normal(cls, noise):
    model, mean, covariance, of_codes = linear(cls, noise_covariance=noise)
    X = holes(rows(30, 4, seed=1) * [1.0, 20.0, 0.1, 3.0], 0.4)
    found = model.score_samples(X)
    np.testing.assert_allclose(found, marginals(X, mean, covariance), atol=1e-6)
    prior = model._inference.prior.means[0].numpy()
    filled, codes = model.impute(X), model.transform(X)
    for i, x in enumerate(X):
        o = ~np.isnan(x)
        if o.all():
            continue
        slopes = np.linalg.solve(covariance[np.ix_(o, o)], (x - mean)[o])
        expected = mean[~o] + covariance[np.ix_(~o, o)] @ slopes
        np.testing.assert_allclose(filled[i, ~o], expected, rtol=1e-6)
        np.testing.assert_allclose(
            codes[i], prior + of_codes[o].T @ slopes, rtol=1e-6, atol=1e-6
        )
    # Draws, and the distribution of one feature.
    x, o, m = X[np.isnan(X).sum(axis=1) == 2][0], None, None
    o, m = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
    slopes = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
    centre = mean[m] + slopes @ (x - mean)[o]
    spread = covariance[np.ix_(m, m)] - slopes @ covariance[np.ix_(o, m)]
    draws = model.sample_conditional(x[None], 4000, random_state=0)[:, 0, m]
    white = (draws - centre) @ np.linalg.inv(np.linalg.cholesky(spread)).T
    assert kstest(white.ravel(), norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(white.T)[0, 1]) < 5 / math.sqrt(4000)
    one = model.condition(x).marginal(0)
    expected = norm(centre[0], math.sqrt(spread[0, 0]))
    t = expected.ppf([0.01, 0.3, 0.9])
    np.testing.assert_allclose(one.cdf(t[:, None]), [0.01, 0.3, 0.9], rtol=1e-6)
    np.testing.assert_allclose(one.quantile([0.01, 0.3, 0.9]), t, rtol=1e-6)
    np.testing.assert_allclose(
        one.score_samples(t[:, None]), expected.logpdf(t), atol=1e-6
    )


# -- quadrature over codes of one dimension ----------------------------------------

KINDS = [
    VAE(1, **TINY),
    VAE(1, likelihood="bernoulli", **TINY),
    SWAE(1, prior="uniform", likelihood="continuous_bernoulli", **TINY),
    AutoEncoder(1, **TINY),
    SWAE(1, prior="ring", **TINY),
    AutoEncoder(1, latent_density=GaussianKDE(), **TINY),
]
every_kind = over(KINDS, KINDS[:2])
_FITTED = {}


def table(model, n=150, seed=0):
    """Return rows of four features in the domain of a model."""
    X = rows(n, 4, seed=seed)
    if model.likelihood == "bernoulli":
        return (X > 1).astype(float)
    return expit(X - 1) if model.likelihood == "continuous_bernoulli" else X


def fitted(model):
    if id(model) not in _FITTED:
        _FITTED[id(model)] = clone(model).fit(table(model))
    return _FITTED[id(model)]


def by_quadrature(model, x):
    """Return the log-density of the observed features of x (d,), and weights of codes.

    Also the decoder outputs (N, d) and the codes (N,).
    """
    posterior, coordinates = model._inference, model._coordinates
    z = torch.linspace(-10, 10, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        a, log_p = posterior.decode(z), posterior.prior.log_density(z)
        u = tensor(coordinates.standardized(x[None]))
        terms = posterior.module.likelihood.terms(torch.nan_to_num(u), a)
    seen = ~np.isnan(x)
    joint = (terms.numpy()[:, seen].sum(axis=1) + log_p.numpy()) + math.log(20 / 4000)
    total = logsumexp(joint)
    log_density = total - np.log(coordinates.whitening.scale[seen]).sum()
    codes = posterior.prior.to_code(z)[:, 0].numpy()
    return log_density, np.exp(joint - total), a, codes


@every_kind
def test_answers_agree_with_quadrature_over_the_code(model):
    model = fitted(model)
    X = holes(table(model, 12, seed=1), 0.5)
    X = X[np.isnan(X).any(axis=1) & ~np.isnan(X).all(axis=1)][:8]
    scores, codes, filled = (
        answer(X) for answer in (model.score_samples, model.transform, model.impute)
    )
    likelihood, coordinates = model._inference.module.likelihood, model._coordinates
    for i, x in enumerate(X):
        log_density, weights, a, z = by_quadrature(model, x)
        # The error of importance sampling is documented as hundredths of a nat.
        np.testing.assert_allclose(scores[i], log_density, atol=0.02)
        np.testing.assert_allclose(codes[i, 0], weights @ z, atol=0.05)
        mean = coordinates.restored((weights @ likelihood.mean(a).numpy())[None])[0]
        spread = 0.05 * coordinates.whitening.scale
        assert (np.abs(filled[i] - mean)[np.isnan(x)] < spread[np.isnan(x)]).all()
        np.testing.assert_array_equal(filled[i][~np.isnan(x)], x[~np.isnan(x)])


@every_kind
def test_conditional_draws_and_distributions_agree_with_quadrature(model):
    model = fitted(model)
    x = table(model, 1, seed=2)[0]
    x[[0, 3]] = np.nan
    _, weights, a, _ = by_quadrature(model, x)
    kind, coordinates = model._inference.module.likelihood, model._coordinates
    kept = weights > 1e-12

    def cdf(x):
        """Return the distribution function of the last feature by quadrature."""
        of = tensor(a[kept, 3])
        if model.likelihood == "gaussian":
            u = (
                np.asarray(x) - coordinates.whitening.mean[3]
            ) / coordinates.whitening.scale[3]
            deviation = math.sqrt(kind.variance[3])
            below = norm.cdf((u[:, None] - of.numpy()) / deviation)
            return below @ weights[kept]
        return np.array([float(kind.cdf(t, of) @ tensor(weights[kept])) for t in x])

    draws = model.sample_conditional(x[None], 3000, random_state=0)[:, 0]
    assert (draws[:, [1, 2]] == x[[1, 2]]).all()
    one = model.condition(x).marginal(1)
    if model.likelihood == "bernoulli":
        p = 1 - cdf([0.0])[0]
        np.testing.assert_allclose(
            one.cdf([[-1.0], [0.5], [1.0]]), [0, 1 - p, 1], atol=0.01
        )
        assert abs(draws[:, 3].mean() - p) < 5 * math.sqrt(p * (1 - p) / 3000) + 0.01
        assert one.quantile([0.0, 1.0]).tolist() == [0.0, 1.0]
        assert one.quantile(1 - 0.5 * p) == 1
        return
    assert kstest(draws[:, 3], cdf).pvalue > 1e-3
    t = np.quantile(draws[:, 3], [0.05, 0.3, 0.7, 0.95])
    np.testing.assert_allclose(one.cdf(t[:, None]), cdf(t), atol=0.01)
    np.testing.assert_allclose(one.quantile(one.cdf(t[:, None])), t, rtol=1e-6)
    # The density is the derivative of the distribution function.
    h = 1e-4 * np.ptp(draws[:, 3])
    slope = (cdf(t + h) - cdf(t - h)) / (2 * h)
    np.testing.assert_allclose(one.score_samples(t[:, None]), np.log(slope), atol=0.05)


@pytest.mark.parametrize("n_components", [1, 9])
def test_codes_of_many_dimensions_have_no_points_of_the_prior(n_components):
    X = rows(120, 4)
    with skgen._warnings.quiet():
        model = VAE(n_components, **{**TINY, "max_epochs": 3}).fit(X)
    hidden = holes(rows(5, 4, seed=1), 0.5)
    draws = model.sample_conditional(hidden, 2000, random_state=0)
    error = 6 * draws.std(axis=0) / math.sqrt(500)  # of 64 samples and of the draws
    off = np.abs(draws.mean(axis=0) - model.impute(hidden))
    assert (off <= error)[np.isnan(hidden)].all()
    assert (model.score_samples(np.full((2, 4), np.nan)) == 0).all()
    one = model.marginal(2)
    q = one.quantile([0.1, 0.9])
    np.testing.assert_allclose(one.cdf(q[:, None]), [0.1, 0.9], rtol=1e-6)


def test_constant_features_have_the_density_of_the_floor():
    X = np.column_stack([rows(100, 2), np.full(100, 7.0)])
    with skgen._warnings.quiet():
        model = VAE(1, **TINY).fit(X)
    deviation = model.noise_variance_[2] ** 0.5
    given = np.array([[np.nan, np.nan, 7.0 + deviation]])
    expected = norm(7, deviation).logpdf(7 + deviation)
    np.testing.assert_allclose(model.score_samples(given), expected, atol=0.02)
    x = np.array([[0.5, np.nan, np.nan]])
    assert model.impute(x)[0, 2] == 7
    draws = model.sample_conditional(x, 2000, random_state=0)[:, 0, 2]
    assert kstest(draws, norm(7, deviation).cdf).pvalue > 1e-3
    np.testing.assert_allclose(model.marginal(2).quantile(0.5), 7)
    whole = model.score_samples(np.array([[0.5, np.nan, 7.0]]))
    np.testing.assert_allclose(
        whole, model.score_samples(x) + norm(7, deviation).logpdf(7), atol=1e-9
    )


# -- losses of incomplete rows -----------------------------------------------------


def small_module(n_importance=1, d=3, learned=False):
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(d, 2), torch.nn.Linear(1, d)
    noise = Gaussian(d, False, 1e-6, learned)
    noise.set_variance(torch.tensor([0.5, 1.0, 2.0]))
    varying = torch.ones(d, dtype=torch.bool)
    parameters = {"beta": 1.0, "n_importance": n_importance}
    module = Variational(encoder, decoder, noise, varying, **parameters)
    module.incomplete = True
    return module.double().eval()


@pytest.mark.parametrize("n_importance", [1, 3])
def test_the_bound_of_incomplete_rows_is_of_their_observed_features(n_importance, rng):
    module = small_module(n_importance)
    x = tensor(holes(rng.standard_normal((5, 3)), 0.4))
    module.generator = torch.Generator().manual_seed(1)
    found = module(x)
    shape = (n_importance, 5, 1) if n_importance > 1 else (5, 1)
    noise = torch.empty(shape, dtype=torch.float64)
    noise.normal_(generator=torch.Generator().manual_seed(1))
    mean, log_variance = module.encoder(torch.nan_to_num(x)).chunk(2, dim=-1)
    z = mean + (0.5 * log_variance).exp() * noise
    a, variance = module.decoder(z).detach().numpy(), module.likelihood.variance
    terms = norm(a, variance.sqrt().numpy()).logpdf(x.numpy())
    log_p = np.nansum(terms, axis=-1)
    if n_importance == 1:
        divergence = kl_to_standard_normal(mean, log_variance).detach().numpy()
        expected = np.mean(divergence - log_p)
    else:
        z, mean, log_variance = (t.detach().numpy() for t in (z, mean, log_variance))
        log_q = norm(mean, np.exp(0.5 * log_variance)).logpdf(z)[..., 0]
        weights = log_p + norm.logpdf(z)[..., 0] - log_q
        expected = -np.mean(logsumexp(weights, axis=0) - math.log(n_importance))
    np.testing.assert_allclose(float(found.detach()), expected)


def test_a_complete_batch_has_the_same_loss_whether_rows_can_be_incomplete(rng):
    module, x = small_module(), tensor(rng.standard_normal((5, 3)))
    losses = []
    for incomplete in (True, False):
        module.incomplete = incomplete
        module.generator = torch.Generator().manual_seed(1)
        losses.append(float(module(x).detach()))
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_the_encoder_takes_zeros_or_means_and_the_mask():
    module = small_module()
    x = tensor([[1.0, np.nan, 3.0]])
    assert module.inputs(x).tolist() == [[1, 0, 3]]
    module.set_missing(True, np.array([7.0, 8.0, 9.0]))
    assert module.inputs(x).tolist() == [[1, 8, 3, 1, 0, 1]]


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_recorded_loss_is_in_nats_of_the_observed_values(likelihood):
    X = rows(100, 3) * [1.0, 50.0, 0.02] + 3
    if likelihood == "bernoulli":
        X = (X > X.mean(axis=0)).astype(float)
    M = holes(X, 0.4)
    parameters = {**TINY, "max_epochs": 40, "lr": 0.02, "likelihood": likelihood}
    model = VAE(1, **parameters).fit(M)
    # A bound lies above the negative log-likelihood, here by a fraction of a nat.
    gap = model.history_[-1]["train"] + model.score(M)
    assert -0.1 < gap < 0.6


# -- fits --------------------------------------------------------------------------


def factor_analysis(X, n_iter=400):
    """Return mean and covariance by EM of one factor, spherical noise, NaN in X."""
    seen = ~np.isnan(X)
    d = X.shape[1]
    x, mu = np.where(seen, X, 0), np.nanmean(X, axis=0)
    w, noise = np.nanstd(X, axis=0), 1.0
    for _ in range(n_iter):
        precision = 1 + seen @ w**2 / noise  # (n,)
        z = (np.where(seen, x - mu, 0) @ w) / noise / precision
        squares = z**2 + 1 / precision
        # Regression of each feature on (z, 1), over the rows that have it.
        for j in range(d):
            s = seen[:, j]
            A = np.array([[squares[s].sum(), z[s].sum()], [z[s].sum(), s.sum()]])
            b = np.array([z[s] @ x[s, j], x[s, j].sum()])
            w[j], mu[j] = np.linalg.solve(A, b)
        mean = mu + z[:, None] * w
        residual = (x - mean) ** 2 + w**2 / precision[:, None]
        noise = residual[seen].mean()
    return mu, np.outer(w, w) + noise * np.eye(d)


@pytest.mark.parametrize(
    "cls", [RAE, *(pytest.param(c, marks=pytest.mark.thorough) for c in (VAE, SWAE))]
)
def test_a_linear_fit_to_incomplete_rows_is_the_maximum_of_their_likelihood(cls, rng):
    def draw(n):
        z = rng.standard_normal((n, 1))
        return 3 + z @ [[1.0, -1.5, 0.5, 2.0]] + 0.6 * rng.standard_normal((n, 4))

    M, T = holes(draw(500), 0.3), draw(500)
    model = cls(
        1,
        hidden_layer_sizes=(32,),
        decoder=torch.nn.Linear,
        encode_mask=True,
        noise_covariance="spherical",
        lr=0.01,
        max_epochs=40,
        random_state=0,
    )
    if cls is RAE:
        model.set_params(latent_density=EMGaussianMixture(1))
    best = multivariate_normal(*factor_analysis(M)).logpdf(T).mean()
    middle = np.where(np.isnan(M), np.nanmean(M, axis=0), M)
    filled = multivariate_normal(*factor_analysis(middle)).logpdf(T).mean()
    found = model.fit(M).score(T)
    # Mean imputation loses a tenth of a nat and more; the fit a few hundredths.
    assert filled < best - 0.1
    assert abs(found - best) < 0.04


@pytest.mark.parametrize(
    ("cls", "likelihood"),
    [
        (VAE, "gaussian"),
        (VAE, "bernoulli"),
        (SWAE, "gaussian"),
        thorough(SWAE, "bernoulli"),
        thorough(RAE, "gaussian"),
        thorough(AutoEncoder, "bernoulli"),
    ],
)
def test_incomplete_rows_are_fitted_in_every_way(cls, likelihood):
    X = rows(120, 4)
    if likelihood == "bernoulli":
        X = (X > 1).astype(float)
    M = holes(X, 0.3)
    M[5] = np.nan
    parameters = {**TINY, "max_epochs": 3, "likelihood": likelihood}
    model = cls(1, encode_mask=True, **parameters)
    if cls is VAE:
        model.set_params(n_importance=2)
    model.fit(M)
    assert np.isfinite(model.score_samples(M)).all()
    assert np.isfinite(model.transform(M)).all()
    assert np.isfinite(model.score(X))
    before = model.score_samples(X)
    model.partial_fit(M[:40])
    assert (model.score_samples(X) != before).any()
    model.fit_latent_density(M)
    assert np.isfinite(model.score(M))
    # A complete fit continues on incomplete rows.
    model = cls(1, warm_start=True, **parameters).fit(X)
    model.fit(M)
    assert np.isfinite(model.score(M))
    assert not np.isnan(model.sample(9)).any()


def test_early_stopping_holds_out_incomplete_rows():
    M = holes(rows(120, 4), 0.3)
    model = VAE(1, early_stopping=True, **TINY).fit(M)
    assert np.isfinite(model.history_[-1]["validation"])


def test_a_function_yields_incomplete_blocks():
    M = holes(rows(120, 4), 0.3)
    model = VAE(1, **TINY).fit(lambda: iter((M[:60], M[60:])))
    in_memory = VAE(1, **TINY).fit(M)
    assert abs(model.score(M) - in_memory.score(M)) < 0.5


def test_images_have_the_mask_as_channels():
    X = holes((rows(60, 24) > 1).astype(float), 0.3)
    model = VAE(
        1,
        **{**TINY, "max_epochs": 1},
        likelihood="bernoulli",
        image_shape=(2, 3, 4),
        encode_mask=True,
    ).fit(X)
    first = model.net_.module_.encoder[0]
    assert first.unflattened_size == (4, 3, 4)
    assert np.isfinite(model.score(X))


def test_the_mask_doubles_the_inputs_of_a_given_encoder():
    sizes = []

    def encoder(n_in, n_out):
        sizes.append((n_in, n_out))
        return torch.nn.Linear(n_in, n_out)

    model = VAE(1, encoder=encoder, encode_mask=True, max_epochs=1, random_state=0)
    model.fit(rows(60, 3))
    assert sizes == [(6, 2)]
    with pytest.raises(ValueError, match="'encode_mask' parameter of VAE"):
        VAE(1, encode_mask=1).fit(rows(60, 3))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_column_without_values_is_named(likelihood):
    X = expit(rows(60, 3))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"'X' argument of VAE.fit .*NaN in \[1\]"):
        VAE(1, likelihood=likelihood, **TINY).fit(X)


def test_values_outside_the_unit_interval_are_named_beside_nan():
    X = holes((rows(60, 3) > 1).astype(float), 0.3)
    model = VAE(1, likelihood="bernoulli", **{**TINY, "max_epochs": 1}).fit(X)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        model.score_samples([[np.nan, 2.0, 0.0]])


def test_a_part_of_one_pattern_answers_as_rows_with_nan():
    model, x = fitted(KINDS[0]), table(KINDS[0], 5, seed=4)
    observed = np.array([True, False, False, True])
    part, rows = model._part(observed), np.where(observed, x, np.nan)
    given = x[:, observed]
    np.testing.assert_array_equal(part.log_density(given), model.score_samples(rows))
    np.testing.assert_array_equal(part.posterior_mean(given), model.transform(rows))
    filled = model.impute(rows)[:, ~observed]
    np.testing.assert_array_equal(part.conditional_mean(given), filled)
    drawn = part.draw(given, 3, np.random.RandomState(0))
    expected = model.sample_conditional(rows, 3, random_state=0)[:, :, ~observed]
    np.testing.assert_array_equal(drawn, expected)


# -- parts of a model --------------------------------------------------------------


def test_parts_keep_names_seed_and_output():
    import pandas as pd

    X = pd.DataFrame(rows(100, 3), columns=["a", "b", "c"])
    model = VAE(1, **TINY).fit(X).set_output(transform="pandas")
    part = model.condition({"b": 0.5})
    assert part.feature_names_in_.tolist() == ["a", "c"]
    assert part.sample(2).columns.tolist() == ["a", "c"]
    np.testing.assert_array_equal(part.sample(2), part.sample(2))
    assert part.transform(X[["a", "c"]]).shape == (100, 1)
    assert part.inverse_transform([[0.0]]).shape == (1, 2)
    last = part.marginal("c")
    assert last.feature_names_in_.tolist() == ["c"]
    assert last.n_features_in_ == 1
    # The part is of the model as it was.
    before = part.score_samples(X[["a", "c"]])
    model.fit(X * 3)
    np.testing.assert_array_equal(part.score_samples(X[["a", "c"]]), before)
    refitted = clone(part).fit(X[["a", "b"]])
    expected = clone(model).fit(X[["a", "b"]]).score_samples(X[["a", "b"]])
    np.testing.assert_allclose(refitted.score_samples(X[["a", "b"]]), expected)


def test_a_part_can_be_saved():
    part = VAE(1, **TINY).fit(rows(100, 3)).condition({0: 0.5})
    X = rows(9, 2)
    loaded = skops.io.loads(skops.io.dumps(part), trusted=skgen.TRUSTED_TYPES)
    for copy in (loaded, pickle.loads(pickle.dumps(part))):
        np.testing.assert_allclose(
            copy.score_samples(X), part.score_samples(X), rtol=1e-9
        )


def test_a_part_needs_a_model_that_answers_nan():
    with pytest.raises(ValueError, match="'estimator' parameter of PartialDensity"):
        clone(VAE(1, **TINY).fit(rows(60, 2)).marginal(0)).set_params(
            estimator=FLOWS[0]
        ).fit(rows(60, 2))
