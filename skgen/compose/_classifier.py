"""Bayes' rule over one density for each class."""

import numpy as np
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin, clone
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
)

from skgen._drawing import draw
from skgen._parameters import (
    Described,
    invalid_argument,
    invalid_parameter,
)
from skgen._validation import generator_of_draws, validated_weight
from skgen.compose._wrapper import DensityWrapper

# How far from one the priors may sum.
_SUM_TOLERANCE = 1e-6


class GenerativeClassifier(ClassifierMixin, DensityWrapper):
    r"""A classifier that fits one density to each class and applies Bayes' rule.

    .. math:: p(c \mid x) = \frac{\pi_c \, p(x \mid c)}{\sum_k \pi_k \, p(x \mid k)}

    With a normal density for each class it is quadratic discriminant analysis; with
    a normal density of independent features, naive Bayes.

    Parameters
    ----------
    estimator : estimator
        The density: anything with `fit` and `score_samples`, and `sample` for draws,
        such as a `GaussianKDE`, a mixture, or a `GenerativePipeline`. Each class gets
        a clone.
    priors : array-like of shape (n_classes,), default=None
        The probabilities :math:`\pi_c` of the classes, in sorted order. None takes
        their shares of the rows, by weight.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    estimators_ : list of estimators
        The density of each class.
    priors_ : ndarray of shape (n_classes,)
        The probabilities of the classes.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the features, where `X` has string names for all.

    See Also
    --------
    DensityOutlierDetector : One density, and the rows that it finds improbable.
    sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis : One normal density
        for each class.
    sklearn.naive_bayes.GaussianNB : Independent features.

    Notes
    -----
    `score_samples` is the log-density of rows of any class,
    :math:`\log \sum_c \pi_c \, p(x \mid c)`, and `sample` draws from it: a mixture
    model that knows the classes. `score` is the accuracy, as for every classifier. A
    class with fewer rows than its density needs is an error of that density.

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

    _methods = ("fit", "score_samples")

    def __init__(self, estimator, priors=None):
        self.estimator = estimator
        self.priors = priors

    def fit(self, X, y, sample_weight=None):
        """Fit a clone of the density to the rows of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,)
            Their classes: labels of any type that can be sorted.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts, passed on to the density. None counts
            each once.

        Returns
        -------
        self : object
            The fitted classifier. Where fitting fails, what an earlier `fit` had
            learned is still there.

        Raises
        ------
        ValueError
            If a parameter, `X`, `y` or `sample_weight` is not what it must be, or the
            density takes no weights; the message names it.
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
        present = weights > 0  # a weight of 0 is the row absent
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
        for c, label in enumerate(self.classes_):
            rows = codes == c
            given = {} if sample_weight is None else {"sample_weight": weights[rows]}
            density = clone(self.estimator)
            self.estimators_.append(
                self._fit_density(density, X[rows], task, f"class {label}", **given)
            )
        task.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _labels(self, X, y):
        """Return checked classes: (n,)."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None"
            )
        y = column_or_1d(y, warn=True)
        if y.dtype.kind == "f":
            y = check_array(y, ensure_2d=False, input_name="y")
        check_consistent_length(X, y)
        check_classification_targets(y)
        return y

    def _weights(self, sample_weight, n_samples):
        """Return checked weights: (n,)."""
        if sample_weight is not None and not has_fit_parameter(
            self.estimator, "sample_weight"
        ):
            raise invalid_argument(
                self,
                "fit",
                "sample_weight",
                f"None, for {type(self.estimator).__name__} takes none",
                Described("weights"),
            )
        return validated_weight(self, sample_weight, n_samples)

    def predict(self, X):
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            The classes.
        """
        most_probable = self._log_joint(X).argmax(axis=1)
        return self.classes_[most_probable]

    def predict_proba(self, X):
        """Return the probability of each class given the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The probabilities, in the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Return the logarithm of the probability of each class given the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logarithms, in the order of `classes_`. A row where every density is
            zero is told nothing: it gets the priors.
        """
        log_joint = self._log_joint(X)
        with np.errstate(divide="ignore"):
            log_joint[np.isneginf(log_joint).all(axis=1)] = np.log(self.priors_)
        return log_joint - logsumexp(log_joint, axis=1, keepdims=True)

    def score(self, X, y, sample_weight=None):
        """Return the accuracy, as every classifier's `score` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,)
            Their classes.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        float
            The share of rows whose class is predicted.
        """
        return super().score(X, y, sample_weight)

    def score_samples(self, X):
        r"""Return the log-density of rows of any class, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            :math:`\log \sum_c \pi_c \, p(x \mid c)`.
        """
        return logsumexp(self._log_joint(X), axis=1)

    def _log_joint(self, X):
        """Return the logarithms of prior times density: (n, n_classes)."""
        X = self._rows(X)
        with np.errstate(divide="ignore"):
            log_priors = np.log(self.priors_)  # (n_classes,)
        log_density = [self._scored(density, X) for density in self.estimators_]
        return np.column_stack(log_density) + log_priors

    def sample(self, n_samples=None, y=None, *, random_state=None):
        """Draw rows, of every class or of given ones.

        Parameters
        ----------
        n_samples : int, default=None
            How many rows. None is one, or as many as there are labels in `y`.
        y : label or array-like of shape (n_samples,), default=None
            A class, for draws from its density; or one for each row, in this order.
            None draws the classes by their priors.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws. None falls back on the `random_state` of the density.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The draws, without their classes: draw those first where they are wanted,
            and give them as `y`.
        """
        check_is_fitted(self)
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
        return X

    def _codes_of(self, labels, n_samples):
        """Return the numbers of the classes to draw: (n_samples,)."""
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
