"""Splines, transforms and normalizing flows."""

import numpy as np
import pytest
import torch
from estimators import rows
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skgen import SWAE, AutoEncoder, EMGaussianMixture, NormalizingFlow
from skgen.flow import _normalizing_flow
from skgen.flow._mixture_map import mixture_map, quantiles
from skgen.flow._splines import inverse_spline, n_parameters, spline
from skgen.flow._transforms import Dropout, Flow, Transform, build_transforms
from skgen.neural._net import DivergedError

QUICK = {
    "hidden_layer_sizes": (8,),
    "n_bins": 4,
    "max_epochs": 3,
    "batch_size": 32,
    "random_state": 0,
}


def raw_parameters(n, n_bins, seed=0):
    torch.manual_seed(seed)
    return 2 * torch.randn(n, n_parameters(n_bins), dtype=torch.float64)


def naive_spline(x, raw, bound):
    """Return the spline at one number, by equations 4 and 5 of Durkan et al. (2019)."""
    n = (raw.size + 1) // 3
    edges = []
    for part in (raw[:n], raw[n : 2 * n]):
        share = np.exp(part) / np.exp(part).sum()
        sizes = 2 * bound * (1e-2 / n + (1 - 1e-2) * share)
        edges.append(np.append(np.cumsum(np.append(-bound, sizes))[:-1], bound))
    softplus = np.log1p(np.exp(raw[2 * n :] + np.log(np.expm1(1 - 1e-3))))
    slope = np.concatenate([[1], 1e-3 + softplus, [1]])
    if not -bound < x < bound:
        return x, 0.0
    k = np.searchsorted(edges[0], x, side="right") - 1
    width, height = np.diff(edges[0])[k], np.diff(edges[1])[k]
    s, u = height / width, (x - edges[0][k]) / width
    below = s + (slope[k + 1] + slope[k] - 2 * s) * u * (1 - u)
    y = edges[1][k] + height * (s * u**2 + slope[k] * u * (1 - u)) / below
    rise = slope[k + 1] * u**2 + 2 * s * u * (1 - u) + slope[k] * (1 - u) ** 2
    return y, np.log(s**2 * rise / below**2)


