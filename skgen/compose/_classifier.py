"""Classification by Bayes' rule, with a density for each class."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import accuracy_score

from skgen._bayes import BayesClassifier, checked_labels
from skgen._checks import effective_counts, invalid_argument, seed_of
from skgen._interop import as_set_output, draw
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray
from skgen.compose._wrapper import DensityWrapper
from skgen.rows._dask import computed, lazy_on_dask
from skgen.rows._source import is_dask

_CONTAINERS = "default", "pandas", "polars"


@contextmanager
def _naming_class(label, n_rows):
    """Name the class, which has `n_rows` rows, in an error of its density."""
    try:
        yield
    except ValueError as error:
        # Other parameters are wrong for every class.
        if "' parameter of" in str(error) and "n_samples" not in str(error):
            raise
        raise ValueError(
            f"The density of class {label!r} cannot be fitted to its n_samples="
            f"{n_rows}: {str(error).rstrip('.')}. Leave out classes with too few rows, "
            "merge them, or use a density that needs fewer rows."
        ) from error


class GenerativeClassifier(BayesClassifier, DensityWrapper):
    r"""Classifier that applies Bayes' rule to a density for each class.

    .. math:: p(c \mid x) = \frac{\pi_c \, p(x \mid c)}{\sum_k \pi_k \, p(x \mid k)}

    With a normal density for each class, this is quadratic discriminant analysis. If
    the features are also independent, it is Gaussian naive Bayes [1]_.

    Parameters
    ----------
    estimator : estimator
        Density, such as a `GaussianKDE`, a mixture, or a `GenerativePipeline`: an
        estimator with `fit` and `score_samples`, and with `sample` to draw samples. It
        is cloned for each class.
    priors : array-like of shape (n_classes,), default=None
        Probabilities :math:`\pi_c` of the classes, in the order of `classes_`. None
        uses the weighted fractions of the classes in the training data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels in sorted order.
    estimators_ : list of estimators
        The fitted density of each class.
    priors_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all names in `X` are strings.

    See Also
    --------
    DensityOutlierDetector : A single density, and a threshold for outliers.
    sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis : A normal density for
        each class.
    sklearn.naive_bayes.GaussianNB : A normal density of independent features for each
        class.

    Notes
    -----
    If the density supports missing values, rows may have NaN: the probabilities are
    those given the observed values, :math:`p(c \mid x_\text{obs})`, and the priors for
    a row without any value. `fit` then maximises the likelihood of the observed values.

    `score_samples` returns the log-density of all classes together,
    :math:`\log \sum_c \pi_c \, p(x \mid c)`, and `sample` draws from this mixture of
    classes. `score` is the accuracy, as for every classifier. If a class has fewer rows
    than its density needs, an error names the class.

    References
    ----------
    .. [1] Hastie, T., Tibshirani, R. and Friedman, J. (2009). The Elements of
       Statistical Learning. Springer, section 6.6.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgen import EMGaussianMixture, GenerativeClassifier, dequantize
    >>> X, y = load_iris(return_X_y=True)
    >>> X = dequantize(X, random_state=0)
    >>> classifier = GenerativeClassifier(EMGaussianMixture()).fit(X, y)
    >>> round(classifier.score(X, y), 2)
    0.98
    >>> classifier.sample(y=[0, 2], random_state=0).shape
    (2, 4)
    """

    classes_: NDArray[Any]
    estimators_: list[Any]
    priors_: FloatArray
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    _methods = ("fit", "score_samples")

    def __init__(self, estimator: Any, priors: ArrayLike | None = None) -> None:
        self.estimator = estimator
        self.priors = priors

    def fit(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit a clone of the density to each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data.
        y : array-like of shape (n_samples,)
            Class labels, of any type that can be sorted.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, which is passed to the density: whole numbers count
            rows, and only ratios of other weights matter. A weight of 0 leaves the row
            out. None gives every row a weight of 1.

        Returns
        -------
        self : object
            The fitted classifier. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter, `X`, `y` or `sample_weight` is invalid, or the density does
            not support weights. The message names the argument.
        """
        return self._learn(X, y, sample_weight)

    def _check_parameters(self):
        if self.priors is not None:
            self._given_priors()

    def _fit(self, X, y, sample_weight):
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None"
            )
        y = checked_labels(self, X, y)
        weights = self._weights(sample_weight, X.shape[0])
        if weights is not None:
            present = weights > 0
            X, y, weights = X[present], y[present], weights[present]
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = self.classes_.size
        totals = np.bincount(codes, weights)
        self.priors_ = (
            totals / totals.sum()
            if self.priors is None
            else self._given_priors(n_classes)
        )
        # Importance weights of one class may all be whole numbers, but count no rows.
        importance = weights is not None and bool((weights != np.rint(weights)).any())
        task = self._init_callback_context(max_subtasks=n_classes)
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self.estimators_ = []
        for c, label in enumerate(self.classes_.tolist()):
            rows = codes == c
            given = None if weights is None else weights[rows]
            if importance:
                given = effective_counts(given)
            with _naming_class(label, int(rows.sum())):
                density = self._fit_density(X[rows], given, task, f"class {label}")
            self.estimators_.append(density)
        task.call_on_fit_task_end(estimator=self, X=X, y=y)

    def score(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.
        y : array-like or Dask array of shape (n_samples,)
            True class labels.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weight of each row. None gives every row a weight of 1.

        Returns
        -------
        float
            Fraction of rows with a correct prediction, by weight.
        """
        predicted = self.predict(X)
        if is_dask(predicted):  # labels leave the workers; rows do not
            predicted, y, sample_weight = computed(predicted, y, sample_weight)
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    @lazy_on_dask(dtype=lambda model: np.float64)
    def score_samples(self, X: MatrixLike) -> FloatArray:
        r"""Return the log-density of each row over all classes, in nats.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`\log \sum_c \pi_c \, p(x \mid c)` of each row.
        """
        return logsumexp(self._log_joint(X, "score_samples"), axis=1)

    def _class_log_densities(self, X, method):
        X = self._rows(X, method)
        return np.column_stack([self._scored(each, X) for each in self.estimators_])

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the output container of `sample`.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Container that `sample` returns if the classifier was fitted to a dataframe.
            "default" is a NumPy array. None leaves the setting unchanged.

        Returns
        -------
        self : object
            The classifier.

        Raises
        ------
        ValueError
            If `transform` is not one of these values.
        """
        if transform is not None:
            if transform not in _CONTAINERS:
                rule = f"None or one of {', '.join(map(repr, _CONTAINERS))}"
                raise invalid_argument(self, "set_output", "transform", rule, transform)
            # scikit-learn's clone copies this attribute.
            self._sklearn_output_config = {"transform": transform}
        return self

    def _samples_of(self, codes, rng):
        X = np.empty((codes.size, self.n_features_in_))
        for c, density in enumerate(self.estimators_):
            rows = codes == c
            if rows.any():
                X[rows] = draw(density, int(rows.sum()), rng)
        return as_set_output(self, X)

    # Seed of `sample`. A public attribute would suggest a parameter `random_state`.
    @property
    def _random_state(self):
        return seed_of(self.estimator)
