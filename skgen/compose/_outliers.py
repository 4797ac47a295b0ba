"""Outliers as the rows where a density is lowest."""

import numpy as np
from sklearn.base import OutlierMixin, clone

from skgen._parameters import invalid_parameter, is_real
from skgen.compose._wrapper import DensityWrapper


class DensityOutlierDetector(OutlierMixin, DensityWrapper):
    r"""Calls those rows outliers whose log-density is lowest.

    A row is an outlier where :math:`\log p(x)` is below `offset_`, the quantile of
    the log-densities of the training rows that leaves the share `contamination`
    below it.

    Parameters
    ----------
    estimator : estimator
        The density: anything with `fit` and `score_samples`, such as a `GaussianKDE`,
        a mixture, or a `GenerativePipeline`. A clone is fitted.
    contamination : float, default=0.1
        The share of outliers among the training rows, in (0, 0.5].

    Attributes
    ----------
    estimator_ : estimator
        The fitted density.
    offset_ : float
        The log-density below which a row is an outlier, in nats.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    GenerativeClassifier : Where examples of outliers are known, as a class.
    sklearn.ensemble.IsolationForest : Outliers by random splits.
    sklearn.covariance.EllipticEnvelope : By a robust normal density.

    Notes
    -----
    The density sees the outliers among the training rows as well. A narrow kernel or
    a component that a few of them have to themselves makes them look probable: wide
    kernels and few components find more of them. An outlier is improbable in the
    units of the data, so transformations that are not linear change which rows are.

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

    _methods = ("fit", "score_samples")

    def __init__(self, estimator, contamination=0.1):
        self.estimator = estimator
        self.contamination = contamination

    def fit(self, X, y=None):
        """Fit a clone of the density, and find the offset.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, outliers among them.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector. Where fitting fails, what an earlier `fit` had
            learned is still there.

        Raises
        ------
        ValueError
            If a parameter or `X` is not what it must be; the message names it.
        """
        return self._learn(X)

    def _check_parameters(self):
        share = self.contamination
        if not (is_real(share) and 0 < share <= 0.5):
            raise invalid_parameter(
                self, "contamination", "a number above 0 and up to 0.5", share
            )

    def _fit(self, X):
        task = self._init_callback_context(max_subtasks=1)
        task.call_on_fit_task_begin(estimator=self, X=X)
        density = clone(self.estimator)
        self.estimator_ = self._fit_density(density, X, task, "fit-density")
        log_density = self._scored(self.estimator_, X)
        self.offset_ = float(np.percentile(log_density, 100 * self.contamination))
        task.call_on_fit_task_end(estimator=self, X=X)

    def score_samples(self, X):
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            :math:`\log p(x)`: the lower, the more of an outlier.
        """
        X = self._rows(X)
        return self._scored(self.estimator_, X)

    def decision_function(self, X):
        """Return how far the log-density of each row is above the offset, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``: negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell outliers from inliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)
