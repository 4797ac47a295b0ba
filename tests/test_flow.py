"""Splines, transforms and normalizing flows."""

import numpy as np
import pytest
import torch
from estimators import rows
from sklearn.preprocessing import StandardScaler

from skgen import EMGaussianMixture, NormalizingFlow
from skgen.autoencoder._prior import NormalMixture, standard_normal
from skgen.flow._splines import inverse_spline, n_parameters, spline
from skgen.flow._transforms import Flow, build_transforms

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


def test_zeros_are_the_identity():
    x = torch.linspace(-6, 6, 99, dtype=torch.float64)
    y, log_slope = spline(x, torch.zeros(99, n_parameters(5), dtype=x.dtype), 5.0)
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x))


def random_flow(d, autoregressive):
    torch.manual_seed(0)
    transforms = build_transforms(d, 3, autoregressive, (16, 16), 6, 3.0, 0.0)
    flow = Flow(transforms, standard_normal(d)).double()
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
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda row: flow.latents(row[None])[0][0])
    )
    expected = torch.linalg.slogdet(jacobian(x))
    torch.testing.assert_close(expected.logabsdet, log_det, rtol=0, atol=1e-10)
    assert (expected.sign == 1).all()


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


def test_the_base_is_the_mixture():
    rng = np.random.RandomState(0)
    factors = rng.normal(size=(3, 2, 2))
    precisions = factors @ factors.transpose(0, 2, 1) + np.eye(2)
    base = NormalMixture([0.2, 0.3, 0.5], rng.normal(size=(3, 2)), precisions)
    flow = Flow([], base)
    z = torch.randn(50, 2, dtype=torch.float64)
    expected = base.log_density(z)
    with torch.no_grad():
        torch.testing.assert_close(flow.double().log_density(z), expected)
        torch.testing.assert_close(flow.base().log_density(z), expected)


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
    assert flow.net_.module_.means.shape[1] == 2
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
    mixture = EMGaussianMixture(flow.net_.module_.means.shape[0], random_state=0).fit(Z)
    expected = mixture.score(Z) - np.log(X.std(axis=0)).sum()
    # The number of components is chosen, and the optimum is a local one.
    assert flow.score(X) == pytest.approx(expected, abs=0.05)


def test_early_stopping_may_keep_the_start():
    X = rows(300, 2)
    flow = NormalizingFlow(**{**QUICK, "lr": 10.0, "optimizer": "sgd"}).fit(X)
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
        ({"dropout": 1.0}, "must be a number of at least 0 and below 1. Got 1.0"),
        ({"base": "uniform"}, "must be 'normal', 'mixture' or a Gaussian mixture"),
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
