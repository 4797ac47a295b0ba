"""Diffusion models of images: the U-Net, its coordinates and estimated scores."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from estimators import rows
from scipy import integrate, stats
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import estimator_checks_generator
from test_diffusion import mass_on_a_grid

from skgen import DiffusionModel, GenerativePipeline, _torch
from skgen.diffusion._images import (
    ImageVelocity,
    error_of_mean,
    orthonormal,
    with_traces,
)
from skgen.diffusion._training import density_and_noise
from skgen.diffusion._unet import UNet
from skgen.diffusion._velocity import FIRST, LAST

SHAPE = (2, 3)
QUICK = {
    "hidden_layer_sizes": (4,),
    "image_shape": SHAPE,
    "max_epochs": 1,
    "rtol": 1e-2,
    "random_state": 0,
}
# Steps of this length change no digit of an answer.
UNTRAINED = {**QUICK, "lr": 1e-30, "optimizer": "sgd"}


@pytest.fixture(autouse=True)
def fixed_numbers():
    """Make initial weights and random rows the same in every order of the tests."""
    torch.manual_seed(0)


def filled(network, scale, seed=0):
    """Return a network in double precision with random weights."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().requires_grad_(False)
    for parameter in network.parameters():
        parameter += scale * torch.randn(parameter.shape, generator=generator)
    return network


def random_velocity(factor, scale=0.2, channels=(4,), shape=(1, *SHAPE)):
    """Return a velocity in double precision with random weights."""
    velocity = ImageVelocity(shape, channels, 0.0, factor).double()
    filled(velocity.net, scale)
    filled(velocity.change, 0.05)  # smooth in time
    return velocity.requires_grad_(False)


def mixing(d, n):
    """Return a matrix (d, n) with orthogonal columns of different lengths."""
    directions = np.linalg.qr(np.random.RandomState(1).normal(size=(d, n)))[0]
    return directions * np.linspace(0.5, 3, n)


def fitted(**more):
    """Return a model with a random network, and its training rows."""
    X = 10 + 5 * rows(60, 6)
    model = DiffusionModel(**{**UNTRAINED, **more}).fit(X)
    filled(model._velocity.net, 0.2)
    return model, X


# -- the network --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (2, 8, 8)])
@pytest.mark.parametrize("channels", [(4,), (8, 16), (3, 5, 9)])
def test_images_keep_their_shape_and_do_not_see_each_other(shape, channels):
    net = filled(UNet(shape, channels, 0.0), 0.3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    ones = [torch.ones(1, n, 1, 1).double() for n in net.sizes()]
    changes = [(one, 0.5 * one) for one in ones]
    found = net(x, changes)
    assert found.shape == x.shape
    # Images of one pixel are normalised to nearly the same values.
    assert found.std() > 1e-6
    torch.testing.assert_close(net(x[2:3], changes), found[2:3], rtol=1e-7, atol=1e-7)


def test_each_pixel_can_depend_on_each_pixel():
    net = filled(UNet((1, 8, 8), (8, 8), 0.0), 0.3)
    ones = [torch.ones(1, n, 1, 1).double() for n in net.sizes()]
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(x, [(one, one) for one in ones]), x
    )
    assert (jacobian.view(64, 64).abs() > 0).all()


def test_dropout_is_for_training_alone():
    net = filled(UNet((1, 2, 2), (8,), 0.5), 0.3)
    changes = [(torch.ones(1, n, 1, 1).double(),) * 2 for n in net.sizes()]
    x, generator = torch.randn(2, 1, 2, 2).double(), torch.Generator()
    one, other = (net.train()(x, changes, generator) for _ in range(2))
    assert not torch.allclose(one, other)
    net.eval()
    torch.testing.assert_close(net(x, changes), net(x, changes))


# -- coordinates and velocities -----------------------------------------------------


def naive_velocity(velocity, w, u):
    """Return dw/du (d',) of the coordinates of one image, by its pixels."""
    # The derivative of y / r, with y = x sin + e cos of normal images and the answer of
    # the network to what remains.
    of_row = 1 / np.sqrt(1 + np.exp(-2 * u))
    of_noise = 1 / np.sqrt(1 + np.exp(2 * u))
    variances, directions = velocity.variances, velocity.directions
    d = directions.shape[1]
    r = torch.sqrt(of_row**2 * variances + of_noise**2)
    pixels = torch.sqrt(of_row**2 * variances.sum() / d + of_noise**2)
    remaining = torch.sqrt((variances / r**2).sum() / d)
    y = (w * r) @ directions
    time = torch.tensor([u], dtype=torch.float64)
    answer = velocity.images((y / pixels)[None], velocity.changes(time))
    return of_row * of_noise * (directions @ (remaining * answer[0])) / r


