"""Outliers: rows with a low density."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.frozen import FrozenEstimator

from skgen._checks import has_methods, invalid_parameter, is_real, present
from skgen._parts import patterns
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray
from skgen._warnings import quiet
from skgen.compose._surprise import equated, spread_rows, surprise
from skgen.compose._wrapper import DensityWrapper
from skgen.rows._dask import lazy_on_dask


class DensityOutlierDetector(OutlierMixin, DensityWrapper):
    r"""Outlier detector that thresholds the log-density of rows.

    A row is an outlier if :math:`\log p(x)` is below `offset_`, the quantile of the
    log-densities of the training data at the level `contamination` [1]_. Rows with a
    density of zero are always outliers.

    Parameters
    ----------
    estimator : estimator
        Density, such as a `GaussianKDE`, a mixture, or a `GenerativePipeline`: an
        estimator with `fit` and `score_samples`, which is cloned.
    contamination : float or "auto", default=0.1
        Fraction of outliers in the training data, in (0, 0.5]. "auto" assumes no
        fraction: rows are outliers if their log-density is far below the log-densities
        of most rows that are held out from the fit, see Notes.

    Attributes
    ----------
    estimator_ : estimator
        The fitted density.
    offset_ : float
        Threshold of the log-density in nats. Rows below it are outliers. It is finite,
        unless the density of every training row is zero.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all names in `X` are strings.

    See Also
    --------
    GenerativeClassifier : A classifier, for labelled outliers.
    sklearn.ensemble.IsolationForest : Outlier detection by random splits.
    sklearn.covariance.EllipticEnvelope : Outlier detection by a robust normal density.

    Notes
    -----
    The density is fitted to all training rows, including the outliers. Narrow kernels,
    and mixture components that hold only a few outliers, give outliers a high density.
    Wide kernels and few components detect more of them. Densities are in the units of
    the data, so a nonlinear transformation of a feature changes which rows are
    outliers.

    With ``contamination="auto"``, the threshold is the lower fence of the boxplot of
    log-densities, adjusted for their skewness [2]_:

    .. math:: Q_1 - 1.5 \, e^{-a M} (Q_3 - Q_1), \qquad
              a = 3 \text{ if } M < 0 \text{ else } 4,

    with the quartiles :math:`Q_1` and :math:`Q_3` and the medcouple :math:`M`, a robust
    measure of skewness. Among rows of a normal density, about 0.5 % are below it. A
    quarter of the training rows can be outliers without moving it far. Each training
    row is scored by a density of the rows in other fifths of the data, which takes five
    more fits. Rows that a density was fitted to have a
    higher log-density than new rows: the fence of their log-densities would call all
    new rows outliers if there are many features or the kernel is narrow. A
    `FrozenEstimator` is not fitted again, and fewer than 10 distinct rows are scored
    by the density that is fitted to them.

    For the same reason, `predict` labels more than a fraction `contamination` of new
    rows as outliers, and a training row that is far from all others can be an inlier:
    the density is high at the row because it was fitted to it.

    If the density supports missing values, rows may have NaN. Log-densities of
    different features are not comparable. The log-density of an incomplete row is
    therefore compared with the log-densities of training rows from which the same
    values are removed, and replaced by the log-density of complete training rows at the
    same quantile (equipercentile equating [3]_). Ranks of all rows are then comparable,
    `offset_` is the threshold for every pattern, and complete rows have their own
    log-densities. Below the lowest tenth, tails are exponential. A row
    without any value has the median score. Up to 500 training rows are kept for this
    purpose; their missing values are drawn from the density.

    References
    ----------
    .. [1] Bishop, C. M. (1994). Novelty detection and neural network validation. IEE
       Proceedings - Vision, Image and Signal Processing 141, 217-222.
    .. [2] Hubert, M. and Vandervieren, E. (2008). An adjusted boxplot for skewed
       distributions. Computational Statistics and Data Analysis 52, 5186-5201.
    .. [3] Kolen, M. J. and Brennan, R. L. (2014). Test Equating, Scaling, and Linking,
       third edition. Springer, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import DensityOutlierDetector, GaussianKDE
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [7.0]])
    >>> DensityOutlierDetector(GaussianKDE(0.3), contamination=0.15).fit_predict(X)
    array([ 1,  1,  1,  1,  1,  1, -1])
    """

    estimator_: Any
    offset_: float
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    _methods = ("fit", "score_samples")

    def __init__(self, estimator: Any, contamination: float | str = 0.1) -> None:
        self.estimator = estimator
        self.contamination = contamination

    def fit(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the density and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data, which may contain outliers.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, for the density and for the threshold: whole numbers
            count rows, and only ratios of other weights matter. A weight of 0 leaves
            the row out. None gives every row a weight of 1.

        Returns
        -------
        self : object
            The fitted detector. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is invalid, or the density does not
            support weights. The message names the argument.
        """
        return self._learn(X, sample_weight)

    def _check_parameters(self):
        fraction = self.contamination
        if isinstance(fraction, str) and fraction == "auto":
            return
        if not (is_real(fraction) and 0 < fraction <= 0.5):
            rule = "'auto' or a fraction above 0 and up to 0.5"
            raise invalid_parameter(self, "contamination", rule, fraction)

    def _fit(self, X, sample_weight):
        weights = self._weights(sample_weight, X.shape[0])
        parts = self._held_out_parts(X, weights)
        task = self._init_callback_context(max_subtasks=1 + len(parts))
        task.call_on_fit_task_begin(estimator=self, X=X)
        self.estimator_ = self._fit_density(X, weights, task, "fit-density")
        log_density = self._scored(self.estimator_, X)
        self._set_reference(X, log_density, weights)
        for i, part in enumerate(parts):
            some = None if weights is None else weights[~part]
            with quiet():  # the fit to all rows has warned
                density = self._fit_density(X[~part], some, task, f"fit-part-{i}")
            log_density[part] = self._scored(density, X[part])
        log_density = self._on_one_scale(X, log_density)
        self.offset_ = self._threshold(log_density, weights)
        task.call_on_fit_task_end(estimator=self, X=X)

    def _held_out_parts(self, X, weights):
        """Return masks (n,) of the rows to score by a density of the other rows."""
        if self.contamination != "auto" or isinstance(self.estimator, FrozenEstimator):
            return []
        # Copies of a row stay together, and the order of the rows does not matter.
        _, codes = np.unique(X, axis=0, return_inverse=True)
        if weights is not None:
            present = np.unique(codes[weights > 0])
            codes = np.where(weights > 0, np.searchsorted(present, codes), -1)
        n_distinct = codes.max() + 1
        if n_distinct < _LEAST_DISTINCT:
            return []
        part_of = np.random.RandomState(0).permutation(n_distinct) % _PARTS
        parts = np.where(codes < 0, -1, part_of[codes])
        return [parts == i for i in range(_PARTS)]

    def _threshold(self, log_density, weights):
        """Return the threshold of log-densities (n,) with weights (n,) or None."""
        if weights is None:
            weights = np.ones(log_density.size)
        log_density, weights = present(log_density, weights)
        possible = log_density > -np.inf
        if not possible.any():
            return -np.inf
        if self.contamination == "auto":
            return lower_fence(log_density[possible], weights[possible])
        # Rows of density zero are outliers. If they are more than the fraction, the
        # threshold is the smallest log-density of the other rows.
        log_density = np.where(possible, log_density, log_density[possible].min())
        return float(quantiles(log_density, weights, self.contamination))

    @lazy_on_dask(dtype=lambda model: np.float64)
    def score_samples(self, X: MatrixLike) -> FloatArray:
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`\log p(x)` of each row. Outliers have low values. The score of a row
            with missing values is on the scale of complete rows (see Notes).
        """
        return self._log_density(X, "score_samples")

    @lazy_on_dask(dtype=lambda model: np.float64)
    def decision_function(self, X: MatrixLike) -> FloatArray:
        """Return the log-density of each row minus the threshold, in nats.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            ``score_samples(X) - offset_``, which is negative for outliers, and minus
            infinity where the density is zero.
        """
        return self._decision(X, "decision_function")

    @lazy_on_dask(dtype=lambda model: np.int_)
    def predict(self, X: MatrixLike) -> NDArray[np.int_]:
        """Predict whether rows are outliers.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            -1 for outliers and 1 for inliers.
        """
        # A row with NaN, which `assume_finite` lets in, is no inlier either.
        return np.where(self._decision(X, "predict") >= 0, 1, -1)

    def _decision(self, X, method):
        """Return the log-densities (n,) of unchecked rows minus the threshold."""
        log_density = self._log_density(X, method)
        impossible = np.isneginf(log_density)
        return np.subtract(
            log_density, self.offset_, out=log_density, where=~impossible
        )

    def _log_density(self, X, method):
        """Return the log-densities (n,) of unchecked rows, for errors of `method`."""
        X = self._rows(X, method)
        return self._on_one_scale(X, self._scored(self.estimator_, X))

    # -- rows with missing values --------------------------------------------------

    def _set_reference(self, X, log_density, weights):
        """Set complete reference rows (m, d), with the scores of training rows (n, d).

        `log_density` (n,) are the scores of the rows. Missing values are drawn.
        """
        explains = has_methods(self.estimator_, "conditional_score_samples")
        if not (self._answers_incomplete or explains):
            return
        incomplete = np.isnan(X).any(axis=1)
        if incomplete.any():
            density, rows = self.estimator_, self._handed(X[incomplete])
            X, log_density = X.copy(), log_density.copy()
            X[incomplete] = density.sample_conditional(rows, 1, random_state=0)[0]
            log_density[incomplete] = self._scored(density, X[incomplete])
        weights = np.ones(len(X)) if weights is None else weights
        self._reference = X[spread_rows(log_density, weights)]

    def _on_one_scale(self, X, log_density):
        """Return log-densities (n,) of rows (n, d), as if all rows were complete.

        The log-density of an incomplete row is compared with the log-densities of the
        reference rows without the same values.
        """
        incomplete = np.flatnonzero(np.isnan(X).any(axis=1))
        if not (self._answers_incomplete and incomplete.size and len(self._reference)):
            return log_density
        scale, answers = (
            self._scored(self.estimator_, self._reference),
            log_density.copy(),
        )
        for rows, observed in patterns(X[incomplete]):
            reference = self._scored(self.estimator_, self._hidden(~observed))
            some = incomplete[rows]
            answers[some] = equated(log_density[some], reference, scale)
        return answers

    def _hidden(self, missing):
        """Return the reference rows (m, d) with some features (d,) missing."""
        return np.where(missing, np.nan, self._reference)

    @lazy_on_dask(lambda model: model.n_features_in_, lambda model: np.float64)
    def explain(self, X: MatrixLike) -> FloatArray:
        r"""Return how surprising each value is, given the other values of its row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data, which may have missing values if the density supports them.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_features)
            The surprise of each value, from 0: minus the logarithm of the probability
            that :math:`\log p(x_j | x_{-j})` is as low in training rows with the same
            missing values. It is 1 on average and 6.9 for one row in 1,000, and does
            not depend on the units of the columns. NaN for missing values. The highest
            value of a row is in the column that the other columns explain worst. For
            Dask input, a lazy Dask array.

        Raises
        ------
        ValueError
            If the density has no `conditional_score_samples`.
        """
        X = self._rows(X, "explain")
        if not has_methods(self.estimator_, "conditional_score_samples"):
            rule = "a density with 'conditional_score_samples', for 'explain'"
            raise invalid_parameter(self, "estimator", rule, self.estimator)
        if not len(self._reference):
            raise ValueError(
                "The density of every training row is zero, so that no value can be "
                "compared with the values of other rows."
            )
        answers = np.full(X.shape, np.nan)
        for rows, observed in patterns(X):
            found = self._conditional_scores(X[rows])
            reference = self._conditional_scores(self._hidden(~observed))
            for j in np.flatnonzero(observed):
                answers[rows, j] = surprise(found[:, j], reference[:, j])
        return answers

    def _conditional_scores(self, X):
        """Return log p(x_j | x_-j) of validated rows: (n, d)."""
        scores = self.estimator_.conditional_score_samples(self._handed(X))
        return np.asarray(scores, dtype=np.float64)


# Number of parts of the rows that are held out in turn, and minimum number of distinct
# rows for them.
_PARTS, _LEAST_DISTINCT = 5, 10

# Number of order statistics from which the fence is computed.
_QUANTILES = 1001


def lower_fence(values, weights):
    """Return the lower fence of the adjusted boxplot of values (n,), a float."""
    levels = np.linspace(0, 1, min(_QUANTILES, math.ceil(weights.sum() - 1e-6)))
    lower, upper = quantiles(values, weights, np.array([0.25, 0.75]))
    skewness = medcouple(quantiles(values, weights, levels))
    factor = np.exp(-(3 if skewness < 0 else 4) * skewness)
    return float(lower - 1.5 * factor * (upper - lower))


def medcouple(values):
    """Return the medcouple of values (n,): skewness from -1 to 1.

    It is the median of ((b - m) - (m - a)) / (b - a) over values a <= m <= b, with the
    median m (Brys, Hubert and Struyf, 2004).
    """
    centred = values - np.median(values)
    above, below = centred[centred >= 0, None], centred[centred <= 0]
    gaps = above - below
    ratios = np.zeros(gaps.shape)
    return float(np.median(np.divide(above + below, gaps, out=ratios, where=gaps > 0)))


def quantiles(values, weights, levels):
    """Return quantiles of values (n,) at levels, interpolated as by `np.quantile`.

    A weight of 2 counts the value twice.
    """
    order = np.argsort(values)
    values, ends = values[order], np.cumsum(weights[order])
    whole = np.round(ends)  # counts that were rescaled have rounding errors
    ends = np.where(np.abs(ends - whole) <= 1e-9 * whole, whole, ends)
    positions = levels * max(ends[-1] - 1, 0.0)
    first = np.floor(positions)
    low, high = (
        values[np.searchsorted(ends, rank, side="right").clip(max=values.size - 1)]
        for rank in (first, first + 1)
    )
    return low + (positions - first) * (high - low)
