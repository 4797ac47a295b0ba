"""Mixtures by gradient descent: formulas against oracles, answers that are known."""

import warnings

import numpy as np
import pytest
import torch
from estimators import QUICK_SGD, rows, thorough
from mixtures import TYPES
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skgen import (
    EMGaussianMixture,
    SGDGaussianMixture,
    dequantize,
    make_generative_pipeline,
)
from skgen.mixture import _module as formulas
from skgen.mixture._backend import NUMPY
from skgen.mixture._lowrank import ALL_COVARIANCES, low_rank_of
from skgen.mixture._restarts import first_values

every_type = pytest.mark.parametrize("kind", [*TYPES, "lowrank"])
every_module = pytest.mark.parametrize("kind", [*TYPES, "block", "lowrank"])
K, D, R = 3, 4, 2
MASK = ALL_COVARIANCES["block"].of(((0, 2), (1, 3))).mask()


def some_values(kind, rng, spread=1.0, width=1.0):
    """Return weights, means and covariances of `K` components."""
    weights, means = rng.dirichlet(np.ones(K)), spread * rng.standard_normal((K, D))
    roots = rng.standard_normal((K, D, D)) / D + np.eye(D)
    full = roots @ roots.transpose(0, 2, 1) * width**2
    covariances = {
        "full": full,
        "block": full * MASK,
        "tied": full[0],
        "diag": np.diagonal(full, axis1=1, axis2=2).copy(),
        "spherical": full[:, 0, 0].copy(),
        "lowrank": np.concatenate(
            [
                width * rng.standard_normal((K, D, R)),
                width**2 * rng.uniform(0.5, 1, size=(K, D, 1)),
            ],
            axis=2,
        ),
    }[kind]
    return weights, means, covariances


def dense(kind, covariances):
    """Return covariances as matrices (K, D, D)."""
    if kind == "tied":
        return np.tile(covariances, (K, 1, 1))
    if kind == "lowrank":
        A = covariances[:, :, :-1]
        return A @ A.transpose(0, 2, 1) + covariances[:, :, -1:] * np.eye(D)
    if kind in ("full", "block"):
        return covariances
    return np.eye(D) * covariances.reshape(K, 1, -1)


def naive_log_density(X, weights, means, matrices):
    """Return log p(x) by scipy, one component at a time: (n,)."""
    joint = [
        np.log(w) + multivariate_normal(m, S).logpdf(X)
        for w, m, S in zip(weights, means, matrices, strict=True)
    ]
    return logsumexp(joint, axis=0)


def module(kind, values, floor=1e-8, dtype=torch.float64):
    """Return a module in double precision, with changes that are not zero."""
    dense = ALL_COVARIANCES[kind].dense
    cls = formulas.DenseModule if dense else formulas.DiagonalModule
    made = cls(*values, floor, MASK if kind == "block" else None).to(dtype)
    made.reset(*values)  # once more, in its own precision
    return made


# -- formulas --------------------------------------------------------------------


@every_module
def test_the_loss_is_the_mean_negative_log_density(kind, rng):
    values = some_values(kind, rng)
    X = 2 * rng.standard_normal((50, D))
    expected = -naive_log_density(X, *values[:2], dense(kind, values[2])).mean()
    assert module(kind, values)(torch.tensor(X)).item() == pytest.approx(expected)


@every_module
@pytest.mark.parametrize("far", [1e6, 1e12, 1e15])
def test_a_far_component_costs_the_others_no_digits(kind, far, rng):
    weights, means, covariances = some_values(kind, rng)
    weights[:] = 0.5, 0.499, 0.001
    means[2] = far * np.array([1, -0.3, 0, 0])
    X = 2 * rng.standard_normal((50, D))
    values = weights, means, covariances
    expected = -naive_log_density(X, weights, means, dense(kind, covariances)).mean()
    found = module(kind, values, dtype=torch.float32)(torch.tensor(X).float())
    assert found.item() == pytest.approx(expected, abs=0.02)


