"""The contract of skgen: what follows from one density behind every answer.

The mathematics runs over all densities of the two tables, everything that `skgen.base`
decides over one of each.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import (
    AUTOENCODERS,
    DENSITIES,
    DIFFERENT,
    DIFFUSIONS,
    ESTIMATED,
    FLOWS,
    GRADIENT,
    ONE_OF_EACH,
    PIPELINES,
    QUICK_GRADIENT,
    SCALE_FREE,
    SEMI_SUPERVISED,
    SLOW,
    WEIGHTED,
    name,
    over,
    rows,
    seeded,
    thorough,
)
from scipy.stats import kstwobign, multivariate_normal
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

import skgen
from skgen import VAE, DiffusionModel, EMGaussianMixture, GaussianKDE, NormalizingFlow
from skgen._parts import PartialRows

# The mathematics of a density; the slow ones in the thorough selection.
every_model = over(DIFFERENT)
weighted_model = over(WEIGHTED)
# Decided by `skgen.base`, and by nothing else.
one_of_each = over(DENSITIES)
# Decided by `skgen.base`, but for code that a parameter of the model chooses: the other
# variants in the thorough selection.
one_of_each_then_all = over(DIFFERENT, default=[m for m in DENSITIES if m not in SLOW])
WEIGHTED_DENSITIES = [model for model in DENSITIES if model in WEIGHTED]
one_of_each_weighted = over(WEIGHTED_DENSITIES)
one_of_each_weighted_then_all = over(WEIGHTED, default=WEIGHTED_DENSITIES)
# In three and five dimensions: a mixture, a normal prior and a ring of the codes stand
# for the estimated log-densities, in three.
FEW_ESTIMATED = [
    next(m for m in AUTOENCODERS if isinstance(m.latent_density, EMGaussianMixture)),
    next(m for m in AUTOENCODERS if isinstance(m, VAE)),
    next(m for m in AUTOENCODERS if getattr(m, "prior", None) == "ring"),
]
in_more_dimensions = pytest.mark.parametrize(
    ("n_features", "model"),
    [
        pytest.param(n_features, model, id=f"{n_features}-{name(model)}")
        for model in DIFFERENT
        for n_features in (3, 5)
        if model not in ESTIMATED or (model in FEW_ESTIMATED and n_features == 3)
    ],
)


def is_estimate(model):
    """Return whether the log-density of a model, fitted or not, is an estimate."""
    return name(model) in ESTIMATES


ESTIMATES = set(map(name, ESTIMATED))
# Draws to average over, and points on a line: of the others, of these.
N_DRAWS = 60_000, 8_000
N_ON_A_LINE = 8001, 1001


# Fitted models, pickled, and densities on grids: what many tests ask for is made once.
_FITTED, _GRIDS = {}, {}


def fitted(model, n_features, n_samples=120, sample_weight=None):
    """Return a fitted copy of a model, which the test may change."""
    X = rows(n_samples, n_features)
    if sample_weight is not None:
        return clone(model).fit(X, sample_weight=sample_weight)
    key = name(model), n_features, n_samples
    if key not in _FITTED:
        _FITTED[key] = pickle.dumps(clone(model).fit(X))
    return pickle.loads(_FITTED[key])


def assert_draws_follow_the_density_in_1d(model):
    x, step = grid_1d(model, N_ON_A_LINE[is_estimate(model)])
    cdf = np.cumsum(np.exp(model.score_samples(x[:, None]))) * step
    draws = np.sort(model.sample(50_000, random_state=3)[:, 0])
    expected = np.interp(draws, x + step / 2, cdf)
    distance = np.abs(expected - (np.arange(draws.size) + 0.5) / draws.size).max()
    assert kstwobign.sf(distance * np.sqrt(draws.size)) > 1e-3


def grid_1d(model, n):
    """Return a fine grid that holds all but nothing of the mass, and its step."""
    draws = model.sample(2000, random_state=1)
    reach = np.ptp(draws)
    x = np.linspace(draws.min() - reach, draws.max() + reach, n)
    return x, x[1] - x[0]


def grid_2d(model):
    """Return points of a grid that holds all but nothing of the mass, and their mass.

    The model is `fitted` to two features.
    """
    key = name(model)
    if key not in _GRIDS:
        points, cell = _grid_2d(model)
        points.setflags(write=False)
        _GRIDS[key] = points, np.exp(model.score_samples(points)) * cell
    return _GRIDS[key]


def _grid_2d(model):
    n, beyond = 61 if is_estimate(model) else 201, 0.7
    # The mixture from which a flow starts can have a wide component.
    if any(isinstance(m, NormalizingFlow) for m in (model, getattr(model, "base_", 0))):
        n, beyond = 801, 2.0
    draws = model.sample(2000, random_state=1)
    reach = beyond * np.ptp(draws, axis=0)
    axes = [
        np.linspace(low - more, high + more, n)
        for low, high, more in zip(
            draws.min(axis=0), draws.max(axis=0), reach, strict=True
        )
    ]
    x, y = np.meshgrid(*axes, indexing="ij")
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    return np.column_stack([x.ravel(), y.ravel()]), cell


def overlapping_normal(X, factor):
    """Return a normal density with `factor` times the covariance of the rows."""
    return multivariate_normal(X.mean(axis=0), factor * np.cov(X.T))


def assert_mean_is_one(values):
    error = values.std(ddof=1) / np.sqrt(values.size)
    assert error < 0.05  # else the test could not fail
    assert abs(values.mean() - 1) < 4.5 * error


# -- 1. the density integrates to one ------------------------------------------


@every_model
def test_density_integrates_to_one_in_1d(model):
    model = fitted(model, 1)
    estimated = is_estimate(model)
    x, step = grid_1d(model, N_ON_A_LINE[estimated])
    # The relative error of each density is at most its tolerance.
    least = 1e-6 + (model.rtol if isinstance(model, DiffusionModel) else 0)
    assert np.exp(model.score_samples(x[:, None])).sum() * step == pytest.approx(
        1, abs=0.005 if estimated else least
    )


@every_model
def test_density_integrates_to_one_in_2d(model):
    model = fitted(model, 2)
    _points, mass = grid_2d(model)
    # As for one feature.
    least = 1e-4 + (model.rtol if isinstance(model, DiffusionModel) else 0)
    assert mass.sum() == pytest.approx(1, abs=0.005 if is_estimate(model) else least)


@pytest.mark.thorough
@in_more_dimensions
def test_density_integrates_to_one_in_more_dimensions(model, n_features):
    model = fitted(model, n_features)
    q = overlapping_normal(model.sample(5000, random_state=1), 1.7)
    x = q.rvs(N_DRAWS[is_estimate(model)], random_state=2)
    assert_mean_is_one(np.exp(model.score_samples(x) - q.logpdf(x)))


# -- 2. draws follow the density -----------------------------------------------


@every_model
def test_draws_follow_the_density_in_1d(model):
    assert_draws_follow_the_density_in_1d(fitted(model, 1))


@weighted_model
def test_draws_follow_the_density_of_weighted_rows(model):
    weights = np.where(rows(120, 1)[:, 0] > 1, 9.0, 0.5)
    assert_draws_follow_the_density_in_1d(fitted(model, 1, sample_weight=weights))


@every_model
def test_draws_follow_the_density_along_directions_in_2d(model):
    model = fitted(model, 2)
    points, mass = grid_2d(model)
    # The mass of a cell is spread over it, or a whole column would be one step.
    step = points.max(axis=0) - points.min(axis=0)
    step /= np.sqrt(points.shape[0]) - 1
    parts = max(1, 200_000 // points.shape[0])
    points, mass = np.repeat(points, parts, axis=0), np.repeat(mass, parts) / parts
    points += step * np.random.RandomState(0).uniform(-0.5, 0.5, points.shape)
    draws = model.sample(20_000, random_state=3)
    worst = 0.0
    for angle in np.linspace(0, np.pi, 12, endpoint=False):
        direction = [np.cos(angle), np.sin(angle)]
        order = np.argsort(points @ direction)
        cdf = np.cumsum(mass[order])
        along = np.sort(draws @ direction)
        expected = np.interp(along, (points @ direction)[order], cdf)
        rank = (np.arange(along.size) + 0.5) / along.size
        worst = max(worst, np.abs(expected - rank).max())
    # Twelve directions that overlap: the bound of the single test at 1e-4.
    assert kstwobign.sf(worst * np.sqrt(draws.shape[0])) > 1e-4


@pytest.mark.thorough
@in_more_dimensions
def test_draws_follow_the_density_in_more_dimensions(model, n_features):
    model = fitted(model, n_features)
    x = model.sample(N_DRAWS[is_estimate(model)], random_state=4)
    log_p = model.score_samples(x)
    # Narrower than the model where that is densest, so that q/p has a variance.
    centre = x[log_p.argmax()]
    near = np.argsort(((x - centre) ** 2 / x.var(axis=0)).sum(axis=1))[: len(x) // 15]
    q = multivariate_normal(centre, np.cov(x[near].T))
    assert_mean_is_one(np.exp(q.logpdf(x) - log_p))


@every_model
def test_draws_have_the_moments_of_the_density(model):
    model = fitted(model, 2)
    points, mass = grid_2d(model)
    mean = mass @ points
    variance = mass @ (points - mean) ** 2
    draws = model.sample(40_000, random_state=5)
    error = np.sqrt(variance / draws.shape[0])
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), 4.5 * error)
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.05)


@every_model
def test_draws_come_in_random_order(model):
    draws = fitted(model, 1).sample(20_000, random_state=0)[:, 0]
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.03


# -- 3. a row's answer depends on that row alone -------------------------------


@every_model
@pytest.mark.parametrize("method", ["score_samples", "transform"])
def test_a_row_is_answered_alone(model, method):
    model = fitted(model, 3)
    n = 8 if is_estimate(model) else 60
    X = np.vstack([rows(n, 3, seed=7), [[40.0, -30.0, 20.0], [0.0, 0.0, 0.0]]])
    answer = getattr(model, method)
    together = answer(X)
    order = np.random.RandomState(0).permutation(X.shape[0])
    alone = np.concatenate([answer(X[i : i + 1]) for i in range(X.shape[0])])
    np.testing.assert_allclose(
        answer(X[order]), together[order], rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-13)


@every_model
@pytest.mark.parametrize("method", ["score_samples", "transform"])
def test_chunks_leave_no_trace(model, method, monkeypatch):
    model = fitted(model, 3, n_samples=400)
    X = rows(30 if is_estimate(model) else 300, 3, seed=7)
    together = getattr(model, method)(X)
    monkeypatch.setattr(skgen.base, "working_memory", lambda: 2**12)
    monkeypatch.setattr(skgen.kde._kernel_sum, "working_memory", lambda: 2**12)
    chunked = getattr(model, method)(X)
    np.testing.assert_allclose(chunked, together, rtol=1e-12, atol=1e-13)


# -- 4. random_state decides everything ----------------------------------------


@one_of_each_then_all
def test_the_same_seed_gives_the_same_numbers(model):
    X = rows(120, 2)
    first = seeded(clone(model), 5).fit(X)
    again = seeded(clone(model), 5).fit(X)
    np.testing.assert_array_equal(first.score_samples(X), again.score_samples(X))
    np.testing.assert_array_equal(first.sample(9), again.sample(9))
    np.testing.assert_array_equal(first.sample(9), first.sample(9))


@one_of_each_then_all
def test_another_seed_gives_other_draws(model):
    model = fitted(model, 2)
    first, again, other = (model.sample(9, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).any()


@one_of_each_then_all
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_without_a_seed_draws_are_fresh_and_a_random_state_moves_on(model):
    model = seeded(clone(model), None).fit(rows(120, 2))
    assert not np.isin(model.sample(9), model.sample(9)).any()
    seeded(model, np.random.RandomState(0))
    assert not np.isin(model.sample(9), model.sample(9)).any()


@one_of_each_then_all
def test_a_generator_seeds_fits_and_draws_and_moves_on(model):
    def results(rng):
        own = clone(model)  # scikit-learn's PCA takes no Generator
        seeded(own.steps[-1][1] if hasattr(own, "steps") else own, rng)
        assert clone(own).get_params().keys() == own.get_params().keys()
        first, second = own.fit(X).sample(9), own.sample(9, random_state=rng)
        return first, second, pickle.loads(pickle.dumps(own)).sample(9)

    X = rows(60, 2)
    one, same, other = (
        # One of them has another bit generator than the default.
        results(np.random.Generator(kind(s)))
        for kind, s in (
            (np.random.PCG64, 0),
            (np.random.PCG64, 0),
            (np.random.Philox, 1),
        )
    )
    np.testing.assert_array_equal(one, same)
    for a, b in ((one[0], one[1]), (one[1], one[2]), (one[0], other[0])):
        assert not np.isin(a, b).any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_with_a_generator_differ_and_searches_take_one():
    X, rng = rows(200, 2), np.random.default_rng(0)
    mixture = EMGaussianMixture(6, init_params="random", max_iter=2, random_state=rng)
    ends = {clone(mixture).fit(X).lower_bound_ for _ in range(2)}  # of one copied state
    assert len(ends) == 1
    assert mixture.fit(X).lower_bound_ != mixture.fit(X).lower_bound_
    search = GridSearchCV(mixture, {"n_components": [1, 2]}, cv=2).fit(X)
    assert isinstance(search.best_estimator_.random_state, np.random.Generator)


@one_of_each_then_all
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_global_generators_are_never_touched(model):
    np.random.seed(3)
    torch.manual_seed(3)
    numpy_before, torch_before = np.random.get_state(), torch.random.get_rng_state()
    model = seeded(clone(model), None).fit(rows(60, 2))
    model.sample(5)
    for before, after in zip(numpy_before, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert torch.equal(torch_before, torch.random.get_rng_state())


# -- 5. rescaled data rescale the answer ---------------------------------------


@over(SCALE_FREE)
@pytest.mark.parametrize("a", [1e-6, -1.0, 1e6])
def test_score_follows_the_scale_of_the_data(model, a):
    if a < 0 and (
        is_estimate(model) or isinstance(model, (DiffusionModel, NormalizingFlow))
    ):
        a = -a  # networks that start at random are not symmetric
    X, held_out = rows(120, 3), rows(50, 3, seed=1)
    before = fitted(model, 3).score_samples(held_out)
    model = clone(model).fit(a * X + 5 * a)
    after = model.score_samples(a * held_out + 5 * a)
    np.testing.assert_allclose(after, before - 3 * np.log(abs(a)), atol=1e-6)


@over(SCALE_FREE)
def test_an_offset_of_1e8_changes_nothing_but_rounding(model):
    # Multiples of 1/8 are exact in binary, with the offset as well.
    X = np.round(rows(120, 2) * 1024) / 1024
    offset = 2.0**26
    model = clone(model)
    before = model.fit(X).score_samples(X)
    after = model.fit(X + offset).score_samples(X + offset)
    np.testing.assert_allclose(after, before, atol=1e-6)


# -- 6. scores can be compared -------------------------------------------------


@one_of_each
def test_score_is_the_mean_log_density(model):
    model, X = fitted(model, 2), rows(31, 2, seed=1)
    assert isinstance(model.score(X), float)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean(), rel=1e-12)
    weights = np.arange(31)
    assert model.score(X, sample_weight=weights) == pytest.approx(
        np.average(model.score_samples(X), weights=weights), rel=1e-12
    )


def test_grid_search_over_models_picks_the_best_on_held_out_rows():
    X = rows(300, 2)
    choices = [GaussianKDE(), EMGaussianMixture(), EMGaussianMixture(2, random_state=0)]
    search = GridSearchCV(Pipeline([("model", GaussianKDE())]), {"model": choices})
    search.fit(X)
    # The rows come from two normal clusters.
    assert search.best_params_["model"] is choices[2]
    assert search.cv_results_["mean_test_score"].argmax() == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@over(QUICK_GRADIENT)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_held_out_rows_are_scored_after_each_epoch(model):
    # Without gradients: a loss that takes derivatives must enable them.
    model = clone(model).set_params(early_stopping=True, max_epochs=2)
    history = model.fit(rows(80, 2)).history_
    assert np.isfinite(history[0]["validation"])


# Whether a model can be sent to another process is a matter of its pickle, which
# `test_a_pickled_model_answers_the_same` has for every model.
@pytest.mark.process
@over([WEIGHTED[7], *(m for m in QUICK_GRADIENT if isinstance(m, VAE)), PIPELINES[1]])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_searches_run_in_parallel(model):
    seed = next(p for p in model.get_params() if p.endswith("random_state"))
    search = GridSearchCV(clone(model), {seed: [1, 2]}, cv=2, n_jobs=2)
    search.fit(rows(60, 2))
    assert np.isfinite(search.best_score_)
    score = search.score(rows(9, 2))
    assert score == pytest.approx(search.best_estimator_.score(rows(9, 2)))


@one_of_each_weighted_then_all
def test_searches_pass_weights_on(model):
    X, weights = rows(60, 2), np.random.RandomState(1).uniform(1, 2, 60)
    with config_context(enable_metadata_routing=True):
        routed = clone(model).set_fit_request(sample_weight=True)
        routed.set_score_request(sample_weight=True)
        search = GridSearchCV(routed, {"random_state": [1, 2]}, cv=2)
        search.fit(X, sample_weight=weights)
    assert np.isfinite(search.best_score_)


# -- containers, types, weights ------------------------------------------------


@one_of_each_then_all
def test_float32_in_float32_out(model):
    X = rows(120, 3)
    single = clone(model).fit(X.astype(np.float32))
    answers = (
        single.score_samples(X.astype(np.float32)),
        single.transform(X.astype(np.float32)),
        single.inverse_transform(single.transform(X.astype(np.float32))),
        single.sample(4),
    )
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}
    assert single.score_samples(X).dtype == np.float64
    np.testing.assert_allclose(
        answers[0], single.score_samples(X), rtol=1e-4, atol=1e-4
    )


@one_of_each_then_all
def test_dataframes_keep_their_names(model):
    frame = pd.DataFrame(rows(60, 2), columns=["width", "height"])
    model = clone(model).set_output(transform="pandas").fit(frame)
    latent = model.transform(frame)
    assert latent.columns.tolist() == model.get_feature_names_out().tolist()
    assert latent.index.equals(frame.index)
    assert model.feature_names_in_.tolist() == ["width", "height"]
    assert model.inverse_transform(latent).shape == (60, 2)
    with pytest.raises(ValueError, match="feature names"):
        model.score_samples(frame[["height", "width"]])


@every_model
def test_shapes_of_the_four_answers(model):
    model, X = fitted(model, 3), rows(7, 3, seed=1)
    latent = model.transform(X)
    assert model.score_samples(X).shape == (7,)
    assert latent.shape == (7, len(model.get_feature_names_out()))
    assert model.inverse_transform(latent).shape == (7, 3)
    assert model.sample().shape == (1, 3)
    assert model.sample(4).shape == (4, 3)


@every_model
def test_reconstruction_is_nearer_than_the_mean(model):
    X = rows(120, 2)
    again = fitted(model, 2)
    error = ((again.inverse_transform(again.transform(X)) - X) ** 2).sum()
    spread = ((X - X.mean(axis=0)) ** 2).sum()
    # A gradient comes near to the mean, and held-out rows have no part in it.
    assert error <= spread * (1 + (0.01 if model in GRADIENT else 1e-9))


@weighted_model
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_a_weight_of_two_is_the_row_twice_and_of_zero_the_row_absent(model):
    X = rows(50, 2)
    weights = np.random.RandomState(0).randint(0, 4, size=50)
    model = clone(model)
    repeated = model.fit(np.repeat(X, weights, axis=0)).score_samples(X)
    weighted = model.fit(X, sample_weight=weights).score_samples(X)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-9)


@one_of_each_then_all
def test_a_pickled_model_answers_the_same(model):
    # Not `fitted`, which has been pickled already.
    model, X = clone(model).fit(rows(120, 2)), rows(9, 2, seed=1)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(copy.sample(5), model.sample(5))


@one_of_each_then_all
def test_fit_leaves_the_rows_as_they_are(model):
    X = rows(60, 2)
    before = X.copy()
    model = clone(model).fit(X)
    model.score_samples(X), model.transform(X)
    np.testing.assert_array_equal(X, before)


@one_of_each_weighted_then_all
def test_fit_leaves_the_weights_as_they_are(model):
    weights = np.arange(60.0)
    before = weights.copy()
    clone(model).fit(rows(60, 2), sample_weight=weights)
    np.testing.assert_array_equal(weights, before)


# -- progress ------------------------------------------------------------------


class Recorder:
    """A callback that writes down the names of the tasks it sees."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if fitted_estimator is not None and hasattr(fitted_estimator, "n_features_in_"):
            fitted_estimator.score_samples(rows(3, fitted_estimator.n_features_in_))
        self.events.append(("end", context.task_name))