@pytest.mark.parametrize("n_bins", [2, 3, 8])
@pytest.mark.parametrize("bound", [0.5, 5.0])
def test_a_spline_is_that_of_the_equations(n_bins, bound):
    raw = raw_parameters(200, n_bins)
    x = torch.linspace(-1.2 * bound, 1.2 * bound, 200, dtype=torch.float64)
    y, log_slope = spline(x, raw, bound)
    expected = [
        naive_spline(one, parameters, bound)
        for one, parameters in zip(x.numpy(), raw.numpy(), strict=True)
    ]
    found = torch.stack([y, log_slope], dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_the_slope_is_the_derivative_and_the_inverse_goes_back():
    raw = raw_parameters(1, 8).expand(999, -1)
    x = torch.linspace(-6, 6, 999, dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(x, raw, 5.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope.log(), log_slope, rtol=1e-10, atol=1e-10)
    assert (y.diff() > 0).all()
    torch.testing.assert_close(inverse_spline(y, raw, 5.0), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_bins", [2, 8])
def test_the_gradient_of_a_spline_is_that_of_differences(n_bins):
    raw = raw_parameters(40, n_bins).requires_grad_()
    x = torch.linspace(-3.6, 3.6, 40, dtype=torch.float64, requires_grad=True)
    # Rounding errors of differences are about 1e-16 / 1e-6, and those of their second
    # order about 1e-12 times third derivatives.
    torch.autograd.gradcheck(lambda *given: spline(*given, 3.0), (x, raw), atol=1e-6)


def test_zeros_are_the_identity():
    x = torch.linspace(-6, 6, 99, dtype=torch.float64)
    y, log_slope = spline(x, torch.zeros(99, n_parameters(5), dtype=x.dtype), 5.0)
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x))


def random_flow(d, autoregressive):
    torch.manual_seed(0)
    transforms = build_transforms(d, 3, autoregressive, (16, 16), 6, 3.0, 0.0)
    flow = Flow(transforms).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(std=0.2)
    return flow


@pytest.mark.parametrize("autoregressive", [True, False])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_determinants_are_those_of_the_jacobian(d, autoregressive):
    flow = random_flow(d, autoregressive)
    x = 2 * torch.randn(20, d, dtype=torch.float64)
    with torch.no_grad():
        z, log_det = flow.latents(x)
        torch.testing.assert_close(flow.rows(z), x, rtol=0, atol=1e-11)
    jacobian = torch.autograd.functional.jacobian
    slopes = [jacobian(lambda row: flow.latents(row[None])[0][0], row) for row in x]
    expected = torch.linalg.slogdet(torch.stack(slopes))
    torch.testing.assert_close(expected.logabsdet, log_det, rtol=0, atol=1e-10)
    assert (expected.sign == 1).all()


def test_dropout_keeps_the_mean_and_repeats_itself():
    dropout, x = Dropout(0.25), torch.ones(400, 100)
    dropout.generator = torch.Generator().manual_seed(0)
    state = torch.get_rng_state()
    y = dropout(x)
    assert torch.equal(torch.get_rng_state(), state)  # of the global generator
    # The standard error of the fraction is 0.5 / sqrt(40,000), at most.
    assert (y == 0).float().mean() == pytest.approx(0.25, abs=0.0125)
    assert torch.allclose(y[y != 0], torch.tensor(1 / 0.75))
    dropout.generator.manual_seed(0)
    assert torch.equal(dropout(x), y)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize(
    ("n", "params", "probabilities"),
    [(1999, {}, {0.1}), (2000, {}, set()), (2000, {"dropout": 0.3}, {0.3})],
)
def test_many_rows_are_fitted_without_dropout(n, params, probabilities):
    model = NormalizingFlow(
        1, hidden_layer_sizes=(2,), base="normal", max_epochs=1, **params
    ).fit(rows(n, 2))
    parts = model.net_.module_.modules()
    assert {part.p for part in parts if isinstance(part, Dropout)} == probabilities


@pytest.mark.parametrize("autoregressive", [True, False])
def test_a_spline_depends_on_features_of_lower_rank_only(autoregressive):
    transform = random_flow(6, autoregressive).transforms[0]

    def sums(row):
        return transform.raw(row[None])[0].sum(-1)

    x = torch.randn(6, dtype=torch.float64)
    uses = torch.func.jacrev(sums)(x) != 0  # (feature of a spline, feature it uses)
    allowed = transform.rank[None, :] < transform.rank[:, None]
    assert not (uses & ~allowed).any()
    assert uses.sum() > 0.7 * allowed.sum()  # a few hidden units are at zero


class OfZuko(Transform):
    """Transform with the network of a transform of zuko, whose splines have other raw
    parameters.
    """

    def __init__(self, theirs, d, hidden, n_bins):
        super().__init__(theirs.order, hidden, n_bins, 5.0, 0.0)
        pairs = zip(list(self.network)[::2], list(theirs.hyper)[::2], strict=True)
        for mine, other in pairs:
            mine.weight.data, mine.bias.data = other.weight.data, other.bias.data
            mine.mask = other.mask.to(mine.mask)

    def raw(self, x):
        raw = self.network(x).unflatten(-1, (x.shape[1], -1))
        n = (raw.shape[-1] + 1) // 3
        least = np.log(1e-3)  # zuko's minimum slope
        sizes = raw[..., : 2 * n] / (1 + (2 * raw[..., : 2 * n] / least).abs())
        shares = sizes.unflatten(-1, (2, n)).softmax(-1)
        slopes = (raw[..., 2 * n :] / (1 + (raw[..., 2 * n :] / least).abs())).exp()
        # Ours has a minimum size of bins, and another minimum slope.
        shares = ((shares - 1e-2 / n) / (1 - 1e-2)).log().flatten(-2)
        slopes = (slopes - 1e-3).expm1().log() - np.log(np.expm1(1 - 1e-3))
        return torch.cat([shares, slopes], dim=-1)


@pytest.mark.thorough  # where the peers of the benchmarks are installed
@pytest.mark.parametrize(("d", "passes"), [(5, None), (2, None), (6, 2)])
def test_densities_and_rows_are_those_of_zuko_for_its_weights(d, passes):
    zuko = pytest.importorskip("zuko")
    torch.manual_seed(0)
    options = {"hidden_features": (16, 16), "bins": 6, "passes": passes}
    theirs = zuko.flows.NSF(d, transforms=3, **options).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(2.0)  # far from the identity
    transforms = list(theirs.transform.transforms)
    ours = Flow([OfZuko(one, d, (16, 16), 6) for one in transforms]).double()
    x = 2 * torch.randn(200, d, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs().log_prob(x)
        start = -0.5 * (x.square() + np.log(2 * np.pi)).sum(1)
        assert (expected - start).abs().median() > 0.1
        torch.testing.assert_close(ours.log_density(x), expected, rtol=0, atol=1e-9)
        z = theirs().transform(x)
        torch.testing.assert_close(ours.latents(x)[0], z, rtol=0, atol=1e-9)
        torch.testing.assert_close(
            ours.rows(z), theirs().transform.inv(z), rtol=0, atol=1e-8
        )


# -- the map of a mixture -----------------------------------------------------------


def random_mixture(K, d, seed=0):
    """Return the weights, means and covariances of a mixture."""
    rng = np.random.RandomState(seed)
    factors = 0.4 * rng.normal(size=(K, d, d))
    covariances = factors @ factors.transpose(0, 2, 1) + 0.01 * np.eye(d)
    return rng.dirichlet(np.full(K, 3)), 2 * rng.normal(size=(K, d)), covariances


def log_density(X, mixture):
    """Return the log-density (n,) of a mixture, by SciPy."""
    parts = [
        np.log(w) + stats.multivariate_normal(m, c).logpdf(X)
        for w, m, c in zip(*mixture, strict=True)
    ]
    return np.logaddexp.reduce(parts, axis=0)


def with_background(weights, means, covariances):
    """Return a mixture of which a thousandth is four times as wide as the whole."""
    mean = weights @ means
    second = np.einsum("k,kij->ij", weights, covariances)
    second += np.einsum("k,ki,kj->ij", weights, means, means) - np.outer(mean, mean)
    return (
        np.append(0.999 * weights, 0.001),
        np.vstack([means, mean]),
        np.concatenate([covariances, 16 * second[None]]),
    )


@pytest.mark.parametrize(("K", "d"), [(1, 1), (1, 3), (3, 1), (4, 3)])
def test_a_mixture_is_mapped_to_the_normal_density(K, d):
    mixture = random_mixture(K, d)
    mapped = mixture_map(*mixture)
    X = 3 * np.random.RandomState(1).normal(size=(50, d))
    Z, found = mapped.to_normal(X)
    expected = log_density(X, with_background(*mixture) if K > 1 else mixture)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    # The first number is the normal score of the first feature's distribution function.
    w, m, c = with_background(*mixture) if K > 1 else mixture
    share = w @ stats.norm.cdf((X[:, 0] - m[:, :1]) / np.sqrt(c[:, :1, 0]))
    middle = np.abs(share - 0.5) < 0.499
    scores = stats.norm.ppf(share[middle])
    np.testing.assert_allclose(Z[middle, 0], scores, rtol=0, atol=1e-10)
    np.testing.assert_allclose(mapped.from_normal(Z), X, rtol=0, atol=1e-10)


def test_the_jacobian_of_the_map_is_the_ratio_of_the_densities():
    mapped, h = mixture_map(*random_mixture(4, 3)), 1e-5
    X = np.random.RandomState(1).normal(size=(20, 3))
    Z, found = mapped.to_normal(X)
    steps = [
        (mapped.to_normal(X + step)[0] - mapped.to_normal(X - step)[0]) / (2 * h)
        for step in h * np.eye(3)
    ]
    jacobian = np.stack(steps, axis=-1)  # (n, number, feature)
    assert np.abs(np.triu(jacobian, 1)).max() < 1e-9  # later features do not matter
    expected = np.linalg.slogdet(jacobian)[1]
    base = stats.norm.logpdf(Z).sum(axis=1)
    np.testing.assert_allclose(found - base, expected, rtol=0, atol=1e-6)


def test_rows_far_away_and_between_components_come_back():
    means = np.array([[-1.0, 0.0], [1.0, 0.0]])
    mapped = mixture_map(np.array([0.5, 0.5]), means, 1e-6 * np.eye(2)[None])
    X = np.array([[0.0, 0.0], [0.5, 2.0], [1e6, -1e6], [-30.0, 1e-4]])
    Z, log_p = mapped.to_normal(X)
    assert np.isfinite(Z).all()
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(mapped.from_normal(Z), X, rtol=1e-9, atol=1e-9)


def test_quantiles_are_found_in_narrow_and_wide_components():
    log_weights = np.log(np.array([[0.3], [0.7]]))
    means, scales = np.array([[0.0], [5.0]]), np.array([[1e-6], [3.0]])
    z = np.linspace(-8, 8, 101)
    x = quantiles(z, np.repeat(log_weights, 101, 1), np.repeat(means, 101, 1), scales)
    below = 0.3 * stats.norm.cdf(x / 1e-6) + 0.7 * stats.norm.cdf((x - 5) / 3)
    above = 0.3 * stats.norm.sf(x / 1e-6) + 0.7 * stats.norm.sf((x - 5) / 3)
    np.testing.assert_allclose(below[z < 0], stats.norm.cdf(z[z < 0]), rtol=1e-8)
    np.testing.assert_allclose(above[z > 0], stats.norm.sf(z[z > 0]), rtol=1e-8)


# -- the estimator ------------------------------------------------------------------


@pytest.mark.parametrize("autoregressive", [True, False])
def test_latents_and_rows_are_inverses(autoregressive):
    X = 1e3 + 10 * rows(200, 3)
    flow = NormalizingFlow(autoregressive=autoregressive, **QUICK).fit(X)
    Z = flow.transform(X)
    np.testing.assert_allclose(flow.inverse_transform(Z), X, atol=1e-8)
    np.testing.assert_allclose(flow.transform(flow.inverse_transform(Z)), Z, atol=1e-8)


def test_collinear_and_constant_features_have_latents_as_well():
    X = rows(200, 2)
    X = np.column_stack([X, X.sum(axis=1), np.full(200, 3.0)])
    with pytest.warns(UserWarning, match=r"[Cc]onstant|dimension"):
        flow = NormalizingFlow(**QUICK).fit(X)
    assert flow._varying.sum() == 2
    np.testing.assert_allclose(flow.inverse_transform(flow.transform(X)), X, atol=1e-8)
    off = X.copy()
    off[:, 2] += 1  # off the plane
    assert (flow.score_samples(off) < flow.score_samples(X) - 1000).all()


@pytest.mark.parametrize("base", ["mixture", EMGaussianMixture(2, random_state=0)])
def test_with_a_mixture_as_base_a_flow_starts_from_the_mixture(base):
    X = np.vstack([rows(150, 2), rows(150, 2, seed=1) / 9 + 8])
    options = {**QUICK, "lr": 1e-12, "early_stopping": False}
    flow = NormalizingFlow(base=base, **options).fit(X)
    Z = StandardScaler().fit_transform(X)
    expected = flow.base_.score_samples(Z) - np.log(X.std(axis=0)).sum()
    found = flow.score_samples(X)
    # A thousandth of the mass is elsewhere.
    assert (found > expected - 0.00101).all()
    assert found.mean() < expected.mean() + 0.001
    assert flow.history_[0]["train"] == pytest.approx(-found.mean(), abs=1e-3)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_fitted_mixture_is_used_in_the_units_of_the_data(frozen):
    X = rows(300, 2) * [1e3, 1e-2] + [5, -3]
    Y = np.column_stack([X, X[:, 0] ** 2])
    base = EMGaussianMixture(2, random_state=0).fit(X)
    used = FrozenEstimator(base) if frozen else base
    options = {**QUICK, "lr": 1e-12, "early_stopping": False}
    flow = NormalizingFlow(base=used, **options).fit(X)
    assert flow.base_ is used
    expected = base.score_samples(X)
    assert (flow.score_samples(X) > expected - 0.00101).all()
    assert flow.score(X) < expected.mean() + 0.001
    with pytest.raises(ValueError, match=r"of 3 features\. Got a mixture of 2"):
        NormalizingFlow(base=used, **options).fit(Y)


def test_the_base_is_chosen_by_held_out_rows(monkeypatch):
    # Two clusters of very different widths, which a flow would need long to learn.
    X = np.vstack([rows(200, 2), 1e-4 * rows(200, 2, seed=1) + 8])
    flow = NormalizingFlow(**QUICK).fit(X)
    assert flow.base_.n_components > 1
    # A mixture of other rows loses.
    other = EMGaussianMixture(2, random_state=0).fit(rows(100, 2) + 20)
    monkeypatch.setattr(_normalizing_flow, "chosen_mixture", lambda *_, **__: other)
    assert NormalizingFlow(**QUICK).fit(X).base_ == "normal"
    monkeypatch.undo()
    few = NormalizingFlow(**{**QUICK, "random_state": 1}).fit(X[180:220])
    assert few.base_ == "normal"  # 4 held-out rows would decide
    assert (
        NormalizingFlow(**{**QUICK, "early_stopping": False}).fit(X).base_ == "normal"
    )


class At(Callback):
    """Raise an error in an epoch, counted over all nets."""

    n_epochs = 0

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, net, **kwargs):
        At.n_epochs += 1
        if At.n_epochs == self.epoch:
            raise self.error


@pytest.mark.parametrize("epoch", [2, 3])
def test_ctrl_c_in_the_second_training_keeps_the_better_flow(epoch, monkeypatch):
    monkeypatch.setattr(At, "n_epochs", 0)
    X = np.vstack([rows(200, 2), 1e-4 * rows(200, 2, seed=1) + 8])
    stop = [At(epoch, KeyboardInterrupt)]
    flow = NormalizingFlow(**QUICK, net_callbacks=stop)
    with pytest.raises(KeyboardInterrupt):
        flow.fit(X)
    assert flow.base_.n_components > 1  # of the first training, of one epoch
    assert flow.n_iter_ == len(flow.history_) == 1
    assert flow.score(X) > NormalizingFlow(**QUICK, base="normal").fit(X).score(X)


@pytest.mark.parametrize(("epoch", "base"), [(1, "normal"), (2, "mixture")])
def test_a_training_that_diverges_loses(epoch, base, monkeypatch):
    monkeypatch.setattr(At, "n_epochs", 0)
    X = np.vstack([rows(200, 2), 1e-4 * rows(200, 2, seed=1) + 8])
    stop = [At(epoch, DivergedError)]
    flow = NormalizingFlow(**QUICK, net_callbacks=stop).fit(X)
    assert ("normal" if flow.base_ == "normal" else "mixture") == base


def test_early_stopping_may_keep_the_start():
    X = rows(300, 2)
    options = {**QUICK, "lr": 10.0, "optimizer": "sgd", "base": "normal"}
    flow = NormalizingFlow(**options).fit(X)
    # Steps of this length only harm: the flow is still the standard normal density.
    Z = StandardScaler().fit_transform(X)
    expected = -0.5 * (Z**2).sum(axis=1) - np.log(2 * np.pi * X.std(axis=0).prod())
    np.testing.assert_allclose(flow.score_samples(X), expected, atol=1e-5)


@pytest.mark.thorough
def test_a_bent_density_is_learned():
    def bent(n, seed):
        a, b = np.random.RandomState(seed).standard_normal((2, n))
        return np.column_stack([a, a**2 + 0.3 * b])

    X, held_out = bent(4000, 0), bent(2000, 1)
    a, b = held_out.T
    # log N(a) + log N(b given a^2, 0.3)
    truth = -0.5 * a**2 - 0.5 * ((b - a**2) / 0.3) ** 2 - np.log(2 * np.pi * 0.3)
    flow = NormalizingFlow(
        hidden_layer_sizes=(32, 32), dropout=0.0, max_epochs=20, lr=5e-3, random_state=0
    ).fit(X)
    score = flow.score(held_out)
    assert truth.mean() - 0.15 < score < truth.mean() + 0.02


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_transforms": 0}, "'n_transforms' parameter of NormalizingFlow must be"),
        ({"n_bins": 1}, "'n_bins' parameter of NormalizingFlow must be"),
        ({"hidden_layer_sizes": 8}, "must be a tuple of ints of at least 1. Got 8"),
        ({"tail_bound": 0}, "must be a finite number above 0. Got 0 instead"),
        ({"autoregressive": "yes"}, "'autoregressive' parameter of NormalizingFlow"),
        (
            {"dropout": 1.0},
            "must be 'auto' or a number of at least 0 and below 1. Got",
        ),
        ({"base": "uniform"}, "must be 'auto', 'normal', 'mixture' or a Gaussian m"),
        ({"base": NormalizingFlow(**QUICK)}, "or a Gaussian mixture. Got NormalizingF"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter of NormalizingFlow"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        NormalizingFlow(**{**QUICK, **parameters}).fit(rows(60, 2))


@pytest.mark.parametrize("base", ["normal", "mixture"])
def test_one_far_row_is_no_matter_for_the_others(base):
    X = rows(300, 2)
    options = {**QUICK, "base": base, "lr": 0.01}
    expected = NormalizingFlow(**options).fit(X).score(X)
    far = np.vstack([X, [1e6, -1e6]])
    flow = NormalizingFlow(**options).fit(far)
    assert flow.score(X) > expected - 0.3
    assert flow.score_samples(far)[-1] < -1e6


@pytest.mark.parametrize("kind", ["latent density", "prior"])
def test_a_flow_is_a_density_of_codes(kind):
    rng = np.random.RandomState(0)
    t = rng.uniform(0, np.pi, 300)
    X = np.column_stack([np.cos(t), np.sin(t)]) + 0.1 * rng.standard_normal((300, 2))
    options = {"hidden_layer_sizes": (16,), "max_epochs": 20, "random_state": 0}
    flow = NormalizingFlow(**{**QUICK, "batch_size": 200, "lr": 0.02})
    if kind == "prior":
        flow.fit(rng.uniform(-1, 1, size=(400, 1)))
        model = SWAE(1, prior=flow, **options).fit(X)
    else:
        model = AutoEncoder(1, latent_density=flow, **options).fit(X)
    density = model.latent_density_
    assert isinstance(density, NormalizingFlow)
    draws = model.sample_latent(1000, random_state=0)
    grid = np.linspace(draws.min() - 1, draws.max() + 1, 4001)[:, None]
    weights = density.score_samples(grid) + np.log(grid[1] - grid[0])
    assert np.exp(weights).sum() == pytest.approx(1, abs=0.01)
    normal = stats.norm(model.inverse_transform(grid), model.noise_variance_**0.5)
    expected = [
        np.logaddexp.reduce(normal.logpdf(row).sum(axis=1) + weights) for row in X[:40]
    ]
    # Scores are estimates by importance sampling.
    assert np.abs(model.score_samples(X[:40]) - expected).mean() < 0.03


def test_a_flow_that_is_not_fitted_is_no_prior():
    prior = NormalizingFlow(**QUICK)
    with pytest.raises(ValueError, match="a fitted density of 2 features"):
        SWAE(2, prior=prior).fit(rows(60, 3))