@every_module
def test_the_loss_of_incomplete_rows_is_that_of_their_observed_values(kind, rng):
    weights, means, covariances = values = some_values(kind, rng)
    matrices = dense(kind, covariances)
    X = 2 * rng.standard_normal((40, D))
    X[rng.uniform(size=X.shape) < 0.4] = np.nan
    X[0], X[1] = np.nan, 1.0
    expected = np.zeros(len(X))
    for x, o, i in zip(X, ~np.isnan(X), range(len(X)), strict=True):
        if o.any():
            some = [S[np.ix_(o, o)] for S in matrices]
            expected[i] = naive_log_density(x[o], weights, means[:, o], some)
    made = module(kind, values)
    found = torch.logsumexp(made.log_joint(torch.tensor(X)), dim=1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-10)
    made(torch.tensor(X)).backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize(
    "kind", ["full", *map(thorough, ("tied", "diag", "spherical", "lowrank"))]
)
def test_incomplete_rows_are_fitted_as_by_em(kind):
    X = rows(1600, D, seed=1) * [1, 100, 0.01, 1] + [0, 1e4, 0, 5]
    X, held_out = X[:800], X[800:]
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.3] = np.nan
    model = SGDGaussianMixture(2, covariance_type=kind, random_state=0).fit(X)
    assert model.lower_bound_ == pytest.approx(model.score(X), abs=1e-3)
    other = "diag" if kind == "lowrank" else kind  # the low rank is no worse
    em = EMGaussianMixture(2, covariance_type=other, random_state=0).fit(X)
    assert model.score(held_out) > em.score(held_out) - 0.05
    before = model.score(X)
    for block in np.array_split(X, 2):
        model.partial_fit(block)
    assert model.score(X) > before - 0.1


def test_incomplete_rows_can_be_streamed():
    X = rows(400, 2, seed=1)
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.3] = np.nan
    model = SGDGaussianMixture(2, covariance_type="diag", random_state=0)
    streamed = model.fit(lambda: iter(np.array_split(X, 3))).score(X)
    assert streamed == pytest.approx(model.fit(X).score(X), abs=0.02)


def test_a_column_without_values_is_named():
    X = rows(50, 3)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"only NaN in \[1\]"):
        SGDGaussianMixture().fit(X)


