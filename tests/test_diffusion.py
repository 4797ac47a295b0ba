"""Velocities, solutions, coordinates and diffusion models."""

import numpy as np
import pytest
import torch
from estimators import rows, thorough
from scipy import integrate, stats

from skgen import DiffusionModel
from skgen.diffusion._marginals import (
    MarginalSpline,
    fitted_spline,
    interpolated,
    line,
    smooth_slopes,
)
from skgen.diffusion._ode import refined, solve
from skgen.diffusion._training import (
    FlowMatching,
    density_and_noise,
)
from skgen.diffusion._velocity import (
    FIRST,
    LAST,
    Velocity,
    noisy_loss,
    shares,
    trace_of_product,
    with_divergence,
)

QUICK = {
    "hidden_layer_sizes": (8,),
    "base": "spline",
    "max_epochs": 3,
    "random_state": 0,
}
# Steps of this length change no digit of an answer.
UNTRAINED = {**QUICK, "lr": 1e-30, "optimizer": "sgd", "max_epochs": 1}


@pytest.fixture(autouse=True)
def fixed_numbers():
    """Make initial weights and random rows the same in every order of the tests."""
    torch.manual_seed(0)


def random_velocity(d, hidden, scale=1.0, seed=0):
    """Return a network in double precision whose velocities are about `scale`."""
    torch.manual_seed(seed)
    velocity = Velocity(d, hidden, 0.0).double().requires_grad_(False)
    for parameter in velocity.layers[-1].parameters():
        parameter.normal_(std=2 * scale / np.sqrt(hidden[-1]))
    velocity.change.weight.normal_(std=0.1)
    return velocity


def naive_velocity(velocity, x, u):
    """Return the velocity of one row (d,) at one time, a float."""
    time = torch.tensor([u], dtype=torch.float64)
    return velocity(x[None, None], time)[0, 0]


HIDDEN = [(7,), (7, 5), (7, 5, 6), (4, 5, 6, 7)]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_trace_is_that_of_the_product(hidden):
    rng = np.random.RandomState(0)
    sizes = [3, *hidden, 3]
    weights = [
        rng.normal(size=shape) for shape in zip(sizes[1:], sizes[:-1], strict=True)
    ]
    slopes = [rng.normal(size=(10, size)) for size in hidden]
    found = trace_of_product(
        *([torch.from_numpy(a) for a in p] for p in (weights, slopes))
    )
    for i in range(10):
        product = np.eye(3)
        for weight, slope in zip(weights, slopes, strict=False):
            product = slope[i][:, None] * (weight @ product)
        assert found[i].item() == pytest.approx(np.trace(weights[-1] @ product))


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_divergence_is_the_trace_of_the_jacobian(hidden):
    velocity, x, u = random_velocity(3, hidden), torch.randn(9, 3).double(), 0.7
    changes = velocity.changes(torch.tensor([u], dtype=torch.float64))
    here = [(factor[0, 0], shift[0, 0]) for factor, shift in changes]
    v, divergence = with_divergence(x, velocity.at(here))
    jacobian = torch.func.jacrev(lambda row: naive_velocity(velocity, row, u))
    for i, row in enumerate(x):
        torch.testing.assert_close(v[i], naive_velocity(velocity, row, u))
        torch.testing.assert_close(divergence[i], torch.trace(jacobian(row)))


# -- the loss -----------------------------------------------------------------------


def test_noise_and_rows_keep_their_variance_and_become_each_other():
    u = torch.linspace(FIRST, LAST, 50, dtype=torch.float64)
    of_row, of_noise = shares(u)
    torch.testing.assert_close(of_row.square() + of_noise.square(), torch.ones_like(u))
    torch.testing.assert_close((of_row / of_noise).log(), u, rtol=1e-9, atol=1e-9)


def mixture_velocity(x, u, mean, scale):
    """Return E[v | x_u] (t, n, 1) for rows around mean and -mean."""
    s, c = (share[:, None, None] for share in shares(u))
    variance = s**2 * scale**2 + c**2
    signs = torch.tensor([1.0, -1.0], dtype=x.dtype)
    means = s * mean * signs  # (t, 1, 2)
    weights = (-((x - means) ** 2) / (2 * variance)).softmax(-1)
    # Given the component, row and noisy row are normal.
    row = mean * signs + s * scale**2 / variance * (x - means)
    row = (weights * row).sum(-1, keepdim=True)
    noise = (x - s * row) / c
    return c * row - s * noise