@one_of_each_then_all
def test_callbacks_see_the_fit_begin_and_end(model):
    recorder = Recorder()
    clone(model).set_callbacks(recorder).fit(rows(60, 2))
    events = recorder.events
    assert events[:2] == ["setup", ("begin", "fit")]
    assert events[-2:] == [("end", "fit"), "teardown"]


@one_of_each
def test_the_progress_bar_works_and_is_torn_down_after_an_error(model, capsys):
    model = clone(model).set_callbacks(ProgressBar())
    model.fit(rows(60, 2))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((60, 2), np.nan))
    model.fit(rows(60, 2))
    assert type(model).__name__ in capsys.readouterr().out


# -- bad input -----------------------------------------------------------------


BAD_TABLES = {
    "NaN": (np.full((9, 2), np.nan), ValueError, "X contains NaN|only NaN in"),
    "infinity": (np.full((9, 2), np.inf), ValueError, "X contains infinity"),
    "empty": (np.empty((0, 2)), ValueError, "0 sample"),
    "no columns": (np.empty((9, 0)), ValueError, "0 feature"),
    "complex": (np.ones((9, 2), dtype=complex), ValueError, "Complex data"),
    "text": ([["a", "b"]] * 9, ValueError, "'X' argument of .* numbers only.*'a'"),
    "one dimension": (np.ones(9), ValueError, "Expected 2D array"),
}