@every_module
def test_gradients_are_those_of_finite_differences(kind, rng):
    made = module(kind, some_values(kind, rng))
    names, start = zip(*made.named_parameters(), strict=True)
    X = torch.tensor(rng.standard_normal((7, D)))
    # Off the start, where no factor is one.
    moved = [
        p.detach() + 0.1 * torch.tensor(rng.standard_normal(p.shape)) for p in start
    ]

    def loss(*parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(made, given, X)

    assert torch.autograd.gradcheck(loss, [p.requires_grad_() for p in moved])


@every_module
def test_what_gradients_reached_is_read_off_and_made_the_start(kind, rng):
    made = module(kind, some_values(kind, rng))
    X = torch.tensor(2 * rng.standard_normal((50, D)))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.tensor(rng.standard_normal(parameter.shape))
    before = made(X).item()
    weights, means, covariances = made.values()
    if kind == "block":
        assert not covariances[:, ~MASK].any()
    expected = naive_log_density(X.numpy(), weights, means, dense(kind, covariances))
    assert before == pytest.approx(-expected.mean())
    made.maintain(X, 1000)
    assert made(X).item() == pytest.approx(before)
    assert not made.moves.any()


def test_the_floor_leaves_no_rounding_between_blocks(rng):
    made = module("block", some_values("block", rng), floor=0.9)
    _, _, covariances = made.values()
    assert not covariances[:, ~MASK].any()
    assert np.linalg.eigvalsh(covariances)[:, 0] == pytest.approx(0.9)


@every_module
@pytest.mark.parametrize("width", [1e-1, 1e-3])
def test_float32_keeps_the_digits_of_narrow_components(kind, width, rng):
    # Products of narrow components cancel; those go by differences.
    values = some_values(kind, rng, width=width)
    label = rng.choice(K, size=200, p=values[0])
    X = values[1][label] + width * rng.standard_normal((200, D))
    matrices = dense(kind, values[2])
    single = module(kind, values, floor=1e-10, dtype=torch.float32)
    assert bool(single.narrow.numel()) == (width < 1e-2)
    found = -single(torch.tensor(X, dtype=torch.float32)).item()
    # The rows themselves are rounded, by 1e-7 of the data.
    assert found == pytest.approx(
        naive_log_density(X, *values[:2], matrices).mean(), abs=0.02
    )


@pytest.mark.parametrize("shape", [(K, D), (K, D, D), (K, D, R)])
def test_products_and_differences_are_the_same_distances(shape, rng):
    X, means = (torch.tensor(rng.standard_normal(s)) for s in ((9, D), (K, D)))
    roots = torch.tensor(rng.standard_normal(shape))
    matrices = roots if roots.ndim == 3 else torch.diag_embed(roots)
    offsets = torch.einsum("kd,kde->ke", means, matrices)
    expected = torch.einsum("nkd,kde->nke", X[:, None] - means, matrices)
    expected = expected.square().sum(dim=2)
    for function in (formulas.distances, formulas.distances_by_product):
        torch.testing.assert_close(function(X, roots, offsets), expected)


def test_shares_never_become_denormal_numbers():
    joint = torch.tensor([[0.0, -95.0]], requires_grad=True)  # e^-95 is one in float32
    formulas.mean_negative_log_likelihood(joint).backward()
    tiny = torch.finfo(torch.float32).tiny
    assert ((joint.grad == 0) | (joint.grad.abs() > tiny)).all()


# -- low rank --------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_low_rank_answers_are_those_of_the_dense_matrix(rank, rng):
    low_rank = ALL_COVARIANCES["lowrank"]
    A, D_ = rng.standard_normal((K, D, rank)), rng.uniform(0.1, 1, size=(K, D, 1))
    covariances = np.concatenate([A, D_], axis=2)
    factors = low_rank.factors(covariances)
    X = rng.standard_normal((6, D))
    precisions = low_rank.precisions(factors)
    for k in range(K):
        matrix = A[k] @ A[k].T + np.diag(D_[k, :, 0])
        y = low_rank.standardise(NUMPY, X.T[None], factors, k)[0].T
        expected = np.einsum("ij,jk,ik->i", X, np.linalg.inv(matrix), X)
        np.testing.assert_allclose((y**2).sum(axis=1), expected)
        np.testing.assert_allclose(low_rank.colour(y, factors, k), X)
        assert low_rank.log_det(factors, K)[k] == pytest.approx(
            -0.5 * np.linalg.slogdet(matrix)[1]
        )
        C = precisions[k, :, :-1]
        np.testing.assert_allclose(
            np.diag(precisions[k, :, -1]) - C @ C.T, np.linalg.inv(matrix), atol=1e-12
        )


@pytest.mark.thorough
def test_low_rank_of_full_rank_fits_as_well_as_full(rng):
    X = rows(3000, 3)
    options = {"n_components": 2, "random_state": 0}
    low = SGDGaussianMixture(covariance_type="lowrank", rank=3, **options).fit(X)
    full = SGDGaussianMixture(**options).fit(X)
    assert low.score(X) == pytest.approx(full.score(X), abs=0.02)
    # As many parameters as a dense covariance, though it has more entries.
    per_row = (low.bic(X) - full.bic(X)) / 3000
    assert per_row == pytest.approx(2 * (full.score(X) - low.score(X)))


def test_low_rank_needs_no_square_matrix():
    # A dense covariance of this many features would take 2 x 0.8 GB.
    X = np.random.RandomState(0).standard_normal((64, 10_000)).astype(np.float32)
    model = SGDGaussianMixture(2, covariance_type="lowrank", rank=2, max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    assert np.isfinite(model.score_samples(X[:2])).all()
    assert model.covariances_.shape == (2, 10_000, 3)


# -- the answers of EM -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_same_parameters_give_the_numbers_of_em(kind):
    X = rows(400, 3)
    ours = SGDGaussianMixture(3, covariance_type=kind, **QUICK_SGD).fit(X)
    start = {
        "weights_init": ours.weights_,
        "means_init": ours.means_,
        "precisions_init": ours.precisions_,
    }
    em = EMGaussianMixture(3, covariance_type=kind, max_iter=0, reg_covar=0, **start)
    em.fit(X)
    for method in ("score_samples", "predict_proba", "bic", "aic"):
        np.testing.assert_allclose(
            getattr(ours, method)(X), getattr(em, method)(X), rtol=1e-10, atol=1e-10
        )
    ours_drawn, em_drawn = (m.sample(50, random_state=1) for m in (ours, em))
    np.testing.assert_allclose(ours_drawn, em_drawn, rtol=1e-9)


@pytest.mark.parametrize(
    "kind", ["diag", *map(thorough, ["full", "tied", "spherical"])]
)
def test_gradients_find_the_optimum_of_em(kind):
    X = rows(4000, 2)
    options = {"n_components": 2, "covariance_type": kind, "random_state": 0}
    em = EMGaussianMixture(tol=1e-8, max_iter=1000, **options).fit(X)
    ours = SGDGaussianMixture(**options).fit(X)
    assert ours.score(X) == pytest.approx(em.score(X), abs=2e-3)


@pytest.mark.parametrize("kind", ["full", thorough("tied"), thorough("diag")])
def test_one_component_is_the_mean_and_covariance_of_the_rows(kind):
    X = rows(2000, 3)
    ours = SGDGaussianMixture(
        covariance_type=kind,
        early_stopping=False,
        init_params="random",
        batch_size=2000,  # without noise
        n_iter_no_change=30,
        tol=1e-7,
        max_epochs=2000,
        random_state=0,
    )
    ours.fit(X)
    scale, covariance = X.std(axis=0), np.cov(X.T, ddof=0)
    expected = {"full": [covariance], "tied": covariance, "diag": [X.var(axis=0)]}[kind]
    units = scale**2 if kind == "diag" else np.outer(scale, scale)
    np.testing.assert_allclose((ours.means_[0] - X.mean(axis=0)) / scale, 0, atol=1e-3)
    np.testing.assert_allclose((ours.covariances_ - expected) / units, 0, atol=1e-3)


@pytest.mark.thorough
def test_one_component_finds_its_optimum_from_afar():
    # A start at the optimum would prove nothing.
    X = torch.tensor(rows(2000, 2))
    X = (X - X.mean(dim=0)) / X.std(dim=0)
    far = np.ones(1), np.full((1, 2), 3.0), 0.01 * np.eye(2)[None]
    made = module("full", far)
    betas = SGDGaussianMixture._betas
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1, betas=betas)
    for step in range(2500):
        if step % 50 == 0:
            made.maintain(X, X.shape[0])
            for group in optimizer.param_groups:
                group["lr"] *= 0.88 if step > 1000 else 1.0
        optimizer.zero_grad()
        made(X).backward()
        optimizer.step()
    _, means, covariances = made.values()
    np.testing.assert_allclose(means[0], 0, atol=1e-3)
    np.testing.assert_allclose(covariances[0], np.cov(X.T, ddof=0), atol=1e-3)


# -- fitting ---------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [*TYPES, "lowrank"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_smoothed_loss_falls(kind):
    X = rows(2000, 3)
    ours = SGDGaussianMixture(
        4, covariance_type=kind, early_stopping=False, tol=0.0, random_state=0
    ).fit(X)
    # Batches are noise; means over a fifth of the epochs are not.
    train = np.array([epoch["train"] for epoch in ours.history_])
    smoothed = [part.mean() for part in np.array_split(train, 5)]
    assert (np.diff(smoothed) < 0.01).all()
    assert smoothed[-1] < smoothed[0]


@pytest.mark.thorough
def test_the_loss_curve_is_in_nats_and_in_the_units_of_the_data():
    X = rows(1000, 2)
    ours = SGDGaussianMixture(2, random_state=0).fit(X)
    last = ours.history_[-1]
    assert list(last) == ["epoch", "train", "validation", "seconds"]
    assert -last["train"] == pytest.approx(ours.score(X), abs=0.05)
    assert ours.lower_bound_ == pytest.approx(ours.score(X), abs=1e-4)
    assert ours.n_iter_ == len(ours.history_) == len(ours.lower_bounds_)
    scaled = SGDGaussianMixture(2, random_state=0).fit(1000 * X)
    assert scaled.history_[0]["train"] == pytest.approx(
        ours.history_[0]["train"] + 2 * np.log(1000), abs=1e-3
    )


def test_held_out_rows_are_drawn_at_random_and_join_at_the_end():
    X = rows(1000, 2)
    ours = SGDGaussianMixture(2, **QUICK_SGD).fit(X)
    order, n_training = ours._split(1000, np.random.RandomState(0))
    held_out = np.sort(order[n_training:])
    assert held_out.size == 100
    assert held_out.max() > 900
    assert held_out.min() < 100
    watched = [not np.isnan(epoch["validation"]) for epoch in ours.history_]
    assert watched == [True] * (len(watched) - 2) + [False] * 2


def test_the_start_knows_no_held_out_row(monkeypatch):
    seen = []
    original = SGDGaussianMixture._white
    monkeypatch.setattr(
        SGDGaussianMixture,
        "_new_module",
        lambda self, rows, rng: seen.append(rows.sample(None, rng)) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        SGDGaussianMixture(2, random_state=0).fit(rows(1000, 2))
    assert seen[0].shape == (900, 2)
    assert original is SGDGaussianMixture._white


def test_dead_components_are_revived_and_named():
    X = rows(1000, 2)
    ours = SGDGaussianMixture(3, **QUICK_SGD).fit(X)
    made = ours.net_.module_
    weights, means, covariances = made.values()
    means[2] = 1e3  # where no row is
    made.reset(np.array([0.5, 0.5, 1e-9]), means, covariances)
    batch = torch.from_numpy(ours._encoded(X[:100]))
    made.maintain(batch, 1000)
    weights, means, after = made.values()
    assert weights[2] > 0.1
    # The others have the weight 1 / 2 each. Tensors are in single precision.
    np.testing.assert_allclose(after[2], covariances[:2].mean(axis=0), rtol=1e-4)
    assert np.abs(means[2]).max() < 10
    assert made.revived.tolist() == [False, False, True]
    with pytest.warns(ConvergenceWarning, match="components .* became empty"):
        ours._warn()


def test_a_component_that_collapses_stays_at_the_floor():
    X = np.concatenate([rows(300, 2), np.full((40, 2), 9.0)])
    with pytest.warns(ConvergenceWarning, match="collapsed.*reg_covar=0.001"):
        ours = SGDGaussianMixture(3, reg_covar=1e-3, random_state=0).fit(X)
    assert np.isfinite(ours.score_samples(X)).all()
    # Relative to the data: eigenvalues in whitened units.
    inverse = ours._whitening.inverse
    least = [np.linalg.eigvalsh(inverse @ c @ inverse.T)[0] for c in ours.covariances_]
    assert min(least) == pytest.approx(1e-3, rel=0.01)


@every_type
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "d", "options"),
    [
        (12, 2, {"n_components": 12}),
        (2, 1, {"n_components": 2}),
        (60, 1, {"n_components": 3}),
        (60, 2, {"n_components": 2, "batch_size": 1000}),
        (61, 2, {"n_components": 2, "batch_size": 60, "early_stopping": False}),
        (13, 2, {"n_components": 2, "batch_size": 1, "max_epochs": 2}),
    ],
    ids=["K = n", "two rows", "one feature", "large batch", "last row", "batches of 1"],
)
def test_small_things_are_fitted(kind, n, d, options):
    X = rows(n, d)
    options = {"max_epochs": 5, "covariance_type": kind, "random_state": 0, **options}
    ours = SGDGaussianMixture(**options).fit(X)
    assert np.isfinite(ours.score_samples(X)).all()
    assert np.isfinite(ours.sample(20)).all()