def test_the_loss_of_the_true_velocity_is_the_entropy():
    scale, n = 0.3, 4000
    mean = np.sqrt(1 - scale**2)
    generator = torch.Generator().manual_seed(0)
    u = FIRST + (LAST - FIRST) * (torch.arange(64) + 0.5).double() / 64
    options = {"generator": generator, "dtype": torch.float64}
    e, x = (torch.randn((64, n, 1), **options) for _ in range(2))
    sign = torch.randint(0, 2, (64, n, 1), generator=generator) * 2 - 1
    x = scale * x + mean * sign
    loss = noisy_loss(lambda x, u, _: mixture_velocity(x, u, mean, scale), x, e, u)
    gained = 0.5 * np.log(2 * np.pi * np.e) + loss.item()

    def density(x):
        return 0.5 * (stats.norm.pdf(x, mean, scale) + stats.norm.pdf(x, -mean, scale))

    grid = np.linspace(-4, 4, 4001)
    entropy = -(density(grid) * np.log(density(grid) + 1e-300)).sum() * 0.002
    # A velocity of zero would be 0.6 nats off; the mean of 256,000 losses is not exact.
    assert gained == pytest.approx(entropy, abs=0.02)


def test_the_loss_adds_the_normal_density_and_the_determinant():
    module = FlowMatching(Velocity(3, (4,), 0.0)).double()
    rows = torch.randn(20, 4, dtype=torch.float64)
    expected = stats.norm.logpdf(rows[:, :3].numpy()).sum(axis=1) + rows[:, 3].numpy()
    for training in (True, False):
        module.train(training)
        loss = module(rows).item()  # a velocity of zero gains nothing
        assert loss == pytest.approx(-expected.mean(), rel=1e-12)


def test_the_average_follows_the_weights():
    module = FlowMatching(Velocity(1, (2,), 0.0))
    expected, n_steps = module.average.layers[0].weight.clone(), 30
    for i in range(1, n_steps + 1):
        with torch.no_grad():
            module.velocity.layers[0].weight.normal_()
        module(torch.zeros(5, 2))
        share = max(9 / (9 + i), 1e-3)
        expected += share * (module.velocity.layers[0].weight.detach() - expected)
    torch.testing.assert_close(module.average.layers[0].weight, expected)
    module.eval()(torch.zeros(5, 2))  # answers move nothing
    torch.testing.assert_close(module.average.layers[0].weight, expected)


# -- solutions ----------------------------------------------------------------------


def reference(velocity, z):
    """Return log p(z) and the noise of a row z (d,), by an adaptive solver."""

    def slope(u, state):
        x = torch.from_numpy(state[:-1])
        speed = 0.5 / np.cosh(u)
        jacobian = torch.func.jacrev(lambda row: naive_velocity(velocity, row, u))(x)
        v = naive_velocity(velocity, x, u).numpy()
        return np.append(speed * v, speed * float(torch.trace(jacobian)))

    found = integrate.solve_ivp(
        slope, (LAST, FIRST), np.append(z, 0.0), "DOP853", rtol=1e-9, atol=1e-9
    ).y[:, -1]
    return stats.norm.logpdf(found[:-1]).sum() + found[-1], found[:-1]


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 6, 7)])
def test_densities_and_noise_are_those_of_an_adaptive_solver(hidden):
    velocity = random_velocity(2, hidden)
    z = torch.randn(1, 2, dtype=torch.float64)
    log_p, *noise = density_and_noise(velocity, z, 64).T
    noise = torch.stack(noise, dim=1)
    for i, row in enumerate(z.numpy()):
        expected = reference(velocity, row)
        assert log_p[i].item() == pytest.approx(expected[0], abs=1e-6)
        np.testing.assert_allclose(noise[i], expected[1], atol=1e-6)
        assert abs(expected[0] - stats.norm.logpdf(row).sum()) > 0.01  # it moves


