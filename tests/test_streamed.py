"""Training by gradient descent on rows that are not in memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning

from skgen import RAE, SWAE, VAE, AutoEncoder, SGDGaussianMixture
from skgen.neural import _training_rows
from skgen.neural._training_rows import StreamedRows
from skgen.rows import _source, as_rows

da = pytest.importorskip("dask.array")

LINEAR = {"hidden_layer_sizes": (), "max_epochs": 12, "lr": 0.01, "random_state": 0}
QUICK = [
    SGDGaussianMixture(2, tol=9.0, n_iter_no_change=1, random_state=0),
    AutoEncoder(1, **{**LINEAR, "max_epochs": 2}, early_stopping=True),
    VAE(1, **{**LINEAR, "max_epochs": 2}),
    SWAE(1, **{**LINEAR, "max_epochs": 2}),
    RAE(1, **{**LINEAR, "max_epochs": 2}),
]
every_model = pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            model,
            id=type(model).__name__,
            marks=()
            if type(model) in (SGDGaussianMixture, VAE)
            else pytest.mark.thorough,
        )
        for model in QUICK
    ],
)


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    """Let small files count as large ones: 1,000 values in a block, 4,000 in a pool."""
    monkeypatch.setattr(_source, "_BLOCK", 1_000)
    monkeypatch.setattr(_training_rows, "_POOL", 4_000)
    with config_context(working_memory=0):
        yield


def plane(n, seed=0):
    """Return rows of two clusters near a plane in four dimensions, far from zero."""
    rng = np.random.RandomState(seed)
    Z = rng.standard_normal((n, 2)) + 3 * rng.randint(2, size=(n, 1))
    mixing = np.random.RandomState(1).standard_normal((2, 4))
    return 10 + Z @ mixing + 0.3 * rng.standard_normal((n, 4))


@pytest.fixture
def mapped(tmp_path):
    """Return a function that writes an array to a file and maps it."""

    def write(X):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")

    return write


def in_blocks(X, size=250):
    """Return a function that yields blocks of rows in their order."""
    return lambda: (X[i : i + size] for i in range(0, len(X), size))


def weights_of(model):
    return [p.detach().numpy() for p in model.net_.module_.parameters()]


# -- the rows of an epoch ----------------------------------------------------------


@pytest.mark.parametrize("pool", [100, 4_000, 10**6])
@pytest.mark.parametrize("n_held_out", [0, 300])
def test_an_epoch_takes_each_training_row_once(n_held_out, pool, mapped, monkeypatch):
    monkeypatch.setattr(_training_rows, "_POOL", pool)
    X = np.arange(6_003.0).reshape(-1, 1) * [1.0, 2.0]
    source = as_rows(clone(QUICK[0]), mapped(X), None)
    rows = StreamedRows(source, source.moments(full=False), n_held_out, seed=3)
    device = torch.device("cpu")
    training, held_out, every = rows.placed(lambda X: X.astype(np.float32), device)
    n = 0 if held_out is None else len(held_out)
    assert n == n_held_out
    assert training.shape == (6_003 - n, 2)
    assert every.shape == (6_003, 2)
    held_out = [] if held_out is None else held_out[:, 0].tolist()
    generator = torch.Generator()
    for stream, left_out in ((training, held_out), (every, [])):
        epochs = [list(stream.pools(g)) for g in (None, generator, generator)]
        for pools in epochs:
            assert [len(pool) for pool in pools] == stream.pool_sizes
            assert max(stream.pool_sizes) - min(stream.pool_sizes) <= 1
            found = torch.cat(pools)[:, 0].tolist() + left_out
            assert sorted(found) == X[:, 0].tolist()
        first, second = (torch.cat(pools)[:, 0].tolist() for pools in epochs[1:])
        assert (first == second) == (len(pools) == 1)
    few = set(rows.sample(500)[:, 0].tolist())
    assert len(few) == 500
    assert not few & set(held_out)
    assert max(few) > 5_000
    assert min(few) < 1_000


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_rows_follow_from_their_position_and_the_seed(seed):
    X, keys = plane(3_000), []
    for size in (250, 999):
        source = as_rows(clone(QUICK[0]), in_blocks(X, size), None)
        rows = StreamedRows(source, source.moments(full=False), 300, seed)
        keys.append(rows.placed(lambda X: X, torch.device("cpu"))[1])
    assert_array_equal(*keys)
    other = StreamedRows(source, source.moments(full=False), 300, seed + 1)
    found = other.placed(lambda X: X, torch.device("cpu"))[1]
    assert len(set(map(tuple, found.tolist())) & set(map(tuple, keys[0].tolist()))) < 60


# -- fits ----------------------------------------------------------------------------


@every_model
def test_a_file_a_function_and_dask_are_fitted_alike(model, mapped, monkeypatch):
    monkeypatch.setattr(_training_rows, "_POOL", 10**6)  # one, shuffled as a whole
    X = plane(750)
    sources = mapped(X), in_blocks(X), da.from_array(X, chunks=(250, 2))
    fits = [clone(model).fit(source) for source in sources]
    for other in fits[1:]:
        for one, two in zip(weights_of(fits[0]), weights_of(other), strict=True):
            assert_array_equal(one, two)
    assert_array_equal(fits[0].score_samples(X[:9]), fits[1].score_samples(X[:9]))
    assert_array_equal(fits[0].sample(3), fits[2].sample(3))
    again = clone(model).fit(mapped(X))
    assert_array_equal(again.score_samples(X[:9]), fits[0].score_samples(X[:9]))
    different = clone(model).set_params(random_state=1).fit(mapped(X))
    assert (different.score_samples(X[:9]) != fits[0].score_samples(X[:9])).any()


# One component: with two, other rounding leads to another local optimum.
FULL, LOW_RANK, AE, VAE_ = (
    SGDGaussianMixture(random_state=0),
    SGDGaussianMixture(covariance_type="lowrank", rank=1, random_state=0),
    AutoEncoder(2, **LINEAR),
    VAE(2, **{**LINEAR, "max_epochs": 30, "lr": 0.02}),
)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("model", "order"),
    [(FULL, "random"), *((model, "sorted") for model in (FULL, LOW_RANK, AE, VAE_))],
)
def test_the_score_is_close_to_the_score_in_memory(model, order, mapped):
    X, test = plane(6_000), plane(1_000, seed=5)
    file = X[np.argsort(X[:, 0])] if order == "sorted" else X
    here, there = (clone(model).fit(source) for source in (X, mapped(file)))
    # Steps of Adam scatter about the optimum; between seeds, scores differ as much.
    assert there.score(test) == pytest.approx(here.score(test), abs=0.05)
    assert there.n_features_in_ == 4
    losses = [model.history_[-1]["train"] for model in (here, there)]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", [QUICK[0], QUICK[2]])
def test_the_rows_are_never_gathered(model, mapped, monkeypatch):
    monkeypatch.setattr(_training_rows, "_HELD_OUT", 4_000)
    monkeypatch.setattr(_training_rows, "_SAMPLE", 8_000)
    X = mapped(plane(150_000))
    clone(model).fit(X[:3_000])  # imports
    model = clone(model).set_params(max_epochs=1, batch_size=2_000)
    for source in (X, in_blocks(X)):
        tracemalloc.start()
        try:
            model.fit(source)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < X.nbytes / 2.5


def test_float32_frames_and_names():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(plane(2_000).astype(np.float32), columns=list("abcd"))
    model = clone(QUICK[0]).fit(lambda: (X[i : i + 500] for i in range(0, 2_000, 500)))
    assert_array_equal(model.feature_names_in_, X.columns)
    assert model.sample(2).dtype == np.float32


@every_model
def test_warm_starts_and_streams_continue(model, mapped):
    X = plane(600)
    model = clone(model).set_params(warm_start=True).fit(mapped(X))
    n = model.n_iter_
    assert model.fit(in_blocks(X)).n_iter_ > n
    n = model.n_iter_
    assert model.partial_fit(X[:300]).n_iter_ == n + 1
    with pytest.raises(ValueError, match=r"3 instead|has 3 features"):
        model.fit(in_blocks(X[:, :3]))


@pytest.mark.thorough
def test_held_out_rows_stop_a_fit_and_join_at_the_end(mapped):
    model = SGDGaussianMixture(2, random_state=0).fit(mapped(plane(4_000)))
    watched = [not np.isnan(epoch["validation"]) for epoch in model.history_]
    assert watched == [True] * (len(watched) - 2) + [False] * 2
    assert model.converged_
    assert model.lower_bound_ == pytest.approx(model.score(plane(4_000)), abs=1e-3)


def test_the_sample_of_a_stream_starts_with_the_rows_of_the_fit(mapped):
    X = plane(6_000)
    model = clone(QUICK[2]).fit(mapped(X))
    assert model._reservoir.X.shape == (2_000, 4)
    assert (model._reservoir.keys < 0.4).all()
    model.partial_fit(plane(4_000, seed=3))
    old = model._coordinates.standardized(X).astype(np.float32)
    kept = set(map(tuple, model._reservoir.X.tolist())) & set(map(tuple, old.tolist()))
    assert abs(len(kept) - 1_200) < 5 * np.sqrt(1_200)


# -- what is wrong with the rows ---------------------------------------------------


@every_model
@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (iter([plane(50)]), r"an iterator, .* read only once \(use partial_fit"),
        (lambda: iter([]), "one that returns no rows"),
        (lambda: iter([(plane(50), np.full(50, 2.0))]), "Got blocks with weights"),
        (lambda: iter([(plane(2), [0.5, 1.5])]), "Got blocks with weights"),
        (in_blocks(np.full((50, 4), np.nan)), "contains NaN in column|only NaN in"),
        (in_blocks(plane(1)), "at least 2"),
    ],
)
def test_unsuitable_rows_are_named(model, blocks, message):
    model = clone(model)
    with pytest.raises(ValueError, match=message):
        model.fit(blocks)
    assert not hasattr(model, "net_")


def test_equal_weights_of_which_only_ratios_matter_are_no_weights():
    X = plane(60)
    model = VAE(1, **{**LINEAR, "max_epochs": 1})
    fits = [
        clone(model).fit(lambda w=w: iter([(X[:20], w[:20]), (X[20:], w[20:])]))
        for w in (np.ones(60), np.full(60, 0.3))
    ]
    for one, two in zip(*map(weights_of, fits), strict=True):
        assert_allclose(one, two, rtol=0)


def test_rows_that_change_between_passes_are_named():
    for step, words in ((-100, "rows, then"), (100, "rows, then")):
        sizes = iter(range(4_000, 4_000 + 40 * step, step))
        with pytest.raises(ValueError, match=f"returned {words}|returned .* {words}"):
            clone(QUICK[0]).fit(lambda sizes=sizes: in_blocks(plane(next(sizes)))())


def test_most_of_few_rows_are_held_out():
    model = VAE(1, likelihood="bernoulli", early_stopping=True, validation_fraction=0.9)
    model.set_params(**{**LINEAR, "max_epochs": 2})
    X = np.random.RandomState(0).uniform(size=(12, 3))
    model.fit(in_blocks(X, 1))
    assert np.isfinite([epoch["validation"] for epoch in model.history_]).all()
    with pytest.raises(ValueError, match="leave some of the 12 rows for training"):
        model.set_params(validation_fraction=0.99).fit(in_blocks(X))


def test_greys_above_one_are_refused():
    X = np.random.RandomState(0).uniform(size=(600, 3))
    X[-1, 1] = 1.5
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        VAE(1, likelihood="bernoulli", **LINEAR).fit(in_blocks(X))


def test_ties_are_reported(mapped):
    X = np.round(plane(3_000))
    with pytest.warns(UndefinedMetricWarning, match=r"columns \[0, 1, 2, 3\]"):
        clone(QUICK[0]).fit(mapped(X))


def test_a_failure_leaves_the_fit_as_it_was():
    model, X = clone(QUICK[0]).fit(plane(500)), plane(3_000)
    before, weights = dict(vars(model)), weights_of(model)
    X[-1, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        model.fit(in_blocks(X))
    assert vars(model) == before
    assert_allclose(weights_of(model)[0], weights[0], rtol=0)