def test_one_row_is_too_few():
    with pytest.raises(ValueError, match=r"at least 2 rows.*Got 1 sample"):
        SGDGaussianMixture().fit([[1.0, 2.0]])


@pytest.mark.parametrize("params", [{"rank": 0}, {"rank": "two"}, {"tol": -1}])
def test_bad_parameters_are_named(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"The '{name}' parameter of SGD.* must be"):
        SGDGaussianMixture(**params).fit(rows(60, 2))


def test_a_rank_above_the_features_is_named():
    with pytest.raises(ValueError, match=r"'rank' parameter .* at most .* features, 2"):
        SGDGaussianMixture(covariance_type="lowrank", rank=3).fit(rows(60, 2))


def test_other_types_take_no_notice_of_the_rank():
    SGDGaussianMixture(covariance_type="diag", rank=50).fit(rows(60, 2))


# -- streams ---------------------------------------------------------------------


@pytest.mark.thorough
def test_a_stream_comes_near_to_the_batch_fit():
    X, held_out = np.split(rows(33_000, 3), [30_000])
    batch = SGDGaussianMixture(2, random_state=0).fit(X)
    stream = SGDGaussianMixture(2, random_state=0)
    for block in np.array_split(X, 30):
        stream.partial_fit(block)
    assert stream.score(held_out) == pytest.approx(batch.score(held_out), abs=0.03)