def test_densities_and_noise_are_those_of_an_adaptive_solver():
    velocity = random_velocity(mixing(6, 5))
    z = torch.randn(1, 5, dtype=torch.float64)

    def slope(u, state):
        w = torch.from_numpy(state[:-1])
        velocity_at_u = partial(naive_velocity, velocity, u=u)
        jacobian = torch.autograd.functional.jacobian(velocity_at_u, w)
        return np.append(velocity_at_u(w), torch.trace(jacobian))

    start = np.append(z[0].numpy(), 0.0)
    expected = integrate.solve_ivp(
        slope, (LAST, FIRST), start, "DOP853", rtol=1e-7, atol=1e-7
    ).y[:, -1]
    found = density_and_noise(velocity, z, 24, velocity.probes(5))[0]
    np.testing.assert_allclose(found[5:], expected[:-1], atol=1e-5)
    log_p = stats.norm.logpdf(expected[:-1]).sum() + expected[-1]
    assert found[:5].mean().item() == pytest.approx(log_p, abs=1e-5)
    assert abs(log_p - stats.norm.logpdf(z.numpy()).sum()) > 0.1  # it moves


def test_all_directions_have_the_exact_trace():
    A, q = torch.randn(5, 5).double(), torch.from_numpy(orthonormal(5, 5, 0))
    y = torch.randn(3, 5, dtype=torch.float64)
    f, traces = with_traces(lambda y: (y @ A.T).sin(), y, q)
    expected = torch.einsum("ni,ii->n", (y @ A.T).cos(), A)
    torch.testing.assert_close(f, (y @ A.T).sin())
    torch.testing.assert_close(traces.sum(1), expected)


def test_directions_are_orthonormal_and_their_errors_are_honest():
    d, p, n = 12, 4, 2000
    A = np.random.RandomState(0).normal(size=(d, d))
    probes = [orthonormal(p, d, seed) for seed in range(n)]
    np.testing.assert_allclose(probes[0] @ probes[0].T, np.eye(p), atol=1e-12)
    values = d * np.array([np.einsum("pi,ij,pj->p", q, A, q) for q in probes])
    errors = values.mean(axis=1) - np.trace(A)
    # Five standard errors of a mean, and of a variance.
    assert abs(errors.mean()) < 5 * errors.std() / np.sqrt(n)
    claimed = (error_of_mean(values, d) ** 2).mean()
    assert errors.var() == pytest.approx(claimed, rel=5 * np.sqrt(2 / n) + 0.05)
    assert error_of_mean(values[:1, :2], 2) == 0  # of all directions


def test_the_loss_of_the_true_velocity_is_lowest_and_of_zero_is_one():
    # Images on a line, x = a z with z = -1 or 1: the velocity is known.
    a = np.array([[0.6], [0.0], [0.8], [0.0], [0.0], [0.0]])
    velocity = ImageVelocity((1, 2, 3), (4,), 0.0, a).double()
    z = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double().repeat(2000, 1)
    generator = torch.Generator().manual_seed(0)
    zero = velocity.loss(z, generator).item()
    # Of six pixels, one varies: the noise of the others is no part of the target.
    assert zero == pytest.approx(1, abs=0.1)

    def true(y, changes, generator=None):
        of_pixels, of_answers, r = velocity.scales(velocity.times)
        s, c = torch.sigmoid(2 * velocity.times).sqrt(), None
        c = torch.sigmoid(-2 * velocity.times).sqrt()
        root = velocity.variances.sqrt()
        line = (y @ velocity.directions.T) / of_pixels  # y along the line
        mean = torch.tanh(line * (s * root[0] / c**2)[:, None])  # E[z | y]
        e = (line - s[:, None] * root * mean) / c[:, None]
        v = root * (c[:, None] * mean - s[:, None] * root * e) / r**2
        return (v / of_answers) @ velocity.directions

    changes = velocity.changes

    def watched(u):
        velocity.times = u
        return changes(u)

    velocity.changes, velocity.images = watched, true
    best = velocity.loss(z, torch.Generator().manual_seed(0)).item()
    assert best < 0.8 * zero
    velocity.images = lambda *parts: 1.1 * true(*parts)
    assert velocity.loss(z, torch.Generator().manual_seed(0)).item() > best
    velocity.images = lambda *parts: 0.9 * true(*parts)
    assert velocity.loss(z, torch.Generator().manual_seed(0)).item() > best