def test_a_solution_has_order_8_and_goes_back():
    def field(times):
        return (
            lambda x, u=u: (np.cos(u) * x, np.cos(u) * torch.ones(len(x)).double())
            for u in times
        )

    x = torch.ones((3, 1), dtype=torch.float64)
    errors = []
    for n_steps in (4, 8, 16):
        y, total = solve(field, x, n_steps, 0.0, 4.0)  # x exp(sin(u))
        np.testing.assert_allclose(total, np.sin(4.0), atol=1e-8)
        errors.append(abs(y[0, 0].item() - np.exp(np.sin(4.0))))
    # Order 7 would divide the error by 128.
    assert errors[0] / errors[2] > 180**2
    back, total = solve(field, y, 16, 4.0, 0.0)
    np.testing.assert_allclose(back, x, rtol=1e-5)
    np.testing.assert_allclose(total, -np.sin(4.0), rtol=1e-6)


def test_rows_are_refined_until_their_own_tolerance():
    calls = []

    def solution(X, n_steps):  # an error that halves with the steps
        calls.append((n_steps, X[:, 0].tolist()))
        return 5 + X / n_steps

    X = np.array([[0.0], [1.0], [100.0]])
    answers, errors = refined(solution, X, 0.06, 2, 16)
    np.testing.assert_allclose(answers[:, 0], [5.0, 5.25, 5 + 100 / 16])
    # An eighth of the difference, relative to the answer.
    expected = np.array([0, 0.25 / 5.25, (100 / 16) / (5 + 100 / 16)]) / 8
    np.testing.assert_allclose(errors, expected)
    assert calls[2:] == [(8, [100.0]), (16, [100.0])]


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
def test_estimated_errors_cover_the_errors(rtol):
    velocity = random_velocity(3, (16, 16), scale=3.0)
    Z = 2 * np.random.RandomState(0).standard_normal((200, 3))

    def solution(Z, n_steps):
        return density_and_noise(velocity, torch.from_numpy(Z), n_steps).numpy()

    answers, errors = refined(solution, Z, rtol, 2, 128)
    exact = solution(Z, 128)
    made = (np.abs(answers - exact) / np.maximum(1, np.abs(exact)))[:, 0]
    assert (errors <= rtol).all()
    assert (made > 1e-12).any()  # else nothing is tested
    assert (made <= errors + 1e-12).mean() >= 0.99