@one_of_each
@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_tables_are_named(model, kind):
    X, error, message = BAD_TABLES[kind]
    with pytest.raises(error, match=message):
        clone(model).fit(X)


@one_of_each
def test_sparse_rows_are_refused(model):
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match=r"[Ss]parse"):
        clone(model).fit(csr_array(np.eye(9)))


@one_of_each
@pytest.mark.parametrize("method", ["score_samples", "transform", "score"])
def test_another_number_of_features_is_named(model, method):
    with pytest.raises(ValueError, match=r"X has 3 features.*expecting 2"):
        getattr(fitted(model, 2), method)(rows(9, 3))


@one_of_each
def test_latents_of_another_width_are_named(model):
    with pytest.raises(
        ValueError, match=r"'Z' argument of .*inverse_transform must be"
    ):
        fitted(model, 2).inverse_transform(np.ones((4, 9)))


@one_of_each_weighted
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(8), r"'sample_weight' argument of .* shape \(9,\).*\(8,\)"),
        (np.ones((9, 2)), r"'sample_weight' argument of .* shape \(9,\)"),
        (-np.ones(9), "'sample_weight' argument of .* nowhere negative.*-1"),
        (np.zeros(9), "'sample_weight' argument of .* positive for some row.*zero"),
        (np.full(9, np.nan), "sample_weight contains NaN"),
        (np.full(9, 1e308), "'sample_weight' argument of .* of a finite sum"),
        (["a"] * 9, "'sample_weight' argument of .* numbers only"),
        (True, r"'sample_weight' argument of .* shape \(9,\)"),
    ],
)
def test_bad_weights_are_named(model, weights, message):
    with pytest.raises(ValueError, match=message):
        clone(model).fit(rows(9, 2), sample_weight=weights)