def test_a_stream_forgets_its_start():
    X = rows(5_000, 2)
    stream = SGDGaussianMixture(2, random_state=0).partial_fit(X[:50])
    before = stream.score(X)
    for block in np.array_split(X[50:], 10):
        stream.partial_fit(block)
    assert stream.score(X) > before


@pytest.mark.thorough
def test_a_fit_goes_on_from_a_stream_and_back():
    X = rows(2000, 2)
    ours = SGDGaussianMixture(2, warm_start=True, random_state=0)
    for block in np.array_split(X, 4):
        ours.partial_fit(block)
    ours.fit(X)
    score = ours.score(X)
    assert score == pytest.approx(EMGaussianMixture(2).fit(X).score(X), abs=0.01)
    ours.partial_fit(X[:500])
    assert ours.score(X) == pytest.approx(score, abs=0.05)


# -- real data -------------------------------------------------------------------


def standardised(n_components, random_state):
    """Return scikit-learn's mixture of standardised columns, in the data's units."""
    mixture = GaussianMixture(n_components, random_state=random_state)
    return make_generative_pipeline(StandardScaler(), mixture)


@pytest.mark.thorough
@pytest.mark.data
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("table", ["mammography", "satimage-2"])
def test_held_out_rows_are_no_less_likely_than_under_em(table, real_data):
    with np.load(real_data(f"tabular/{table}.npz"), allow_pickle=False) as archive:
        X = archive["X"].astype(float)
    if table != "mammography":
        X = dequantize(X, random_state=0)
    X = X[np.random.RandomState(0).permutation(X.shape[0])]
    training, held_out = X[: -X.shape[0] // 5], X[-X.shape[0] // 5 :]
    scores = [
        [
            model(10, random_state=seed).fit(training).score(held_out)
            for model in (SGDGaussianMixture, EMGaussianMixture, standardised)
        ]
        for seed in range(3)
    ]
    ours, em, theirs = np.median(scores, axis=0)
    # EM tries several starts, gradients one.
    assert ours > em - 0.25
    assert ours > theirs - 0.1


def test_score_is_that_of_scikit_learn_at_the_same_parameters():
    X = rows(500, 2)
    ours = SGDGaussianMixture(2, **QUICK_SGD).fit(X)
    theirs = GaussianMixture(2).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(theirs, name, getattr(ours, name))
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X))