def test_noise_goes_to_the_row_that_it_came_from():
    velocity = random_velocity(3, (16, 16), scale=2.0)
    z = torch.randn(50, 3, dtype=torch.float64)
    field = velocity.field(z.device, z.dtype)
    noise, there = solve(field, z, 32, LAST, FIRST)
    again, back = solve(field, noise, 32, FIRST, LAST)
    torch.testing.assert_close(again, z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(there, -back, rtol=1e-6, atol=1e-6)


# -- coordinates --------------------------------------------------------------------


def skewed(n, seed=0):
    return np.random.RandomState(seed).gamma(0.7, size=n)


@pytest.mark.parametrize("n_bins", [4, 16, 64])
def test_a_marginal_spline_is_smooth_and_goes_back(n_bins):
    spline = interpolated(skewed(2000), n_bins)
    x = np.linspace(-1, 9, 5001)
    y, log_slope = spline(x)
    assert (np.diff(y) > 0).all()
    np.testing.assert_allclose(spline.inverse(y), x, atol=1e-11)
    numeric = (spline(x + 1e-6)[0] - spline(x - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(numeric, np.exp(log_slope), rtol=1e-4)
    np.testing.assert_allclose(spline(spline.x)[0], spline.y, atol=1e-12)
    np.testing.assert_allclose(np.exp(spline(spline.x)[1]), spline.slope)


def test_the_second_derivative_is_continuous_and_zero_outside():
    rng = np.random.RandomState(0)
    widths, heights = rng.uniform(0.1, 1, (2, 12))
    x, y = (np.append(0, np.cumsum(part)) for part in (widths, heights))
    spline = MarginalSpline(x, y, smooth_slopes(widths, heights))
    h = 1e-6

    def slope(at):
        return np.exp(spline(at)[1])

    left = (slope(x) - slope(x - h)) / h
    right = (slope(x + h) - slope(x)) / h
    np.testing.assert_allclose(left, right, atol=1e-3)
    np.testing.assert_allclose(left[[0, -1]], 0, atol=1e-3)


def test_values_become_nearly_normal_and_few_values_a_line():
    rng = np.random.RandomState(0)
    values, fresh = skewed(3000), skewed(3000, seed=1)
    y, log_slope = fitted_spline(values, rng)(fresh)
    scores = log_slope + stats.norm.logpdf(y)
    truth = stats.gamma(0.7).logpdf(fresh).mean()
    assert truth - 0.05 < scores.mean() < truth + 0.02
    few = fitted_spline(values[:30], rng)
    np.testing.assert_allclose(few(fresh)[0], line(values[:30])(fresh)[0])


def test_held_out_values_choose_the_number_of_bins():
    values = np.random.RandomState(0).standard_normal(1500)
    # The values that are fitted would always choose the largest number.
    assert fitted_spline(values, np.random.RandomState(1)).x.size < 20


def test_tied_values_have_a_spline_as_well():
    values = np.repeat([0.0, 1.0, 5.0], 100)
    spline = fitted_spline(values, np.random.RandomState(0))
    y, log_slope = spline(values)
    assert np.isfinite(log_slope).all()
    np.testing.assert_allclose(spline.inverse(y), values, atol=1e-12)


# -- the estimator ------------------------------------------------------------------


def test_a_model_without_training_is_the_normal_density_of_the_rows():
    X = 1e3 + 10 * rows(200, 3)
    model = DiffusionModel(**{**UNTRAINED, "base": "normal"}).fit(X)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    far = np.vstack([X, X.mean(axis=0) + 1e4])
    np.testing.assert_allclose(model.score_samples(far), normal.logpdf(far), rtol=1e-10)


def test_with_splines_a_model_starts_from_nearly_normal_features():
    X = np.column_stack([skewed(3000), np.random.RandomState(1).normal(size=3000)])
    scores = {
        base: DiffusionModel(**{**UNTRAINED, "base": base}).fit(X).score(X)
        for base in ("spline", "normal")
    }
    truth = stats.gamma(0.7).logpdf(X[:, 0]) + stats.norm.logpdf(X[:, 1])
    assert scores["spline"] == pytest.approx(truth.mean(), abs=0.05)
    assert scores["normal"] < truth.mean() - 0.3


def test_nearly_collinear_features_are_whitened_without_splines():
    a, b = np.random.RandomState(0).normal(size=(2, 1000))
    X = np.column_stack([a + 0.5 * (a > 0), a + 0.5 * (a > 0) + 1e-3 * b])
    model = DiffusionModel(**UNTRAINED).fit(X)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    np.testing.assert_allclose(model.score_samples(X), normal.logpdf(X), rtol=1e-6)


@pytest.mark.parametrize("base", ["spline", "normal"])
def test_latents_and_rows_are_inverses(base):
    X = 1e3 + 10 * rows(300, 3)
    model = DiffusionModel(**{**QUICK, "base": base, "lr": 0.05}).fit(X)
    model._velocity = random_velocity(3, (8, 8))
    Z = model.transform(X)
    # Two errors of rtol, in standard deviations of a feature of up to 30.
    np.testing.assert_allclose(model.inverse_transform(Z), X, atol=1e-3)
    np.testing.assert_allclose(
        model.transform(model.inverse_transform(Z)), Z, atol=1e-4
    )


def test_draws_are_the_rows_of_normal_noise():
    model = DiffusionModel(rtol=1e-3, **QUICK).fit(rows(200, 2))
    model._velocity = random_velocity(2, (8, 8))
    Z = model.transform(model.sample(4000, random_state=0))
    for column in Z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(Z.T)[0, 1]) < 0.06


def mass_on_a_grid(model, n, beyond, n_draws=2000):
    """Return the mass on n points a feature, `beyond` the range of draws as well."""
    draws = model.sample(n_draws, random_state=1)
    more = beyond * np.ptp(draws, axis=0)
    axes = np.linspace(draws.min(axis=0) - more, draws.max(axis=0) + more, n).T
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, more.size)
    return np.exp(model.score_samples(grid)).sum() * np.prod(axes[:, 1] - axes[:, 0])


@pytest.mark.parametrize("scale", [1.0, thorough(3.0)])
def test_the_density_of_any_network_integrates_to_one(scale):
    model = DiffusionModel(**QUICK, rtol=1e-4).fit(rows(400, 2))
    model._velocity = random_velocity(2, (8, 8), scale=scale)
    assert mass_on_a_grid(model, 101, 0.4) == pytest.approx(1, abs=1e-3)


def test_collinear_and_constant_features_have_latents_as_well():
    X = rows(200, 2)
    X = np.column_stack([X, X.sum(axis=1), np.full(200, 3.0)])
    with pytest.warns(UserWarning, match=r"[Cc]onstant|dimension"):
        model = DiffusionModel(**QUICK).fit(X)
    assert model.net_.module_.velocity.layers[0].in_features == 2
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), X, atol=1e-4
    )
    off = X.copy()
    off[:, 2] += 1  # off the plane
    assert (model.score_samples(off) < model.score_samples(X) - 1000).all()


