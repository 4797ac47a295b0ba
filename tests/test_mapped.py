"""Fits of memory-mapped files, block by block, against fits in memory."""

import re
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from estimators import rows
from mixtures import TYPES
from sklearn import config_context
from sklearn.exceptions import UndefinedMetricWarning
from tables import RACED, assert_same, given_start, table

from skgen import EMGaussianMixture
from skgen.mixture import _restarts
from skgen.rows import _source, as_rows
from skgen.rows._moments import moments_of
from skgen.rows._sketch import sample_of
from skgen.rows._source import is_mapped

every_type = pytest.mark.parametrize("covariance_type", TYPES)


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    """Let small files count as large ones, of many blocks."""
    monkeypatch.setattr(_source, "_BLOCK", 2_000)
    with config_context(working_memory=0):
        yield


@pytest.fixture
def mapped(tmp_path):
    """Return a function that writes an array to a file and maps it."""

    def write(X, name="X.npy"):
        np.save(tmp_path / name, X)
        return np.load(tmp_path / name, mmap_mode="r")

    return write


@every_type
def test_a_file_is_fitted_as_rows_in_memory(covariance_type, mapped):
    X, options = table(20_000), {"covariance_type": covariance_type, "random_state": 0}
    on_disk = EMGaussianMixture(3, **options).fit(mapped(X))
    assert_same(on_disk, EMGaussianMixture(3, **options).fit(X), **RACED)


def test_weights_and_rows_of_weight_0(mapped):
    X, weights = table(20_000), np.random.RandomState(0).randint(0, 3, 20_000)
    weights[2_000:5_000] = 0  # whole blocks
    on_disk = EMGaussianMixture(3, random_state=0).fit(mapped(X), sample_weight=weights)
    in_memory = EMGaussianMixture(3, random_state=0).fit(X, sample_weight=weights)
    assert_same(on_disk, in_memory, **RACED)


def test_the_largest_weights(mapped):
    X = table(20_000)
    weights = np.full(len(X), 1.7e308 / len(X))
    on_disk = EMGaussianMixture(3, random_state=0).fit(mapped(X), sample_weight=weights)
    in_memory = EMGaussianMixture(3, random_state=0).fit(X, sample_weight=weights)
    assert_same(on_disk, in_memory, **RACED)


@pytest.mark.parametrize(
    "w", [0.3, 1e30, [1e-200, 2e-200, 3e-200], [1, 2, 3], [1, 2.5]]
)
def test_blocks_are_worth_as_many_rows_as_an_array(w, mapped):
    """Kish's effective number of rows, or the sum of whole weights."""
    X = table(2_000)
    w = np.resize(np.array(w, float), 2_000)
    expected = w.sum() if 1 < w[-1] < 9 and (w % 1 == 0).all() else None
    scaled = w / w.max()
    expected = expected or scaled.sum() ** 2 / (scaled**2).sum()
    fitted = EMGaussianMixture(max_iter=1, tol=1e9).fit(mapped(X), sample_weight=w)
    assert fitted._spread.weight == pytest.approx(expected, rel=1e-12)
    again = fitted.partial_fit(X[:100], sample_weight=w[:100])
    expected *= 1 + w[:100].sum() / w.sum()
    assert again._spread.weight == pytest.approx(expected, rel=1e-12)


@every_type
def test_a_given_start(covariance_type, mapped):
    X = table(20_000)
    options = given_start(X, covariance_type)
    on_disk = EMGaussianMixture(2, **options).fit(mapped(X))
    assert_same(on_disk, EMGaussianMixture(2, **options).fit(X))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_other_numbers_are_read_as_floats(dtype, mapped):
    X = (10 * table(20_000)).astype(dtype)
    on_disk, in_memory = (EMGaussianMixture(3, random_state=0) for _ in range(2))
    with warnings_of_ties(dtype == np.int16):
        on_disk.fit(mapped(X))
    with warnings_of_ties(dtype == np.int16):
        in_memory.fit(X.astype(float))
    assert_same(on_disk, in_memory, **RACED)
    assert on_disk.sample().dtype == (np.float32 if dtype == np.float32 else float)


def warnings_of_ties(expected):
    if expected:
        return pytest.warns(UndefinedMetricWarning, match="dequantize")
    return config_context()


@pytest.mark.thorough
def test_the_rows_are_never_all_in_memory(mapped, monkeypatch):
    monkeypatch.setattr(_restarts, "_MOST_NUMBERS", 4_000)
    X = mapped(table(250_000, 4))
    tracemalloc.start()
    try:
        EMGaussianMixture(3, tol=9.0, random_state=0).fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 4