# -- the estimator ------------------------------------------------------------------


def test_a_model_without_training_is_the_normal_density_of_the_images():
    X = 1e3 + 10 * rows(100, 6)
    model = DiffusionModel(**UNTRAINED).fit(X)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    np.testing.assert_allclose(model.score_samples(X), normal.logpdf(X), rtol=1e-9)
    draws = model.sample(1000, random_state=0)
    sizes = np.linalg.cholesky(np.linalg.inv(np.cov(X.T, bias=True)))
    white = (draws - X.mean(axis=0)) @ sizes
    assert abs(np.cov(white.T) - np.eye(6)).max() < 5 * np.sqrt(2 / 1000)


def test_estimates_are_within_their_standard_errors():
    model, X = fitted(n_probes=6)
    exact = model.score_samples(X)
    np.testing.assert_array_equal(model.score_samples_se(X), 0)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    assert abs(exact - normal.logpdf(X)).max() > 0.1  # it moves
    model.set_params(n_probes=3)
    errors = model.score_samples_se(X)
    assert (errors > 0).all()
    assert (abs(model.score_samples(X) - exact) < 5 * errors).mean() > 0.9


def test_scores_of_images_are_deterministic_and_each_row_for_itself():
    model, X = fitted(n_probes=2)
    scores = model.score_samples(X)
    np.testing.assert_array_equal(model.score_samples(X), scores)
    for found, all_rows in (
        (model.score_samples(X[5:7]), scores),
        (model.score_samples_se(X[5:7]), model.score_samples_se(X)),
    ):
        np.testing.assert_allclose(found, all_rows[5:7], rtol=1e-9)


def test_the_density_of_two_pixels_integrates_to_one():
    model = DiffusionModel(**{**UNTRAINED, "image_shape": (1, 2)}).fit(rows(200, 2))
    filled(model._velocity.net, 0.1)
    mass = mass_on_a_grid(model, 51, 0.5, n_draws=500)
    assert mass == pytest.approx(1, abs=5e-3)


def test_draws_are_the_images_of_normal_noise():
    model, _ = fitted(rtol=1e-2)
    draws = model.sample(1000, random_state=0)
    assert draws.dtype == np.float64
    Z = model.transform(draws)
    for column in Z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    noise = np.random.RandomState(0).standard_normal((1000, 6))
    np.testing.assert_allclose(Z, noise, atol=0.1)  # single precision, two tolerances


def test_a_low_tolerance_draws_in_double_precision(monkeypatch):
    model, _ = fitted(rtol=1e-5)
    noise = np.random.RandomState(0).standard_normal((3, 6))
    draws = model.sample(3, random_state=0)
    np.testing.assert_array_equal(draws, model.inverse_transform(noise))
    np.testing.assert_allclose(model.transform(draws), noise, atol=1e-4)


def test_many_images_are_solved_on_the_threads_of_the_caller(monkeypatch):
    model, _ = fitted(rtol=1e3)
    n_weights = sum(weights.numel() for weights in model._velocity.net.parameters())
    monkeypatch.setattr(_torch, "_SHARED_WORK", 20 * n_weights)
    found, forward = [], UNet.forward

    def heard(net, *args):
        found.append(torch.get_num_threads())
        return forward(net, *args)

    monkeypatch.setattr(UNet, "forward", heard)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        drawn = model.sample(20, random_state=0)
        assert set(found) == {2}
        found.clear()
        few = model.sample(19, random_state=0)
        assert set(found) == {1}
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(few, drawn[:19], rtol=1e-4)  # in single precision


