"""The density of a model beside the data: a curve, contours, or marginals."""

import numpy as np

from skgen.display._columns import chosen, column_names, given_names
from skgen.display._corner import corner, corner_axes
from skgen.display._estimators import (
    as_fitted,
    check_columns,
    check_estimator,
    check_seed,
    check_whole,
    drawn,
    numbers,
    pyplot,
)
from skgen.display._panels import contours, curve
from skgen.display._regions import checked_masses, levels, score_grid


class DensityDisplay:
    r"""The density of a model beside the data, in one, two or more features.

    Made by :meth:`from_estimator`, which computes what follows and plots it.

    ================  ============================================================
    the model's rows  what is plotted
    ================  ============================================================
    one feature       the density :math:`p(x)` as a curve, over a histogram
    two features      the smallest regions that hold 50, 90 and 99 % of the
                      mass of :math:`p`, under the data
    more              for the chosen columns, histograms of the data and of draws
                      on the diagonal and pairs of columns below it
    ================  ============================================================

    Parameters
    ----------
    data : ndarray of shape (n_samples, n_shown)
        The columns of the data that are shown.
    draws : ndarray of shape (n_draws, n_shown)
        The same columns of draws from the model.
    grid : list of ndarray of shape (r,), default=None
        The points of each axis at which the density is known. None for a corner plot.
    log_density : ndarray of shape (r,) or (r, r), default=None
        :math:`\log p` on the grid, whose resolution is r; element [i, j] is at the
        i-th point of the second feature and the j-th of the first. None for a corner
        plot.
    log_levels : ndarray of shape (n_levels,), default=None
        The log-density on the border of the region of each mass. For two features.
    masses : ndarray of shape (n_levels,), default=None
        The mass of each region, between 0 and 1. For two features.
    feature_names : list of str, default=None
        The labels of the columns that are shown. None counts them.
    name : str, default=None
        What the legend calls the model. None is 'density'.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of a curve or of contours; set by `plot`.
    axes_ : ndarray of shape (n_shown, n_shown) of matplotlib Axes
        The axes of a corner plot, None above the diagonal; set by `plot`.
    figure_ : matplotlib Figure
        The figure of the axes; set by `plot`.
    line_ : matplotlib Line2D
        The curve of one feature; set by `plot`.
    contours_ : matplotlib QuadContourSet
        The contours of two features, None where the density of no point of the grid
        reaches the lowest level; set by `plot`.

    See Also
    --------
    SampleDisplay : Draws as images.
    sklearn.inspection.DecisionBoundaryDisplay : What a classifier says of two
        features.

    Notes
    -----
    The region that holds a mass of 90 % in the least area is where :math:`p` is above
    some level [1]_, and as :math:`p(x)` of a draw is above that level with
    probability 0.9, the level is the 10 % quantile of ``score_samples`` over draws.
    With the default of 2000 draws the standard error of the mass that a region holds
    is 1.1 % for the one of 50 % and 0.2 % for the one of 99 %.

    With more than two features the density of a pair of columns is an integral that
    no model computes here, and draws stand for it: `score_samples` is not used.
    Where draws and data differ is where the model is wrong.

    References
    ----------
    .. [1] Hyndman, R. J. (1996). Computing and graphing highest density regions. The
       American Statistician 50, 120-126.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianKDE
    >>> from skgen.display import DensityDisplay
    >>> X = load_wine(as_frame=True).data[["alcohol", "flavanoids"]]
    >>> kde = GaussianKDE().fit(X)
    >>> display = DensityDisplay.from_estimator(kde, X, random_state=0)
    >>> display.ax_.get_xlabel()
    'alcohol'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        data,
        draws,
        *,
        grid=None,
        log_density=None,
        log_levels=None,
        masses=None,
        feature_names=None,
        name=None,
    ):
        self.data = data
        self.draws = draws
        self.grid = grid
        self.log_density = log_density
        self.log_levels = log_levels
        self.masses = masses
        self.feature_names = feature_names
        self.name = name

    def plot(
        self,
        ax=None,
        *,
        fill=True,
        color="#0072B2",
        data_color="0.2",
        show_data=True,
    ):
        """Draw the density and the data.

        Parameters
        ----------
        ax : matplotlib Axes or ndarray of them, default=None
            Where to draw. A corner plot takes an array of shape (n_shown, n_shown), of
            which it uses the diagonal and below, or divides the space of one Axes.
            None makes a new figure.
        fill : bool, default=True
            Whether regions of two features are filled; False draws their borders.
        color : matplotlib color, default='#0072B2'
            The colour of the model. Regions have tints of it, darkest where the
            density is highest.
        data_color : matplotlib color, default='0.2'
            The colour of the data. Dots are at most as many as draws: a random choice
            of the rows if there are more.
        show_data : bool, default=True
            Whether the data are drawn; False helps to put one model over another.

        Returns
        -------
        display : DensityDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `ax` is not what a corner plot can be drawn in.
        ImportError
            If matplotlib is not installed.
        """
        plt = pyplot("DensityDisplay.plot")
        if self.log_density is None:
            self.axes_ = corner_axes(plt, ax, self.data.shape[1])
            self.figure_ = self.axes_[0, 0].figure
            corner(self.axes_, self, color, data_color, show_data)
            return self
        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
        if len(self.grid) == 1:
            self.line_ = curve(ax, self, color, data_color, show_data)
        else:
            self.contours_ = contours(ax, self, color, data_color, show_data, fill)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        features=None,
        grid_resolution=200,
        n_draws=2000,
        masses=(0.5, 0.9, 0.99),
        feature_names=None,
        name=None,
        ax=None,
        random_state=None,
        **kwargs,
    ):
        """Compute the density of a fitted model and plot it beside the data.

        Parameters
        ----------
        estimator : estimator instance
            A fitted model that has ``sample``, and ``score_samples`` if all of its one
            or two features are shown. Those of scikit-learn will do.
        X : array-like or dataframe of shape (n_samples, n_features)
            The data, of all features that the model was fitted to.
        features : list of int or str, default=None
            The columns to show, by number or by name, in this order. None shows all of
            up to four columns, and of more the first four. Where that leaves some out,
            the plot is a corner plot of draws.
        grid_resolution : int, default=200
            How many points of each axis the density is computed at: it is scored at
            this many points for one feature, at its square for two.
        n_draws : int, default=2000
            How many rows are drawn from the model: for the levels of contours, for the
            marginals of a corner plot, and for the ends of the axes.
        masses : array-like of float, default=(0.5, 0.9, 0.99)
            The mass that each region of two features holds.
        feature_names : list of str, default=None
            What to call all the features. None takes the columns of `X`, or else the
            names seen in `fit`.
        name : str, default=None
            What the legend calls the model. None is the name of its class.
        ax : matplotlib Axes or ndarray of them, default=None
            Where to draw, as for `plot`. None makes a new figure.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws. None falls back on the `random_state` of the estimator;
            the global generator is never used.
        **kwargs : dict
            Further arguments of `plot`.

        Returns
        -------
        display : DensityDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If an argument is not what it must be; the message names it.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_wine
        >>> from skgen import EMGaussianMixture
        >>> from skgen.display import DensityDisplay
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
        pyplot(method)
        check_whole(method, "grid_resolution", grid_resolution, 2)
        check_whole(method, "n_draws", n_draws, 1)
        check_seed(method, random_state)
        masses = checked_masses(method, masses)
        check_estimator(method, estimator, ("sample",))
        rows = numbers(method, X)
        n_features = rows.shape[1]
        names = column_names(method, estimator, X)
        if feature_names is not None:
            names = given_names(method, feature_names, n_features)
        shown = chosen(method, features, names, n_features)
        joint = n_features <= 2 and len(shown) == n_features
        if joint:
            check_estimator(method, estimator, ("score_samples", "sample"))
        draws = drawn(estimator.sample, n_draws, random_state)
        check_columns(method, draws.shape[1], n_features)
        display = cls(
            rows[:, shown],
            draws[:, shown].astype(np.float64),
            feature_names=[
                f"feature {j}" if names is None else str(names[j]) for j in shown
            ],
            name=type(estimator).__name__ if name is None else name,
        )
        if joint:

            def log_density(points):
                return estimator.score_samples(as_fitted(estimator, X, points))

            score_grid(display, log_density, shown, grid_resolution)
            if n_features == 2:
                display.masses = masses
                display.log_levels = levels(log_density(draws), masses)
        return display.plot(ax, **kwargs)