def test_slices_of_a_file_are_on_disk_and_small_files_are_not(mapped):
    X = mapped(table(2_000))
    assert is_mapped(X)
    assert is_mapped(X[10:])
    assert is_mapped(np.asarray(X))
    assert not is_mapped(np.array(X))
    assert not is_mapped(X[:, 0])
    with config_context(working_memory=1024):
        assert not is_mapped(X)
    # Three copies of 48 kB.
    with config_context(working_memory=0.14):
        assert is_mapped(mapped(rows(2_050, 3)))
        assert not is_mapped(mapped(rows(2_030, 3), "fewer.npy"))


def test_numbers_that_are_none_are_named(mapped):
    X = table(20_000)
    X[-1, 2] = np.inf
    with pytest.raises(ValueError, match=r"X contains infinity.*"):
        EMGaussianMixture(3).fit(mapped(X))
    X[-1, 2] = 1e200
    with pytest.raises(ValueError, match=r"must lie within 1e\+150 of 0"):
        EMGaussianMixture(3).fit(mapped(X, "far.npy"))
    with pytest.raises(ValueError, match=r"shape \(20000,\)"):
        EMGaussianMixture(3).fit(mapped(table(20_000)), sample_weight=np.ones(3))


def test_a_row_of_weight_0_is_checked(mapped):
    X = table(20_000)
    X[-1, 2] = np.inf
    w = np.append(np.ones(19_999), 0.0)
    for source in (X, mapped(X), lambda: iter([(X, w)])):
        given = None if callable(source) else w
        with pytest.raises(ValueError, match=r"X contains infinity.*in column 2"):
            EMGaussianMixture(3).fit(source, sample_weight=given)


# A start of two components in one dimension.
TWO = {
    "weights_init": [0.5, 0.5],
    "means_init": [[10.0], [30.0]],
    "precisions_init": np.full((2, 1, 1), 0.01),
}


def test_warnings_are_those_in_memory(mapped, rng):
    values = rng.randint(0, 40, 8_000).astype(float)
    tied = values[:, None]
    many = rng.permutation(np.repeat(rng.standard_normal(1_500), 6))[:, None]
    constant = np.column_stack([rng.standard_normal(8_000), np.full(8_000, 7.1)])
    for X, options, message in (
        (tied, {}, "Most values occur more than once in the columns [0]"),
        (many, TWO, "Most values occur more than once in the columns [0]"),
        (tied, TWO, "Most values occur more than once in the columns [0]"),
        (constant, {}, "Constant features have no density to estimate: [1]"),
    ):
        model = EMGaussianMixture(2, tol=9.0, random_state=0, **options)
        for source in (X, mapped(X), lambda X=X: iter(np.array_split(X, 3))):
            with pytest.warns(UserWarning, match=re.escape(message)):
                model.fit(source)


def test_rows_that_repeat_seldom_are_not_tied(mapped, rng):
    X = rng.standard_normal(20_000)
    X[12_000:] = X[:8_000]  # the sample holds 4,096 of 12,000 distinct rows
    EMGaussianMixture(2, tol=9.0, **TWO).fit(mapped(X[:, None]))


def test_a_failure_leaves_the_mixture_as_it_was(mapped):
    mixture = EMGaussianMixture(3, random_state=0).fit(rows(100, 2))
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match="NaN"):
        mixture.fit(mapped(np.full((1_000, 3), np.nan)))
    assert vars(mixture) == before


def test_blocks_hold_every_row_once(mapped):
    X = np.arange(30_003.0).reshape(-1, 3)
    found = as_rows(EMGaussianMixture(), mapped(X), None).total(Listed)
    assert sorted(found.first) == X[:, 0].tolist()


class Listed:
    """The first numbers of rows; those of blocks add up."""

    def __init__(self, X, sample_weight):
        self.first = X[:, 0].tolist()

    def __add__(self, other):
        found = object.__new__(Listed)
        found.first = self.first + other.first
        return found


# -- what adds up --------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("offset", "scale"), [(0, 1), (1e8, 1), (0, 1e-140), (0, 1e140), (1e150, 1e149)]
)
def test_moments_of_blocks_add_up(full, offset, scale, rng):
    X = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3))
    X[:, 2] *= 1e-2
    X, weights = offset + scale * X, rng.uniform(0.1, 2, 500)
    edges = [0, 1, 2, 40, 300, 500]
    parts = [moments_of(X[i:j], weights[i:j], full=full) for i, j in pairwise(edges)]
    total = sum(parts[1:], start=parts[0])
    centred = (X - X[0]).astype(np.longdouble)
    mean = np.average(centred, axis=0, weights=weights)
    centred = (centred - mean).astype(np.longdouble)
    variances = np.average(centred**2, axis=0, weights=weights)
    # The mean of rows so far away is rounded.
    rounding = (np.finfo(float).eps * np.abs(X).max(axis=0)) ** 2
    np.testing.assert_allclose(
        total.variances, variances.astype(float), rtol=1e-7, atol=0, err_msg="variances"
    )
    assert (
        np.abs(total.mean - (X[0] + mean).astype(float)) ** 2 <= 16 * rounding
    ).all()
    assert total.n_rows == 500
    assert total.weight == pytest.approx(weights.sum())
    squares = np.average(X**2, axis=0, weights=weights)
    np.testing.assert_allclose(total.magnitudes, np.sqrt(squares), rtol=1e-12)
    if full:
        sd = np.sqrt(total.variances)
        covariance = np.einsum("i,ij,ik->jk", weights, centred / sd, centred / sd)
        np.testing.assert_allclose(
            total.correlation(sd),
            (covariance / weights.sum()).astype(float),
            atol=1e-7,
        )