def test_constant_pixels_have_the_common_floor():
    X = np.insert(rows(80, 4), [0, 4], 3.0, axis=1)
    with pytest.warns(UserWarning, match=r"[Cc]onstant"):
        model = DiffusionModel(**UNTRAINED, n_probes=4).fit(X)
    assert model._velocity.directions.shape == (4, 6)
    filled(model._velocity.net, 0.3)
    np.testing.assert_array_equal(model.score_samples_se(X), 0)
    # Two errors of rtol, in standard deviations of a pixel of up to 3.
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=0.1)
    off = X.copy()
    off[:, 0] += 1
    assert (model.score_samples(off) < model.score_samples(X) - 1000).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_without_variance_are_fitted_as_well():
    model = DiffusionModel(**QUICK).fit(np.full((20, 6), 2.0))
    assert np.isfinite(model.score_samples(np.full((1, 6), 2.0))).all()
    assert model.sample(2).shape == (2, 6)


def test_training_learns_and_continues():
    signs = np.random.RandomState(0).choice([-1.0, 1.0], size=(540, 1))
    X = signs * [1, -1, 1, -1, 1, -1] + 0.1 * rows(540, 6)
    train, test = X[:500], X[500:]
    options = {**QUICK, "rtol": 0.05, "n_probes": 2}
    normal = DiffusionModel(**{**UNTRAINED, **options, "lr": 1e-30}).fit(train)
    model = DiffusionModel(
        **{
            **options,
            "max_epochs": 12,
            "lr": 0.01,
            "batch_size": 64,
            "warm_start": True,
        }
    ).fit(train)
    assert model.history_[-1]["train"] < 0.97
    scores = model.score_samples(test)
    assert scores.mean() > normal.score(test) + 0.3
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(test), scores)
    weights = model.net_.module_.average.time.weight
    again.fit(train)
    assert again.n_iter_ == 2 * model.n_iter_
    again.partial_fit(train)
    assert again.n_iter_ == 2 * model.n_iter_ + 1
    now = again.net_.module_.average.time.weight
    assert 0 < (now - weights).abs().max() < 0.5  # it continues from the weights
    with pytest.raises(ValueError, match="image_shape"):
        model.set_params(image_shape=(6, 1)).fit(train)


def test_the_weights_with_the_lowest_held_out_loss_are_kept():
    X = rows(200, 6)
    # Steps of this length only harm: the start is kept.
    harmed = DiffusionModel(**{**QUICK, "lr": 10.0}).fit(X)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    np.testing.assert_allclose(harmed.score_samples(X), normal.logpdf(X), rtol=1e-9)


def test_scores_are_exact_at_the_end_of_a_pipeline():
    X = rows(200, 6)
    model = DiffusionModel((8,), max_epochs=2, random_state=0)
    pipeline = GenerativePipeline([("pca", PCA(4)), ("model", model)]).fit(X)
    assert np.isfinite(pipeline.score_samples(X)).all()
    assert pipeline.sample(3, random_state=0).shape == (3, 6)
    np.testing.assert_array_equal(pipeline[-1].score_samples_se(X[:5, :4]), 0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_shape": (2, 2)}, "product is the number of features, 6"),
        ({"image_shape": (6,)}, r"\(height, width\) or \(channels, height, width\)"),
        ({"n_probes": 1}, "'n_probes' parameter of DiffusionModel must be"),
    ],
)
def test_wrong_parameters_of_images_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        DiffusionModel(**{**QUICK, **parameters}).fit(rows(60, 6))


class OfImages(DiffusionModel):
    """A model whose images have one row, of as many pixels as there are features."""

    image_shape = property(lambda self: (1, getattr(self, "n_features_in_", 1)))
    image_shape = image_shape.setter(lambda self, value: None)

    def __init__(self, max_epochs=2, *, random_state=None, warm_start=False):
        options = {"lr": 0.01, "rtol": 1e-2}
        super().__init__((4,), max_epochs=max_epochs, **options)
        self.random_state, self.warm_start = random_state, warm_start


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("number", range(4))
def test_scikit_learn_checks_of_images(number):
    model = OfImages(random_state=0)
    for estimator, check in list(estimator_checks_generator(model))[number::4]:
        check(estimator)


@pytest.mark.parametrize("a", [1e-6, 1e6])
def test_scores_follow_the_scale_of_the_pixels(a):
    X = rows(60, 6)
    before = DiffusionModel(**QUICK).fit(X).score_samples(X)
    scaled = a * X + 5 * a
    after = DiffusionModel(**QUICK).fit(scaled).score_samples(scaled)
    np.testing.assert_allclose(after, before - 6 * np.log(a), atol=1e-6)
