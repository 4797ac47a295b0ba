"""Classification by Bayes' rule, with a density for each class."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skgen._checks import (
    Described,
    generator_of_draws,
    invalid_argument,
    invalid_parameter,
    refuse_masked,
    seed_of,
)
from skgen._interop import as_set_output, draw
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray, RandomState
from skgen.compose._wrapper import DensityWrapper
from skgen.rows._dask import computed, lazy_on_dask
from skgen.rows._source import is_dask

# Maximum deviation of the sum of the priors from one.
_SUM_TOLERANCE = 1e-6

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
            f"{n_rows}: {error} Leave out classes with too few rows, merge them, or "
            "use a density that needs fewer rows."
        ) from error


class GenerativeClassifier(ClassifierMixin, DensityWrapper):
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

    def _given_priors(self, n_classes=None):
        """Return the parameter `priors` as an array of shape (n_classes,)."""
        rule = "None or probabilities that sum to 1, one for each class"
        if n_classes is not None:
            rule += f" of {n_classes}"
        try:
            priors = np.asarray(self.priors, dtype=np.float64)
        except (TypeError, ValueError):
            raise invalid_parameter(self, "priors", rule, self.priors) from None
        wrong = (
            priors.ndim != 1
            or np.ma.is_masked(self.priors)
            or (n_classes is not None and priors.size != n_classes)
            or not (priors >= 0).all()
            or abs(priors.sum() - 1) > _SUM_TOLERANCE
        )
        if wrong:
            raise invalid_parameter(self, "priors", rule, self.priors)
        return priors / priors.sum()

    def _fit(self, X, y, sample_weight):
        y = self._labels(X, y)
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
        task = self._init_callback_context(max_subtasks=n_classes)
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self.estimators_ = []
        for c, label in enumerate(self.classes_.tolist()):
            rows = codes == c
            given = None if weights is None else weights[rows]
            with _naming_class(label, int(rows.sum())):
                density = self._fit_density(X[rows], given, task, f"class {label}")
            self.estimators_.append(density)
        task.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _labels(self, X, y):
        """Return checked class labels: (n,)."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None"
            )
        refuse_masked(f"The 'y' argument of {type(self).__name__}.fit", y)
        y = column_or_1d(y, warn=True)
        if y.dtype.kind == "f":
            y = check_array(y, ensure_2d=False, input_name="y")
        check_consistent_length(X, y)
        check_classification_targets(y)
        return y

    @lazy_on_dask(dtype=lambda model: model.classes_.dtype)
    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            Labels of the classes with the highest probability, as returned by
            `predict_proba`; of equal probabilities, the first class.
        """
        probabilities = np.exp(self._log_posterior(X, "predict"))
        return self.classes_[probabilities.argmax(axis=1)]

    @lazy_on_dask(lambda model: model.classes_.size, lambda model: np.float64)
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Return the probability of each class for each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`. Where the densities of all classes
            are zero, the probabilities are the priors.
        """
        return np.exp(self._log_posterior(X, "predict_proba"))

    @lazy_on_dask(lambda model: model.classes_.size, lambda model: np.float64)
    def predict_log_proba(self, X: MatrixLike) -> FloatArray:
        """Return the log-probability of each class for each row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_classes)
            Log-probabilities in the order of `classes_`. Where the densities of all
            classes are zero, they are the logarithms of the priors.
        """
        return self._log_posterior(X, "predict_log_proba")

    def _log_posterior(self, X, method):
        """Return the log-probabilities of the classes: (n, n_classes)."""
        log_density, log_priors = self._log_densities(X, method), self._log_priors()
        log_density[:, np.isneginf(log_priors)] = -np.inf
        log_density[np.isneginf(log_density).all(axis=1)] = 0.0
        # Differences first: rounding of far rows' log-densities exceeds the priors.
        log_density -= log_density.max(axis=1, keepdims=True)
        log_joint = log_density + log_priors
        return log_joint - logsumexp(log_joint, axis=1, keepdims=True)

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
        log_density = self._log_densities(X, "score_samples")
        return logsumexp(log_density + self._log_priors(), axis=1)

    def _log_densities(self, X, method):
        """Return the log-densities of the classes: (n, n_classes)."""
        X = self._rows(X, method)
        return np.column_stack([self._scored(each, X) for each in self.estimators_])

    def _log_priors(self):
        """Return the logarithms of the priors: (n_classes,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.priors_)

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

    @undisturbed()
    def sample(
        self,
        n_samples: int | None = None,
        y: ArrayLike | None = None,
        *,
        random_state: RandomState = None,
    ) -> FloatArray:
        """Draw samples from all classes, or from given classes.

        Parameters
        ----------
        n_samples : int, default=None
            Number of samples. None draws one sample for each label in `y`, or a single
            sample without `y`.
        y : label or array-like of shape (n_samples,), default=None
            Class of all samples, or the class of each sample. None draws the classes
            with the probabilities `priors_`.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the samples. None uses the `random_state` of the density.

        Returns
        -------
        ndarray or dataframe of shape (n_samples, n_features)
            Samples without their class labels: to obtain labelled samples, pass the
            labels as `y`. They are a dataframe if the classifier was fitted to one and
            `set_output` or scikit-learn's option `transform_output` selects pandas or
            polars.
        """
        check_is_fitted(self)
        refuse_masked(f"The 'y' argument of {type(self).__name__}.sample", y)
        labels = None if y is None else np.asarray(y)
        if n_samples is None:
            n_samples = 1 if labels is None or labels.ndim == 0 else labels.size
        rng = generator_of_draws(self, "sample", n_samples, random_state)
        n_samples = int(n_samples)
        if labels is None:
            codes = rng.choice(self.classes_.size, size=n_samples, p=self.priors_)
        else:
            codes = self._codes_of(labels, n_samples)
        X = np.empty((n_samples, self.n_features_in_))
        for c, density in enumerate(self.estimators_):
            rows = codes == c
            if rows.any():
                X[rows] = draw(density, int(rows.sum()), rng)
        return as_set_output(self, X)

    # Seed of `sample`. A public attribute would suggest a parameter `random_state`.
    @property
    def _random_state(self):
        return seed_of(self.estimator)

    def _codes_of(self, labels, n_samples):
        """Return the indices of the classes to draw: (n_samples,)."""
        if labels.ndim == 0:
            labels = np.repeat(labels, n_samples)
        if labels.shape != (n_samples,):
            rule = f"a class, or an array of n_samples={n_samples} classes"
            got = Described(f"an array of shape {labels.shape}")
            raise invalid_argument(self, "sample", "y", rule, got)
        codes = np.searchsorted(self.classes_, labels)
        codes = codes.clip(max=self.classes_.size - 1)
        unknown = self.classes_[codes] != labels
        if np.any(unknown):
            rule = f"of the classes {self.classes_.tolist()}"
            got = labels[unknown][0] if np.ndim(unknown) else labels[0]
            raise invalid_argument(self, "sample", "y", rule, got.item())
        return codes
