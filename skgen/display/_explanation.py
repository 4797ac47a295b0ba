"""The columns that make rows outliers, as bars or as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skgen._checks import Described, wrong_argument
from skgen._interop import frame_kind
from skgen._lazy import lazy_module
from skgen._typing import FloatArray, MatrixLike
from skgen.display._arguments import (
    check_columns,
    check_estimator,
    check_matplotlib,
    check_whole,
    checked_names,
    numbers,
)

colors = lazy_module("matplotlib.colors", "OutlierExplanationDisplay.plot")
pyplot = lazy_module("matplotlib.pyplot", "OutlierExplanationDisplay.plot")

# Surprise of one row in 1,000, which a line marks.
_RARE = np.log(1000)

_COLOR = "#0072B2"  # of Okabe and Ito (2008), as of the first model of a plot


class OutlierExplanationDisplay:
    r"""The surprise of each value of outliers: which columns make a row odd.

    Use :meth:`from_estimator` to compute and plot a display. One row is a bar chart of
    its most surprising columns. Several rows are a heat map of rows and columns.

    Parameters
    ----------
    surprise : ndarray of shape (n_rows, n_features)
        Surprise of each value in nats, from `DensityOutlierDetector.explain`. NaN for
        missing values.
    values : ndarray of shape (n_rows, n_features)
        The rows.
    feature_names : list of str, default=None
        Names of the features. None names them by their number.
    row_names : list, default=None
        Names of the rows. None names them by their number.
    max_features : int, default=10
        Maximum number of columns to show: the columns with the highest surprise in any
        row.

    Attributes
    ----------
    features_ : ndarray of shape (n_shown,)
        Indices of the columns that are shown, from the highest surprise to the lowest;
        set by `plot`.
    bars_ : matplotlib BarContainer or None
        Bars of a single row; set by `plot`.
    image_ : matplotlib AxesImage or None
        Heat map of several rows; set by `plot`.
    ax_ : matplotlib Axes
        Axes of the plot; set by `plot`.
    figure_ : matplotlib Figure
        Figure of the axes; set by `plot`.

    See Also
    --------
    DensityOutlierDetector.explain : The values of the plot.
    DensityDisplay : The density or its marginals, beside the data.

    Notes
    -----
    The surprise of a value is minus the logarithm of the probability that
    :math:`\log p(x_j | x_{-j})` is as low in other rows [1]_. A dotted line marks one
    row in 1,000, which is 6.9 nats. The surprises of a row do not sum to its score.

    References
    ----------
    .. [1] Tribus, M. (1961). Thermostatics and Thermodynamics. Van Nostrand.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skgen import DensityOutlierDetector, EMGaussianMixture
    >>> from skgen import OutlierExplanationDisplay, dequantize
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> X = dequantize(X, random_state=0)
    >>> detector = DensityOutlierDetector(EMGaussianMixture(3, random_state=0)).fit(X)
    >>> row = X.iloc[[100]].copy()
    >>> row["petal width (cm)"] = 0.2  # of another species
    >>> display = OutlierExplanationDisplay.from_estimator(detector, row)
    >>> display.feature_names[display.features_[0]]
    'petal width (cm)'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        surprise: FloatArray,
        *,
        values: FloatArray,
        feature_names: list[str] | None = None,
        row_names: list[Any] | None = None,
        max_features: int = 10,
    ) -> None:
        self.surprise = surprise
        self.values = values
        self.feature_names = feature_names
        self.row_names = row_names
        self.max_features = max_features

    def plot(self, ax: Any = None, *, cmap: Any = "Blues") -> Self:
        """Draw the bars of one row, or the heat map of several rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        cmap : str or matplotlib Colormap, default='Blues'
            Colours of a heat map.

        Returns
        -------
        display : OutlierExplanationDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib("OutlierExplanationDisplay.plot")
        highest = np.fmax.reduce(self.surprise, axis=0)  # (d,), NaN if all are missing
        order = np.argsort(-np.nan_to_num(highest, nan=-1.0), kind="stable")
        self.features_ = order[: self.max_features]
        n_rows, n_shown = len(self.surprise), self.features_.size
        if ax is None:
            height = 1.2 + 0.3 * (n_shown if n_rows == 1 else min(n_rows, 30))
            size = 6.4, max(height, 2.4)
            ax = pyplot.subplots(figsize=size, layout="constrained")[1]
        self.bars_ = self.image_ = None
        if n_rows == 1:
            self._plot_bars(ax)
        else:
            self._plot_image(ax, cmap)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_bars(self, ax):
        surprise = self.surprise[0, self.features_]
        names = [
            f"{self._name(j)} = {self.values[0, j]:.4g}"
            if np.isfinite(self.surprise[0, j])
            else f"{self._name(j)} missing"
            for j in self.features_
        ]
        places = np.arange(surprise.size)
        self.bars_ = ax.barh(places, np.nan_to_num(surprise), color=_COLOR, height=0.7)
        ax.axvline(_RARE, color="0.5", linestyle=":", linewidth=1.2)
        ax.annotate(
            "1 row in 1,000",
            (_RARE, 0),
            (3, 3),
            textcoords="offset points",
            xycoords=("data", "axes fraction"),
            color="0.4",
            fontsize="small",
        )
        ax.set_yticks(places, names)
        ax.invert_yaxis()
        ax.set_xlim(0, 1.05 * max(np.nan_to_num(surprise).max(), 1.3 * _RARE))
        ax.set_xlabel("surprise given the other columns (nats)")
        ax.spines[["top", "right"]].set_visible(False)
        if self.row_names is not None:
            ax.set_title(f"row {self.row_names[0]}")

    def _plot_image(self, ax, cmap):
        shown = np.ma.masked_invalid(self.surprise[:, self.features_])
        # Small surprises stay visible beside large ones.
        norm = colors.PowerNorm(0.5, vmin=0)
        self.image_ = ax.imshow(shown, cmap=cmap, norm=norm, aspect="auto")
        self.image_.set_interpolation("nearest")
        ax.set_facecolor("0.9")  # of missing values
        names = [self._name(j) for j in self.features_]
        ax.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
        rows = self.row_names or list(range(len(shown)))
        step = -(-len(rows) // 30)
        ax.set_yticks(np.arange(len(rows))[::step], rows[::step])
        ax.set_ylabel("row")
        bar = ax.figure.colorbar(self.image_, ax=ax)
        bar.set_label("surprise (nats)")
        bar.outline.set_visible(False)

    def _name(self, j):
        return f"feature {j}" if self.feature_names is None else self.feature_names[j]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        feature_names: Sequence[str] | None = None,
        max_features: int = 10,
        cmap: Any = "Blues",
        ax: Any = None,
    ) -> Self:
        """Explain rows by a fitted detector, and plot the surprise of their values.

        Parameters
        ----------
        estimator : estimator instance
            Fitted detector with `explain`, such as `DensityOutlierDetector`.
        X : array-like or dataframe of shape (n_rows, n_features)
            The rows to explain.
        feature_names : list of str, default=None
            Names of the features. None uses the names seen in `fit`.
        max_features : int, default=10
            Maximum number of columns to show.
        cmap : str or matplotlib Colormap, default='Blues'
            Colours of a heat map.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : OutlierExplanationDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If an argument is invalid. The message names the argument.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skgen import DensityOutlierDetector, EMGaussianMixture
        >>> from skgen import OutlierExplanationDisplay
        >>> X = np.random.RandomState(0).standard_normal((200, 3))
        >>> detector = DensityOutlierDetector(EMGaussianMixture()).fit(X)
        >>> outliers = [[0.0, 5.0, 0.0], [4.0, 0.0, 0.0]]
        >>> display = OutlierExplanationDisplay.from_estimator(detector, outliers)
        >>> display.surprise.argmax(axis=1)
        array([1, 0])
        >>> plt.close(display.figure_)
        """
        method = f"{cls.__name__}.from_estimator"
        check_matplotlib(method)
        check_whole(method, "max_features", max_features, 1)
        check_estimator(method, estimator, "explain")
        values = numbers(method, X, nan=True)
        check_columns(method, estimator.n_features_in_, values.shape[1])
        if np.isnan(values).all():
            raise wrong_argument(
                method, "X", "rows with observed values", Described("NaN only")
            )
        names = checked_names(method, feature_names, estimator, X, values.shape[1])
        display = cls(
            estimator.explain(X),
            values=values,
            feature_names=names,
            row_names=list(X.index) if frame_kind(X) == "pandas" else None,
            max_features=max_features,
        )
        return display.plot(ax, cmap=cmap)