@one_of_each
@pytest.mark.parametrize("seed", ["zero", -1, 0.5, 2**32])
def test_a_bad_seed_is_named(model, seed):
    message = "'random_state' parameter of .* must be None.* Got"
    with pytest.raises(ValueError, match=message):
        seeded(clone(model), seed).fit(rows(9, 2))
    with pytest.raises(
        ValueError, match=r"'random_state' argument of .*sample must be"
    ):
        fitted(model, 2).sample(2, random_state=seed)


@one_of_each
@pytest.mark.parametrize("n_samples", [0, -1, 2.0, "3", True])
def test_a_bad_number_of_draws_is_named(model, n_samples):
    message = "'n_samples' argument of .*sample must be an int of at least 1. Got"
    with pytest.raises(ValueError, match=message):
        fitted(model, 2).sample(n_samples)


@one_of_each
@pytest.mark.parametrize("method", ["score_samples", "transform", "score", "sample"])
def test_an_unfitted_model_says_so(model, method):
    arguments = () if method == "sample" else (rows(9, 2),)
    with pytest.raises(NotFittedError):
        getattr(clone(model), method)(*arguments)


@one_of_each_then_all
def test_a_failed_fit_loses_nothing(model):
    X = pd.DataFrame(rows(60, 2), columns=["width", "height"])
    model = clone(model).fit(X)
    before, state = model.score_samples(X), dict(vars(model))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(pd.DataFrame(np.full((9, 3), np.nan), columns=["a", "b", "c"]))
    if has_fit_parameter(model, "sample_weight"):
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(rows(9, 3), sample_weight=-np.ones(9))
    assert vars(model) == state or vars(model).keys() == state.keys()
    np.testing.assert_array_equal(model.score_samples(X), before)