def test_a_constant_feature_has_no_variance_in_any_block():
    X = np.column_stack([np.full(100, 7.1), np.arange(100.0)])
    parts = [
        moments_of(X[i : i + 10], np.ones(10), full=True) for i in range(0, 100, 10)
    ]
    total = sum(parts[1:], start=parts[0])
    assert total.variances[0] == 0
    assert total.variances[1] == pytest.approx(np.var(np.arange(100)))


def sampled(X, weights, size, edges):
    moments = moments_of(X, weights, full=False)
    parts = [
        sample_of(X[i:j], weights[i:j], size=size, moments=moments)
        for i, j in pairwise(edges)
    ]
    return sum(parts[1:], start=parts[0])


@pytest.mark.parametrize("decimals", [15, 1, 0])
def test_a_sample_is_the_same_in_any_order_and_blocks(decimals, rng):
    X = rng.standard_normal((3_000, 2)).round(decimals)
    weights = rng.randint(1, 4, 3_000).astype(float)
    whole = sampled(X, weights, 200, [0, 3_000])
    order = rng.permutation(3_000)
    parts = sampled(X[order], weights[order], 200, [0, 10, 700, 1_500, 3_000])
    np.testing.assert_array_equal(whole.X, parts.X)
    np.testing.assert_array_equal(whole.sample_weight, parts.sample_weight)
    distinct = np.unique(X, axis=0)
    assert len(np.unique(whole.X, axis=0)) == len(whole.X) == min(200, len(distinct))
    for row, weight in zip(whole.X[:20], whole.sample_weight[:20], strict=True):
        assert weight == weights[(X == row).all(axis=1)].sum()


def test_a_sample_does_not_follow_units(rng):
    X, ones = rng.standard_normal((5_000, 3)), np.ones(5_000)
    plain = sampled(X, ones, 300, [0, 5_000])
    for scaled in (1e-6 * (X + 3), -X, X * [1e-3, 1.0, 1e5]):
        other = sampled(scaled, ones, 300, [0, 5_000])
        moments = moments_of(scaled, ones, full=False)
        back = (other.X - moments.mean) / np.sqrt(moments.variances)
        sign = -1 if scaled[0, 0] == -X[0, 0] else 1
        mean, variances = X.mean(axis=0), X.var(axis=0)
        np.testing.assert_allclose(
            sign * back * np.sqrt(variances) + mean, plain.X, atol=1e-8
        )


def test_a_sample_is_like_the_rows(rng):
    X = rng.standard_normal((200_000, 3)) * [1, 10, 100] + 1e4
    sample = sampled(X, np.ones(200_000), 20_000, [0, 200_000])
    z = (sample.X - X.mean(axis=0)) / X.std(axis=0)
    assert np.abs(z.mean(axis=0)).max() < 0.03
    assert np.abs(np.cov(z.T) - np.eye(3)).max() < 0.05


def test_rows_that_repeat_each_other_are_all_found(rng):
    X = rng.randint(0, 5, (50_000, 1)).astype(float)
    sample = sampled(X, np.ones(50_000), 100, [0, 50_000])
    assert sorted(sample.X[:, 0]) == [0, 1, 2, 3, 4]
    assert sample.sample_weight.sum() == 50_000


def test_a_sample_of_repeated_rows_is_as_large_as_was_asked_for(mapped, rng):
    X = mapped(rng.standard_normal((400, 2))[rng.randint(400, size=8_000)])
    model = EMGaussianMixture(2)
    source = as_rows(model, X, None)
    sample, weights = source.sample(300, source.moments(full=False))
    assert sample.shape == (300, 2)
    assert np.unique(sample, axis=0).shape == (300, 2)
    assert weights.sum() > 4_000


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("scales", [(1.0, 1e3), (1e3, 1.0)])
def test_moments_of_narrow_and_wide_blocks_add_up(full, scales, rng):
    blocks = [scale * rng.standard_normal((50, 2)) for scale in scales]
    one, other = (moments_of(X, np.ones(50), full=full) for X in blocks)
    variances = np.vstack(blocks).var(axis=0)
    np.testing.assert_allclose((one + other).variances, variances, rtol=1e-12)
