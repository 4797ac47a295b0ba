"""The density of a model beside the data: a curve, contours, or marginals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skgen._checks import check_seed
from skgen._lazy import lazy_module
from skgen._typing import ArrayLike, FloatArray, MatrixLike, RandomState
from skgen.display._arguments import (
    check_columns,
    check_estimator,
    check_matplotlib,
    check_whole,
    checked_features,
    checked_limits,
    checked_masses,
    checked_names,
    drawn,
    numbers,
    scored,
)
from skgen.display._corner import corner, corner_axes
from skgen.display._panels import contours, curve, limits_of, models_on, next_color

pyplot = lazy_module("matplotlib.pyplot", "DensityDisplay.plot")


class DensityDisplay:
    r"""The density of a model beside the data, in one, two or more features.

    Use :meth:`from_estimator` to compute and plot a display.

    ==========================  ==================================================
    features of the model       plot
    ==========================  ==================================================
    one                         Curve of the density :math:`p(x)` over a histogram
                                of the data.
    two                         Smallest regions that hold 50, 90 and 99 % of the
                                mass of :math:`p`, under the data.
    more, or some not shown     Corner plot of data and draws: a histogram of each
                                column on the diagonal, pairs of columns below it.
    ==========================  ==================================================

    Several models can be plotted on the same axes. Each one has its own colour, and
    the data are drawn once.

    Parameters
    ----------
    data : ndarray of shape (n_samples, n_shown)
        Columns of the data.
    draws : ndarray of shape (n_draws, n_shown)
        The same columns of draws from the model.
    grid : list of ndarray of shape (r,), default=None
        Grid points of each feature. None for a corner plot.
    log_density : ndarray of shape (r,) or (r, r), default=None
        :math:`\log p` at the grid points, in nats. Element [i, j] is at point i of the
        second feature and point j of the first. None for a corner plot.
    log_levels : ndarray of shape (n_levels,), default=None
        Log-density at the border of each region, in nats. For two features.
    masses : ndarray of shape (n_levels,), default=None
        Probability mass of each region, between 0 and 1. For two features.
    feature_names : list of str, default=None
        Labels of the columns. If None, 'feature 0', 'feature 1', and so on.
    name : str, default=None
        Label of the model in the legend. If None, 'density'.
    limits : array-like of shape (n_shown, 2), default=None
        Lowest and highest value of each column on the axes. None shows all data and
        nearly all draws, with a margin.

    Attributes
    ----------
    limits_ : ndarray of shape (n_shown, 2)
        Lowest and highest value of each column in this display; set by `plot`.
    ax_ : matplotlib Axes
        Axes of a curve or of contours; set by `plot`.
    axes_ : ndarray of shape (n_shown, n_shown) of matplotlib Axes
        Axes of a corner plot, None above the diagonal; set by `plot`.
    figure_ : matplotlib Figure
        Figure of the axes; set by `plot`.
    line_ : matplotlib Line2D
        Curve of one feature; set by `plot`.
    contours_ : matplotlib QuadContourSet
        Contours of two features; set by `plot`. None if the density is below the
        lowest level at all grid points.

    See Also
    --------
    SampleDisplay : Draws as images.
    sklearn.inspection.DecisionBoundaryDisplay : Decision boundary of a classifier of
        two features.

    Notes
    -----
    The smallest region that holds 90 % of the mass is where :math:`p` is above some
    level [1]_. The density of a draw is above that level with probability 0.9, so
    the level is the 10 % quantile of ``score_samples`` over draws. With the default of
    2000 draws, the standard error of the mass is 1.1 % for the 50 % region and 0.2 %
    for the 99 % region.

    The density of a pair of columns would be an integral over all other columns. A
    corner plot shows draws instead, and does not use ``score_samples``. The model is
    wrong where draws and data differ.

    References
    ----------
    .. [1] Hyndman, R. J. (1996). Computing and graphing highest density regions. The
       American Statistician 50, 120-126.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_wine
    >>> from skgen import DensityDisplay, GaussianKDE
    >>> X = load_wine(as_frame=True).data[["alcohol", "flavanoids"]]
    >>> kde = GaussianKDE().fit(X)
    >>> display = DensityDisplay.from_estimator(kde, X, random_state=0)
    >>> display.ax_.get_xlabel()
    'alcohol'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        data: FloatArray,
        draws: FloatArray,
        *,
        grid: list[FloatArray] | None = None,
        log_density: FloatArray | None = None,
        log_levels: FloatArray | None = None,
        masses: FloatArray | None = None,
        feature_names: list[str] | None = None,
        name: str | None = None,
        limits: ArrayLike | None = None,
    ) -> None:
        self.data = data
        self.draws = draws
        self.grid = grid
        self.log_density = log_density
        self.log_levels = log_levels
        self.masses = masses
        self.feature_names = feature_names
        self.name = name
        self.limits = limits

    def plot(
        self,
        ax: Any = None,
        *,
        label: str | None = None,
        fill: bool | None = None,
        color: Any = None,
        data_color: Any = "0.2",
        show_data: bool = True,
    ) -> Self:
        """Draw the density and the data.

        Parameters
        ----------
        ax : matplotlib Axes or ndarray of them, default=None
            Axes to draw on, which may hold other displays. A corner plot is drawn on
            the diagonal and lower triangle of an array of shape (n_shown, n_shown), or
            in the space of a single Axes. None makes a new figure.
        label : str, default=None
            Label of the model in the legend. If None, the `name` of the display.
        fill : bool, default=None
            Whether to fill the regions of two features instead of drawing their
            borders. None fills the regions of the first model on the axes only.
        color : matplotlib color, default=None
            Colour of the model. Regions are filled with tints of this colour, darkest
            where the density is highest. If None, blue for the first model on the axes,
            and another colour for each further model.
        data_color : matplotlib color, default='0.2'
            Colour of the data. If there are more rows than draws, a random choice of
            the rows is shown as dots.
        show_data : bool, default=True
            Whether to draw the data. Data that are on the axes already are not drawn
            again.

        Returns
        -------
        display : DensityDisplay
            The display itself.

        Raises
        ------
        ValueError
            If a corner plot does not fit in `ax`.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib("DensityDisplay.plot")
        label = self.name if label is None else label
        if self.log_density is None:
            self.axes_ = corner_axes(ax, self.data.shape[1])
            ax = self.axes_[0, 0]
        elif ax is None:
            ax = pyplot.subplots(layout="constrained")[1]
        self.figure_ = ax.figure
        fill = not models_on(ax) if fill is None else fill
        color = next_color(ax) if color is None else color
        style = label, color, data_color, show_data
        if self.log_density is None:
            self.limits_ = corner(self.axes_, self, *style)
            return self
        self.ax_ = ax
        ends = [(points[0], points[-1]) for points in self.grid or ()]
        self.limits_ = np.array(ends if self.limits is None else self.limits)
        if np.ndim(self.log_density) == 1:
            self.line_ = curve(ax, self, *style)
        else:
            self.contours_ = contours(ax, self, *style, fill)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        features: Sequence[int | str] | None = None,
        grid_resolution: int = 200,
        n_draws: int = 2000,
        masses: ArrayLike = (0.5, 0.9, 0.99),
        limits: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Any = None,
        random_state: RandomState = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the density of a fitted model and plot it beside the data.

        Parameters
        ----------
        estimator : estimator instance
            Fitted model with ``sample``, of skgen or of scikit-learn. A model of one or
            two features, all of them shown, needs ``score_samples`` as well.
        X : array-like or dataframe of shape (n_samples, n_features)
            Data with all features of the model.
        features : list of int or str, default=None
            Columns to show, by number or by name, in this order. None shows the first
            four columns, or all if there are fewer. If a feature is not shown, the plot
            is a corner plot.
        grid_resolution : int, default=200
            Number of grid points of each axis. For two features, the density is scored
            at the square of this number of points.
        n_draws : int, default=2000
            Number of draws from the model. They determine the levels of contours, the
            marginals of a corner plot, and the ends of the axes.
        masses : array-like of float, default=(0.5, 0.9, 0.99)
            Probability mass of each region of two features.
        limits : array-like of shape (n_shown, 2), default=None
            Lowest and highest value of each shown column on the axes. With
            ``limits=other.limits_``, two displays show the same part of the space. None
            shows all data and nearly all draws, with a margin.
        feature_names : list of str, default=None
            Names of all features. If None, the column names of `X` or, without them,
            the names seen in `fit`.
        name : str, default=None
            Label of the model in the legend. If None, the name of the class.
        ax : matplotlib Axes or ndarray of them, default=None
            Axes to draw on, as for `plot`. None makes a new figure.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the draws. None uses the `random_state` of the estimator. NumPy's
            global generator is never used.
        **kwargs : dict
            Further arguments of `plot`.

        Returns
        -------
        display : DensityDisplay
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
        >>> from sklearn.datasets import load_wine
        >>> from skgen import DensityDisplay, EMGaussianMixture
        >>> names = ["alcohol", "flavanoids", "color_intensity", "proline"]
        >>> X = load_wine(as_frame=True).data[names]
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> display = DensityDisplay.from_estimator(
        ...     mixture, X, features=["alcohol", "flavanoids", "proline"]
        ... )
        >>> display.axes_.shape
        (3, 3)
        >>> plt.close(display.figure_)
        """
        method = f"{cls.__name__}.from_estimator"
        check_matplotlib(method)
        check_whole(method, "grid_resolution", grid_resolution, 2)
        check_whole(method, "n_draws", n_draws, 1)
        check_seed(method, random_state)
        sorted_masses = checked_masses(method, masses)
        check_estimator(method, estimator, "sample")
        rows = numbers(method, X)
        n_features = rows.shape[1]
        names = checked_names(method, feature_names, estimator, X, n_features)
        shown = checked_features(method, features, names, n_features)
        limits = checked_limits(method, limits, len(shown))
        is_joint = n_features <= 2 and len(shown) == n_features
        if is_joint:
            check_estimator(method, estimator, "score_samples", "sample")
        draws = drawn(estimator.sample, n_draws, random_state)
        check_columns(method, draws.shape[1], n_features)
        if names is None:
            names = [f"feature {j}" for j in range(n_features)]
        display = cls(
            rows[:, shown],
            draws[:, shown],
            feature_names=[str(names[j]) for j in shown],
            name=type(estimator).__name__ if name is None else name,
            limits=limits,
        )
        if is_joint:
            ends = limits_of(display)
            display.grid = [
                np.linspace(low, high, grid_resolution) for low, high in ends
            ]
            mesh = np.meshgrid(*display.grid)
            # In the order of the features of the estimator.
            points = np.column_stack([mesh[j].ravel() for j in np.argsort(shown)])
            scores = scored(estimator, X, points)
            display.log_density = scores.reshape(mesh[0].shape)
        if is_joint and n_features == 2:
            # A draw exceeds this level with the probability of the mass. Between a
            # density of zero and another one, there is no level but -inf.
            with np.errstate(invalid="ignore"):
                levels = np.quantile(scored(estimator, X, draws), 1.0 - sorted_masses)
            levels[np.isnan(levels)] = -np.inf
            display.masses, display.log_levels = sorted_masses, levels
        return display.plot(ax, **kwargs)