# -- degenerate data -----------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@over(SCALE_FREE)
@pytest.mark.parametrize(
    "kind", ["constant", "duplicated", "collinear", "all constant", "few rows"]
)
def test_degenerate_data_give_finite_answers(model, kind):
    X = rows(60, 3)
    if kind == "constant":
        X[:, 1] = 7.0
    elif kind == "duplicated":
        X[:, 2] = X[:, 0]
    elif kind == "collinear":
        X[:, 2] = 2 * X[:, 0] - 3 * X[:, 1] + 1e3
    elif kind == "all constant":
        X[:] = 7.0
    else:
        X = rows(5, 20)
    model = clone(model).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.transform(X)).all()
    draws = model.sample(200)
    assert np.isfinite(draws).all()
    assert np.isfinite(model.score_samples(draws)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.parametrize(
    "model",
    [
        GaussianKDE(),
        GaussianKDE("silverman", covariance_type="diag"),
        EMGaussianMixture(),
        EMGaussianMixture(2, covariance_type="tied", random_state=0),
        EMGaussianMixture(2, covariance_type="diag", random_state=0),
    ],
    ids=name,
)
@pytest.mark.parametrize("weight", [1.0, 0.05])
def test_the_floor_of_a_constant_feature_is_the_same_for_every_model(model, weight):
    X, weights = rows(200, 2), np.full(200, weight)
    with_constant = np.column_stack([X, np.full(200, 7.0)])
    gain = model.fit(with_constant, sample_weight=weights).score(with_constant)
    gain -= model.fit(X, sample_weight=weights).score(X)
    floor = 1e-6 * X.var(axis=0).max()
    assert gain == pytest.approx(-0.5 * np.log(2 * np.pi * floor), abs=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@over(SCALE_FREE)
def test_rounding_jitter_is_taken_for_a_constant(model):
    X = rows(200, 2)
    scores = []
    jitter = np.random.RandomState(1).randint(-1, 2, size=200)
    for column in (np.full(200, 0.1), 0.1 + jitter * np.spacing(0.1)):
        table = np.column_stack([X, column])
        scores.append(clone(model).fit(table).score(table))
    # Another order of the rows may start EM elsewhere; a floor of rounding would be
    # worth tens of nats.
    assert scores[0] == pytest.approx(scores[1], abs=0.5)


@over(WEIGHTED)
@pytest.mark.parametrize("scale", [1e-310, 1e-30, 1e-3, 0.3, 1e7, 1e30, 1e290])
def test_weights_of_any_size_are_weights(model, scale):
    X, weights = rows(60, 2), np.random.RandomState(1).uniform(0.5, 2, 60)
    expected = clone(model).fit(X, sample_weight=weights).score_samples(X)
    scaled = clone(model).fit(X, sample_weight=weights * scale).score_samples(X)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@one_of_each
@pytest.mark.parametrize("value", [1e160, 1e300])
def test_rows_whose_squares_overflow_are_named(model, value):
    X = rows(60, 2)
    message = "'X' argument of .* must lie within 1e.150 of 0. Got"
    with pytest.raises(ValueError, match=message):
        clone(model).fit(X * value)
    with pytest.raises(ValueError, match=message):
        fitted(model, 2).score_samples(X * value)


# -- rows are answered in chunks -----------------------------------------------


@pytest.mark.parametrize(
    "model", [GaussianKDE(0.7), EMGaussianMixture(3, random_state=0)], ids=name
)
def test_chunks_fit_the_working_memory(model, monkeypatch):
    model, X = fitted(model, 3), rows(3000, 3, seed=7)
    sizes, log_density = [], type(model)._log_density

    def spy(self, X):
        sizes.append(X.shape[0])
        return log_density(self, X)

    monkeypatch.setattr(type(model), "_log_density", spy)
    with config_context(working_memory=0):  # 64 kB are the least
        model.score_samples(X)
    assert sum(sizes) == 3000
    assert max(sizes) * model._bytes_per_row <= 2**16


@weighted_model
def test_one_negative_weight_is_named(model):
    weights = np.array([1.0, -0.5, *np.ones(7)])
    with pytest.raises(ValueError, match=r"nowhere negative. Got -0.5"):
        clone(model).fit(rows(9, 2), sample_weight=weights)


@pytest.mark.parametrize("value", [1e160, -1e160])
def test_rows_whose_squares_overflow_are_named_on_both_sides_of_zero(value):
    X = rows(20, 2)
    X[3, 1] = value
    message = r"must lie within 1e\+150 of 0. Got 1e\+160 in column "
    with pytest.raises(ValueError, match=f"{message}1 instead"):
        GaussianKDE(1.0).fit(X)
    with pytest.raises(ValueError, match=f"{message}'b' instead"):
        GaussianKDE(1.0).fit(pd.DataFrame(X, columns=["a", "b"]))


few_of_each = over(
    ONE_OF_EACH,
    default=[
        m for m in ONE_OF_EACH if m not in QUICK_GRADIENT or m is QUICK_GRADIENT[1]
    ],
)


# -- rows with NaN under assume_finite ---------------------------------------------


@few_of_each
@pytest.mark.parametrize("dtype", [np.float64, thorough(np.float32)])
def test_a_row_with_nan_is_answered_with_nan_where_finite_rows_are_assumed(
    model, dtype
):
    X, y = rows(80, 2), np.arange(80) % 2
    arguments = (X, y) if hasattr(model, "priors") else (X,)
    model = clone(model).fit(*arguments)
    if get_tags(model).input_tags.allow_nan or isinstance(model, PartialRows):
        pytest.skip("NaN means not observed: test_parts.py, test_pipeline_parts.py")
    Q, finite = X[:5].astype(dtype), [0, 2, 4]
    names = ("score_samples", "predict", "predict_proba", "predict_log_proba")
    names += ("transform", "decision_function")
    answers = {n: getattr(model, n) for n in names if hasattr(model, n)}
    expected = {n: answer(Q[finite]) for n, answer in answers.items()}
    Q[1, 0] = Q[3, :] = np.nan
    with config_context(assume_finite=True):
        for method, answer in answers.items():
            for table in (Q, pd.DataFrame(Q), Q.tolist()):
                found = np.asarray(answer(table))
                np.testing.assert_allclose(found[finite], expected[method], 1e-4, 1e-30)
                assert method == "predict" or np.isnan(found[[1, 3]]).all()
            assert method == "predict" or np.isnan(answer(Q[3:4])).all()
        if hasattr(model, "inverse_transform"):
            back = model.inverse_transform(model.transform(Q))
            np.testing.assert_array_equal(np.isnan(back).all(axis=1), np.isnan(Q[:, 0]))
        if "predict_proba" in answers:
            labels = np.argmax(answers["predict_proba"](Q), axis=1)
            np.testing.assert_array_equal(answers["predict"](Q), labels)
        with pytest.raises(ValueError, match="X contains NaN in columns 0 and 1"):
            clone(model).fit(Q, *(part[:5] for part in arguments[1:]))


# -- errors of floating-point numbers -----------------------------------------------


@few_of_each
def test_underflow_is_no_error_whatever_the_caller_raises(model):
    X, y = rows(60, 2), np.arange(60) % 2
    X[::2] += 50  # responsibilities and kernels of the other cluster underflow
    arguments = (X, y) if hasattr(model, "priors") else (X,)
    expected = clone(model).fit(*arguments)
    with np.errstate(all="raise"):
        model = clone(model).fit(*arguments)
        names = ("score_samples", "predict", "predict_proba", "transform")
        for name in (*names, "decision_function"):
            if hasattr(model, name):
                # Far rows get densities of zero in float32.
                far = (X * 20).astype(np.float32)
                answer, plain = getattr(model, name), getattr(expected, name)
                np.testing.assert_array_equal(answer(far), plain(far))
        if hasattr(model, "score"):
            assert model.score(*arguments) == expected.score(*arguments)
        if hasattr(type(model), "sample"):  # a parameter of an imputer
            model.sample(20)
        if hasattr(model, "partial_fit"):
            model.partial_fit(X)


# -- modes of PyTorch that the caller has set ---------------------------------------


@over(
    [*AUTOENCODERS, *QUICK_GRADIENT, *FLOWS, *DIFFUSIONS, *SEMI_SUPERVISED],
    default=[QUICK_GRADIENT[0], QUICK_GRADIENT[2], SEMI_SUPERVISED[0]],
)
def test_modes_of_pytorch_that_the_caller_has_set_change_no_number(model):
    X, y = rows(40, 3), np.arange(40) % 2

    def answers():
        fitted = clone(model).fit(X, y)
        return [fitted.score_samples(X), *map(fitted.sample, (5, 2))]

    expected = answers()
    torch.set_default_dtype(torch.float64)
    try:
        # Libraries do this on import, and web servers around a request.
        with (
            torch.inference_mode(),
            torch.device("meta"),
            torch.autocast("cpu", torch.bfloat16),
        ):
            found = answers()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, 1e-6)