def test_the_weights_with_the_best_held_out_density_are_kept():
    X = rows(300, 2)
    # Steps of this length only harm: the start is kept.
    harmed = DiffusionModel(**{**QUICK, "base": "normal", "lr": 3.0}).fit(X)
    normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
    np.testing.assert_allclose(harmed.score_samples(X), normal.logpdf(X), rtol=1e-10)


def test_one_far_row_is_no_matter_for_the_others():
    X = rows(300, 2)
    options = {**QUICK, "lr": 0.01}
    expected = DiffusionModel(**options).fit(X).score(X)
    far = np.vstack([X, [1e6, -1e6]])
    model = DiffusionModel(**options).fit(far)
    assert model.score(X) > expected - 0.3
    assert model.score_samples(far)[-1] < -1e6


def test_an_error_above_the_tolerance_is_a_warning(monkeypatch):
    model = DiffusionModel(**QUICK).fit(rows(100, 2))
    model._velocity = random_velocity(2, (8, 8), scale=3.0)
    for name, value in {"_STEPS": 1, "_MOST_STEPS": 2}.items():
        monkeypatch.setattr(f"skgen.diffusion._diffusion_model.{name}", value)
    with pytest.warns(UserWarning, match=r"of 100 rows is above rtol=0.0001 after 2"):
        model.score_samples(rows(100, 2))


def bent(n, seed):
    a, b = np.random.RandomState(seed).standard_normal((2, n))
    return np.column_stack([a, a**2 + 0.3 * b])


def two_modes(n, seed):
    rng = np.random.RandomState(seed)
    return 0.1 * rng.normal(size=(n, 1)) + np.where(rng.rand(n, 1) < 0.3, -1, 1)


def heavy_tails(n, seed):
    return np.random.RandomState(seed).standard_t(3, size=(n, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("base", ["spline", "flow"])
@pytest.mark.parametrize("data", [two_modes, heavy_tails, bent])
def test_trained_densities_integrate_to_one(data, base):
    # Without early stopping, the last weights are kept, not the start.
    options = {"dropout": 0.0, "early_stopping": False, "random_state": 0}
    model = DiffusionModel((16, 16), base=base, rtol=1e-5, max_epochs=30, **options)
    model.fit(data(1000, 0))
    assert any(p.abs().sum() > 0 for p in model._velocity.layers[-1].parameters())
    n = 20_001 if model.n_features_in_ == 1 else 301
    assert mass_on_a_grid(model, n, 0.6) == pytest.approx(1, abs=1e-3)


@pytest.mark.thorough
def test_a_bent_density_is_learned():
    X, held_out = bent(4000, 0), bent(2000, 1)
    a, b = held_out.T
    # log N(a) + log N(b given a^2, 0.3)
    truth = -0.5 * a**2 - 0.5 * ((b - a**2) / 0.3) ** 2 - np.log(2 * np.pi * 0.3)
    model = DiffusionModel((64, 64), max_epochs=60, random_state=0).fit(X)
    score = model.score(held_out)
    assert truth.mean() - 0.1 < score < truth.mean() + 0.02


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": 8}, "must be a tuple of ints of at least 1.*Got 8"),
        ({"hidden_layer_sizes": ()}, r"one for each layer. Got \(\) instead"),
        ({"base": "both"}, "'base' parameter of DiffusionModel must be"),
        ({"rtol": 0}, "'rtol' parameter of DiffusionModel must be a finite number"),
        ({"dropout": 1.0}, "must be 'auto' or a number of at least 0 and below 1. Got"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter of DiffusionModel"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        DiffusionModel(**{**QUICK, **parameters}).fit(rows(60, 2))
