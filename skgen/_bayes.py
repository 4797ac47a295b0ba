"""Bayes' rule for estimators with a joint density of rows and classes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, overload

import numpy as np
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skgen._checks import (
    Described,
    generator_of_draws,
    invalid_argument,
    invalid_parameter,
    refuse_masked,
)
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray, RandomState
from skgen.rows._dask import lazy_on_dask

# Maximum deviation of the sum of the priors from one.
_SUM_TOLERANCE = 1e-6


class BayesClassifier(ClassifierMixin):
    """Abstract classifier with a joint density of rows and classes.

    Subclasses implement ``_class_log_densities`` and ``_samples_of``, and set
    ``classes_`` and ``priors_``. The *code* of a class is its position in ``classes_``.
    """

    classes_: NDArray[Any]
    priors_: FloatArray

    @abstractmethod
    def _class_log_densities(self, X, method):
        """Return log p(x | c) of unchecked rows for a method: (n, n_classes)."""

    @abstractmethod
    def _samples_of(self, codes, rng):
        """Return samples (n, d) of class codes (n,), in the container of samples."""

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

    @lazy_on_dask(lambda model: model.classes_.size, lambda model: np.float64)
    def predict_joint_log_proba(self, X: MatrixLike) -> FloatArray:
        r"""Return the joint log-density of each row and each class, in nats.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples, n_classes)
            :math:`\log p(x, c) = \log \pi_c + \log p(x \mid c)`, in the order of
            `classes_`. `score_samples` is the logarithm of the sum over classes.
        """
        return self._log_joint(X, "predict_joint_log_proba")

    def _log_joint(self, X, method):
        """Return log p(x, c) of unchecked rows for a method: (n, n_classes)."""
        return self._class_log_densities(X, method) + self._log_priors()

    def _log_posterior(self, X, method):
        """Return the log-probabilities of the classes: (n, n_classes)."""
        return self._by_bayes_rule(self._class_log_densities(X, method))

    def _by_bayes_rule(self, log_density):
        """Return the log-probabilities of the classes given log p(x | c): (n, C)."""
        log_priors = self._log_priors()
        log_density[:, np.isneginf(log_priors)] = -np.inf
        log_density[np.isneginf(log_density).all(axis=1)] = 0.0
        # Differences first: rounding of far rows' log-densities exceeds the priors.
        log_density -= log_density.max(axis=1, keepdims=True)
        log_joint = log_density + log_priors
        return log_joint - logsumexp(log_joint, axis=1, keepdims=True)

    def _log_priors(self):
        """Return the logarithms of the priors: (n_classes,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.priors_)

    @overload
    def sample(
        self,
        n_samples: int | None = None,
        y: ArrayLike | None = None,
        *,
        return_y: Literal[False] = False,
        random_state: RandomState = None,
    ) -> FloatArray: ...

    @overload
    def sample(
        self,
        n_samples: int | None = None,
        y: ArrayLike | None = None,
        *,
        return_y: Literal[True],
        random_state: RandomState = None,
    ) -> tuple[FloatArray, NDArray[Any]]: ...

    @undisturbed()
    def sample(
        self,
        n_samples: int | None = None,
        y: ArrayLike | None = None,
        *,
        return_y: bool = False,
        random_state: RandomState = None,
    ) -> FloatArray | tuple[FloatArray, NDArray[Any]]:
        """Draw samples from all classes, or from given classes.

        Parameters
        ----------
        n_samples : int, default=None
            Number of samples. None draws one sample for each label in `y`, or a single
            sample without `y`.
        y : label or array-like of shape (n_samples,), default=None
            Class of all samples, or the class of each sample. None draws the classes
            with the probabilities `priors_`.
        return_y : bool, default=False
            Whether to return the class of each sample as well.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the samples. None uses the `random_state` of the estimator, or of
            the density that it contains.

        Returns
        -------
        X : ndarray or dataframe of shape (n_samples, n_features)
            Samples. They are a dataframe if the estimator was fitted to one and
            `set_output` or scikit-learn's option `transform_output` selects pandas or
            polars.
        y : ndarray of shape (n_samples,)
            Class of each sample. Only returned if `return_y` is True.
        """
        check_is_fitted(self)
        if y is not None or return_y:
            self._check_classes("sample")
        refuse_masked(f"The 'y' argument of {type(self).__name__}.sample", y)
        labels = None if y is None else np.asarray(y)
        if n_samples is None:
            n_samples = 1 if labels is None or labels.ndim == 0 else labels.size
        rng = generator_of_draws(self, "sample", n_samples, random_state)
        n_samples = int(n_samples)
        if labels is None:
            codes = self._drawn_classes(n_samples, rng)
        else:
            codes = self._codes_of(labels, n_samples, "sample")
        X = self._samples_of(codes, rng)
        return (X, self.classes_[codes]) if return_y else X

    def _check_classes(self, method):
        """Raise unless the estimator is fitted to labels."""
        check_is_fitted(self)
        if not self.classes_.size:
            raise ValueError(
                f"{type(self).__name__}.{method} needs labels. This instance was "
                "fitted without any: call fit(X, y) with at least one label."
            )

    def _drawn_classes(self, n_samples, rng):
        """Draw class codes (n_samples,) with the probabilities of the classes."""
        return rng.choice(self.classes_.size, size=n_samples, p=self.priors_)

    def _codes_of(self, labels, n_samples, method):
        """Return the codes of a label, or of labels (n_samples,): (n_samples,)."""
        if labels.ndim == 0:
            labels = np.repeat(labels, n_samples)
        if labels.shape != (n_samples,):
            rule = f"a class, or an array of n_samples={n_samples} classes"
            got = Described(f"an array of shape {labels.shape}")
            raise invalid_argument(self, method, "y", rule, got)
        codes = np.searchsorted(self.classes_, labels)
        codes = codes.clip(max=self.classes_.size - 1)
        unknown = self.classes_[codes] != labels
        if np.any(unknown):
            rule = f"of the classes {self.classes_.tolist()}"
            got = labels[unknown][0] if np.ndim(unknown) else labels[0]
            raise invalid_argument(self, method, "y", rule, got.item())
        return codes

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


def checked_labels(model, X, y):
    """Return class labels of rows X as an array (n,); raise for other targets."""
    refuse_masked(f"The 'y' argument of {type(model).__name__}.fit", y)
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        y = check_array(y, ensure_2d=False, input_name="y")
    check_consistent_length(X, y)
    check_classification_targets(y)
    return y
