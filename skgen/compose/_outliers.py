"""Outliers: rows with a low density."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin, clone

from skgen._checks import invalid_parameter, is_real
from skgen._typing import FloatArray, MatrixLike, NDArray
from skgen.compose._wrapper import DensityWrapper
from skgen.rows._dask import lazy_on_dask


class DensityOutlierDetector(OutlierMixin, DensityWrapper):
    r"""Outlier detector that thresholds the log-density of rows.

    A row is an outlier if :math:`\log p(x)` is below `offset_`, the quantile of the
    log-densities of the training data at the level `contamination` [1]_.

    Parameters
    ----------
    estimator : estimator
        Density, such as a `GaussianKDE`, a mixture, or a `GenerativePipeline`: an
        estimator with `fit` and `score_samples`, which is cloned.
    contamination : float, default=0.1
        Fraction of outliers in the training data, in (0, 0.5].

    Attributes
    ----------
    estimator_ : estimator
        The fitted density.
    offset_ : float
        Threshold of the log-density in nats. Rows below it are outliers.
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

    References
    ----------
    .. [1] Bishop, C. M. (1994). Novelty detection and neural network validation. IEE
       Proceedings - Vision, Image and Signal Processing 141, 217-222.

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

    def __init__(self, estimator: Any, contamination: float = 0.1) -> None:
        self.estimator = estimator
        self.contamination = contamination

    def fit(self, X: MatrixLike, y: None = None) -> Self:
        """Fit the density and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data, which may contain outliers.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid. The message names the argument.
        """
        return self._learn(X)

    def _check_parameters(self):
        fraction = self.contamination
        if not (is_real(fraction) and 0 < fraction <= 0.5):
            raise invalid_parameter(
                self, "contamination", "a number above 0 and up to 0.5", fraction
            )

    def _fit(self, X):
        task = self._init_callback_context(max_subtasks=1)
        task.call_on_fit_task_begin(estimator=self, X=X)
        density = clone(self.estimator)
        self.estimator_ = self._fit_density(density, X, task, "fit-density")
        log_density = self._scored(self.estimator_, X)
        self.offset_ = float(np.percentile(log_density, 100 * self.contamination))
        task.call_on_fit_task_end(estimator=self, X=X)

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
            :math:`\log p(x)` of each row. Outliers have low values.
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
            ``score_samples(X) - offset_``, which is negative for outliers.
        """
        return self._log_density(X, "decision_function") - self.offset_

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
        above = self._log_density(X, "predict") - self.offset_
        return np.where(above < 0, -1, 1)

    def _log_density(self, X, method):
        """Return the log-densities (n,) of unchecked rows, for errors of `method`."""
        X = self._rows(X, method)
        return self._scored(self.estimator_, X)
