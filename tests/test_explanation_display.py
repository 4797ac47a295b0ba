"""The plot of explanations: bars and colours are the surprises, in order."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from estimators import rows
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from skgen import (
    DensityOutlierDetector,
    EMGaussianMixture,
    OutlierExplanationDisplay,
)
from skgen._checks import InvalidParameterError

mpl.use("Agg")
from matplotlib import pyplot as plt

explain = OutlierExplanationDisplay.from_estimator
NAMES = ["width", "height", "depth"]


@pytest.fixture(autouse=True)
def _figures_are_closed():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def detector():
    return DensityOutlierDetector(EMGaussianMixture(reg_covar=0)).fit(rows(300, 3))


def test_bars_are_the_surprises_from_the_highest(detector):
    row = np.array([[0.0, 30.0, 1.0]])
    display = explain(detector, row, feature_names=NAMES, max_features=2)
    display.figure_.canvas.draw()
    expected = detector.explain(row)[0]
    assert display.features_[0] == expected.argmax() == 1
    np.testing.assert_array_equal(display.features_, np.argsort(-expected)[:2])
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_array_equal(widths, expected[display.features_])
    texts = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert texts[0] == "height = 30"
    assert display.ax_.yaxis_inverted()  # the first bar is at the top
    assert display.image_ is None
    low, high = display.ax_.get_xlim()
    assert low == 0
    assert high > max(widths)


def test_missing_values_have_no_bar(detector):
    display = explain(detector, [[np.nan, 2.0, 1.0]])
    assert display.features_[-1] == 0
    assert display.bars_[-1].get_width() == 0
    texts = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert texts[-1] == "feature 0 missing"


def test_several_rows_are_a_heat_map():
    table = pd.DataFrame(rows(300, 3), columns=NAMES)
    detector = DensityOutlierDetector(EMGaussianMixture()).fit(table)
    some = table.iloc[[5, 9]].copy()
    some.iloc[0, 2] = 40.0
    some.iloc[1, 0] = np.nan
    some.index = ["Ann", "Bob"]
    _, ax = plt.subplots()
    display = explain(detector, some, ax=ax)
    display.figure_.canvas.draw()
    assert display.ax_ is ax
    assert display.bars_ is None
    assert display.features_[0] == 2
    expected = detector.explain(some)[:, display.features_]
    shown = display.image_.get_array()
    np.testing.assert_array_equal(shown.filled(np.nan), expected)
    assert display.image_.norm.vmin == 0
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == [NAMES[j] for j in display.features_]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Ann", "Bob"]
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax
    title = explain(detector, some.iloc[:1]).ax_.get_title()
    assert title == "row Ann"


def test_wrong_arguments_are_named(detector):
    for arguments, message in [
        ({"max_features": 0}, "'max_features'"),
        ({"feature_names": ["a"]}, "'feature_names'"),
    ]:
        with pytest.raises(InvalidParameterError, match=message):
            explain(detector, rows(2, 3), **arguments)
    with pytest.raises(InvalidParameterError, match=r"3 columns.* Got 2 columns"):
        explain(detector, rows(2, 2))
    with pytest.raises(InvalidParameterError, match="Got NaN only"):
        explain(detector, np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        explain(detector, [[np.inf, 0, 0]])
    with pytest.raises(InvalidParameterError, match="'explain'"):
        explain(IsolationForest().fit(rows(20, 3)), rows(2, 3))
    with pytest.raises(NotFittedError):
        explain(DensityOutlierDetector(EMGaussianMixture()), rows(2, 3))