# -- more of the formulas --------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "rank"),
    [(1, 1), (2, 1), (2, 2), (3, 1), (4, 2), (5, 2), (7, 3), (9, 3), (10, 5), (6, 6)],
)
def test_parameters_of_low_rank_are_those_that_covariances_tell_apart(d, rank, rng):
    loadings, variances = rng.standard_normal((d, rank)), rng.uniform(0.5, 1.0, d)
    columns = []  # derivatives of the covariance by each number
    for i, j in np.ndindex(d, rank):
        change = np.zeros((d, rank))
        change[i, j] = 1.0
        half = change @ loadings.T
        columns.append(np.ravel(half + half.T))
    columns += [np.ravel(np.diag(row)) for row in np.eye(d)]
    free = np.linalg.matrix_rank(np.stack(columns))
    covariances = np.column_stack([loadings, variances])
    low_rank = ALL_COVARIANCES["lowrank"]
    assert low_rank.n_parameters(np.tile(covariances, (K, 1, 1))) == K * free


def test_loadings_start_at_those_of_the_rows(rng):
    d, n = 4, 20_000
    direction = np.array([1.0, -1.0, 2.0, 0.5])
    X = rng.standard_normal((n, 1)) * direction + rng.standard_normal((n, d))
    shares = rng.uniform(0.1, 1.0, n)
    mean = np.average(X, axis=0, weights=shares)
    variances = np.average((X - mean) ** 2, axis=0, weights=shares)
    columns = low_rank_of(X, shares, mean, variances, 1, rng)
    expected = np.outer(direction, direction) + np.eye(d)
    loadings = columns[:, :1]
    found = loadings @ loadings.T + np.diag(columns[:, -1])
    np.testing.assert_allclose(found, expected, atol=0.15)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_lower_bound_is_the_score_beside_constant_features(rng):
    X = np.column_stack([rng.standard_normal((300, 2)), np.full((300, 2), 7.0)])
    ours = SGDGaussianMixture(1, max_epochs=3, random_state=0).fit(X)
    assert ours.lower_bound_ == pytest.approx(ours.score(X), abs=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_stream_answers_with_the_mean_of_its_path():
    X = rows(2000, 2)
    ours = SGDGaussianMixture(2, batch_size=50, random_state=0).partial_fit(X[:1800])
    before, n_before = ours.means_, ours.net_.n_steps_
    ours.partial_fit(X[1800:])
    old = (n_before / ours.net_.n_steps_) ** 9
    last = SGDGaussianMixture(2, batch_size=50, random_state=0)
    last.partial_fit(X[:1800])
    last._average = None  # the parameters after the last step
    last.partial_fit(X[1800:])
    expected = old * before + (1 - old) * last.means_
    np.testing.assert_allclose(ours.means_, expected, rtol=1e-6)
    assert np.abs(ours.means_ - last.means_).max() > 1e-3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_are_a_tenth_of_a_block_and_a_fortieth_of_a_table():
    X = rows(2000, 2)
    block = SGDGaussianMixture(2, random_state=0).partial_fit(X)
    assert block.net_.n_steps_ == 10
    table = SGDGaussianMixture(2, max_epochs=1, early_stopping=False, random_state=0)
    assert table.fit(X).net_.n_steps_ == 40


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_the_covariance_of_a_single_row_starts_near_the_average(kind, rng):
    X = rng.standard_normal((200, 2))
    X[7] = 50.0  # a component of its own
    values = first_values(X, 2, ALL_COVARIANCES[kind], 1, "kmeans", 1e-6, rng)
    variances = values[2].reshape(2, -1)[:, 0]  # of the first feature
    assert values[0].min() == pytest.approx(1 / 200, rel=0.01)
    assert (variances > 0.3).all()
    assert (variances < 1.5).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_two_clusters_far_apart_are_found_from_any_seed(kind, seed):
    rng = np.random.RandomState(10)
    X = np.vstack([rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + 20])
    options = {"covariance_type": kind, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = SGDGaussianMixture(2, max_epochs=15, **options).fit(rng.permutation(X))
    best = EMGaussianMixture(2, **options).fit(X)
    assert ours.score(X) == pytest.approx(best.score(X), abs=0.05)


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_rows_that_moved_start_again(again):
    X = np.random.RandomState(0).permutation(
        np.concatenate([rows(150, 2), rows(150, 2, seed=1) + 20])
    )
    model = SGDGaussianMixture(2, warm_start=True, random_state=0).fit(X)
    expected = model.score(X)
    with pytest.warns(ConvergenceWarning, match=rf"\.{again} continues.*starts again"):
        getattr(model, again)(X + 1e6)
    assert model.score(X + 1e6) == pytest.approx(expected, abs=0.2)
