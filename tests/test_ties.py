"""Tied columns: what counts as one, and what noise they get."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from skgen import EMGaussianMixture, GaussianKDE, dequantize
from skgen._columns import list_columns
from skgen._dequantize import column_step, tied_columns


@pytest.mark.parametrize(
    ("column", "step"),
    [
        ([1, 2, 2, 5], 1),
        ([0, 30, 30, 90, 120], 30),
        ([0.1, 0.1 + 0.2, 0.3, 0.5], 0.2),
        ([0, 0, 1], 1),
        ([1, 2, 3, 4], 0),
        ([7, 7, 7], 0),
        ([1e6 + 0.1, 1e6 + 0.1, 1e6 + 0.3], 0.2),
        ([-3, -3, -1], 2),
        ([0, 0, 6, 16, 31], 1),
        ([0, 0, 6, 15, 300], 3),
        ([0.05, 0.05, 0.2, 1.1], 0.15),
        ([3, 7, 3, 1e13], 1),
        ([1e15, 1e15, 1e15 + 1, 1e15 + 49], 1),
        ([1.7e12, 1.7e12, 1.7e12 + 7], 7),
        (np.array([0, 0, 2, 3]) / 7, 1 / 7),
        ([-1.7e308, 1.7e308, 1.7e308], 0),
    ],
)
def test_grid_step_is_the_greatest_common_step_of_a_tied_column(column, step):
    found, _ = column_step(np.array(column, dtype=float))
    assert found == pytest.approx(step, rel=1e-6)


def test_atoms_among_unrounded_values_get_the_distance_to_their_neighbours(rng):
    # The smallest gap of all, about 1e-7, would leave the atoms as they are.
    column = np.concatenate([np.zeros(500), rng.uniform(0.01, 1.0, 2000), np.ones(400)])
    assert column_step(column)[0] == pytest.approx(0.01, rel=0.1)


def test_a_sentinel_does_not_drown_the_other_rows(rng):
    column = np.append(20 + 2 * rng.standard_normal(900), np.full(100, -999.0))
    assert 0 < column_step(column)[0] < 0.5


def test_one_odd_number_among_rounded_ones_does_not_count(rng):
    column = np.append(np.round(rng.standard_normal(500), 1), 0.123456)
    assert column_step(column)[0] == pytest.approx(0.1)


def test_prices_in_single_precision_are_a_grid_of_cents(rng):
    prices = (rng.randint(100, 9000, 500) / 100).astype(np.float32)
    assert column_step(prices)[0] == pytest.approx(0.01, rel=1e-3)


def test_rows_that_come_twice_are_no_ties(rng):
    X = rng.standard_normal((300, 3))
    assert tied_columns(X[rng.randint(300, size=2000)]).size == 0


def test_numbers_mostly_rounded_to_thousands_get_a_thousand(rng):
    column = 1000.0 * rng.randint(10, 60, 900)
    column[:5] += rng.uniform(200, 800, 5)
    assert column_step(column)[0] == 1000.0


def test_dequantize_spreads_tied_columns_over_their_own_step(rng):
    X = np.column_stack(
        [
            rng.randint(0, 9, 5000),
            rng.randint(0, 9, 5000) * 2.5,
            rng.standard_normal(5000),
            np.full(5000, 3.0),
        ]
    )
    noise = dequantize(X, random_state=0) - X
    for j, step in ((0, 1.0), (1, 2.5)):
        scaled = np.sort(noise[:, j]) / step + 0.5
        assert scaled.min() >= 0
        assert scaled.max() <= 1
        assert np.abs(scaled - np.linspace(0, 1, 5000)).max() < 0.03
    np.testing.assert_array_equal(noise[:, 2:], 0.0)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.05


def test_noise_of_a_generator_is_reproduced_and_moves_on():
    X, rng = np.ones((9, 1)) * [[1.0, 2.0]], np.random.default_rng(0)
    X[:5] += 1
    first, second = dequantize(X, rng), dequantize(X, rng)
    assert not np.isin(first, second).any()
    np.testing.assert_array_equal(first, dequantize(X, np.random.default_rng(0)))


def test_dequantize_is_seeded_and_leaves_its_argument(rng):
    X = rng.randint(0, 9, (50, 2))
    before = X.copy()
    first, again = dequantize(X, random_state=1), dequantize(X, random_state=1)
    np.testing.assert_array_equal(first, again)
    assert (first != dequantize(X, random_state=2)).all()
    assert (dequantize(X) != dequantize(X)).all()
    np.testing.assert_array_equal(X, before)
    assert dequantize(X.astype(np.float32)).dtype == np.float32
    assert first.dtype == np.float64


@pytest.mark.parametrize("X", [[[np.nan]], [["a"]], [1.0, 2.0], []])
def test_dequantize_refuses_what_is_no_table(X):
    with pytest.raises(ValueError, match=r"NaN|numbers only|2D"):
        dequantize(X)


def test_dequantize_names_a_bad_seed():
    with pytest.raises(ValueError, match="'random_state' argument of dequantize must"):
        dequantize([[1.0], [1.0]], random_state="zero")


def test_tied_columns_are_those_with_fewer_than_half_distinct(rng):
    X = np.column_stack(
        [
            rng.standard_normal(20_000),
            rng.randint(0, 2, 20_000),
            np.ones(20_000),
            np.round(rng.standard_normal(20_000), 2),
        ]
    )
    assert tied_columns(X).tolist() == [1, 3]
    assert tied_columns(X[:3]).tolist() == []


@pytest.mark.parametrize("model", [GaussianKDE(0.5), EMGaussianMixture()])
def test_fitting_tied_columns_warns_and_names_the_remedy(model, rng):
    X = np.column_stack([rng.standard_normal(90), rng.randint(0, 5, 90)])
    with pytest.warns(UndefinedMetricWarning, match=r"\[1\].*skgen\.dequantize"):
        model.fit(X)
    model.fit(dequantize(X, random_state=0))  # warnings are errors


@pytest.mark.parametrize("value", [0.3, 14.62, 1e8 + 0.1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_errors_of_a_constant_are_no_ties(value, dtype, rng):
    # Noise of one grid step would change nothing.
    X = np.full((200, 2), value, dtype)
    X[:, 0] += rng.randint(-2, 3, size=200).astype(dtype) * np.spacing(dtype(value))
    assert np.unique(X[:, 0]).size == 5
    X[:, 1] = rng.standard_normal(200)
    assert tied_columns(X).size == 0


def test_long_lists_of_columns_are_cut():
    assert list_columns(range(3)) == "[0, 1, 2]"
    assert list_columns([0, 2], ["a", "b", "c"]) == "[a, c]"
    assert list_columns(range(30)).endswith("9], ... (30 in all)]".replace("]", "", 1))


@pytest.mark.parametrize("library", [pd, pl])
def test_a_dataframe_stays_a_dataframe(library):
    columns = {"age": [1.0, 2.0, 2.0, 4.0], "height": [0.1, 0.2, 0.2, 0.2]}
    frame = library.DataFrame(columns)
    if library is pd:
        frame.index = [3, 1, 4, 5]
    noisy = dequantize(frame, random_state=0)
    assert list(noisy.columns) == ["age", "height"]
    np.testing.assert_array_equal(
        noisy.to_numpy(), dequantize(frame.to_numpy(), random_state=0)
    )
    if library is pd:
        assert noisy.index.tolist() == [3, 1, 4, 5]
