"""Base class of all generative models.

Every public method is defined here, once: it checks parameters and data, splits rows
into chunks, restores data types and seeds the generator. A model implements private
hooks, which receive validated float64 arrays and only compute. For Dask input the
public methods compute block by block, and lazily.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, gen_batches
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    answers_with_nan,
    check_random_state_parameter,
    column_names,
    float_type,
    generator,
    generator_of_draws,
    in_rows,
    invalid_argument,
    numbers_only,
    present,
    row_weight,
    rows_to_answer,
    validated_rows,
    validated_weight,
    weight_sums,
)
from skgen._dequantize import warn_about_ties
from skgen._interop import as_set_output
from skgen._persistence import Persistent
from skgen._threads import working_memory
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike, NDArray, RandomState
from skgen._warnings import warn_user
from skgen._whitening import DEGENERATE_VARIANCE
from skgen.rows import as_rows
from skgen.rows._dask import DaskRows, frozen, lazy_on_dask
from skgen.rows._source import counted_sum, is_dask

# Address of the page of a class in the reference documentation.
REFERENCE = (
    "https://scikit-generative.readthedocs.io/en/stable/reference/"
    "skgen.{estimator_name}.html"
)

# Rows are far from a model if the density of more than a fraction of them is lower
# than under one normal density of the rows, by a number of nats per feature.
_FAR_ROWS, _FAR_NATS = 0.1, 100


Model = TypeVar("Model")


class DocumentationLinkMixin:
    """Link an estimator's HTML representation to its page of the reference."""

    _doc_link_module = "skgen"
    _doc_link_template = REFERENCE


def keeps_dask_lazy(cls: type[Model]) -> type[Model]:
    """Let `transform` and `fit_transform` of a class answer Dask input lazily."""

    # scikit-learn wraps these methods for `set_output`, which would compute the answer.
    def lazy(method):
        @wraps(method)
        def answer(self, X, *arguments, **options):
            called = method.__wrapped__ if is_dask(X) else method
            return called(self, X, *arguments, **options)

        return answer

    for name in ("transform", "fit_transform"):
        setattr(cls, name, lazy(getattr(cls, name)))
    return cls


@keeps_dask_lazy
class GenerativeModel(
    DocumentationLinkMixin,
    Persistent,
    CallbackSupportMixin,
    TransformerMixin,
    DensityMixin,
    BaseEstimator,
    ABC,
):
    r"""Abstract base class of generative models.

    A generative model draws a latent :math:`z \sim p(z)`, then a row
    :math:`x \sim p(x | z)`. Subclasses implement ``_check_parameters``, ``_fit``,
    ``_log_density``, ``_draw``, ``_posterior_mean``, ``_conditional_mean``,
    ``_n_fit_tasks``, ``_n_latent`` and ``_bytes_per_row``, and override nothing else.
    """

    n_features_in_: int
    feature_names_in_: NDArray[Any]

    # scikit-learn would offer to route every other argument as metadata.
    __metadata_request__inverse_transform = {"Z": UNUSED}  # noqa: RUF012 (read only)

    # -- fitting ---------------------------------------------------------------

    @undisturbed()
    def _learn(self, X, sample_weight=None, **more):
        """Fit unchecked (n, d) rows; on an error, restore the previous fit.

        `more` is passed to the hook `_fit`.
        """
        with restored_on_error(self):
            return self._learn_with_callbacks(X, sample_weight, **more)

    @with_callbacks
    def _learn_with_callbacks(self, X, sample_weight, **more):
        self._check_parameters()
        check_random_state_parameter(self)
        rows, sample_weight = self._rows_to_fit(X, sample_weight)
        seen = rows if isinstance(rows, np.ndarray) else X
        task = self._init_callback_context(max_subtasks=self._n_fit_tasks)
        task.call_on_fit_task_begin(estimator=self, X=seen)
        self._fit(rows, sample_weight, generator(self._random_state), task, **more)
        task.call_on_fit_task_end(estimator=self, X=seen, reconstruction_attributes={})
        return self

    def _rows_to_fit(self, X, sample_weight):
        """Return checked rows and weights, or out-of-core `Rows` and None."""
        self._row_weight = 1.0
        rows = as_rows(self, X, sample_weight) if self._fits_out_of_core else None
        if rows is not None:
            self._fit_dtype = rows.dtype
            return rows, None
        return self._rows_to_learn(X, sample_weight, "fit", reset=True)

    def _rows_to_learn(self, X, sample_weight, method, *, reset):
        """Return checked float64 rows (n, d) and positive weights (n,), in rows.

        If `reset`, the model takes the number, names and data type of their features,
        and the weight that is worth one row: later blocks keep their ratio to it.
        """
        incomplete = self._fits_incomplete
        X = validated_rows(self, X, reset=reset, method=method, incomplete=incomplete)
        sample_weight = validated_weight(self, sample_weight, X.shape[0])
        X, sample_weight = present(X, sample_weight)
        if reset:
            self._row_weight = row_weight(*weight_sums(sample_weight))
            if self._is_continuous:
                warn_about_ties(X, column_names(self))
            self._fit_dtype = X.dtype
        # Sums over rows then round alike for every memory layout of `X`.
        sample_weight = in_rows(sample_weight, self._row_weight)
        return np.ascontiguousarray(X, np.float64), sample_weight

    @undisturbed()
    def _learn_more(self, X, sample_weight=None, **more):
        """Update the fit with a block of unchecked (n, d) rows, or restore it.

        `more` is passed to the hook `_fit_more`.
        """
        with restored_on_error(self):
            self._check_parameters()
            check_random_state_parameter(self)
            first = not hasattr(self, "n_features_in_")
            X, sample_weight = self._rows_to_learn(
                X, sample_weight, "partial_fit", reset=first
            )
            rng = generator(self._random_state)
            self._fit_more(X, sample_weight, rng, **more)
        return self

    def _is_far_from(self, X, method):
        """Return, and warn, whether rows (m, d) are far from the fitted model."""
        # A step moves a component by a fraction of the distance, so that all components
        # would end at the same place. Networks would take inputs far from 0.
        observed = ~np.isnan(X)
        counts = np.maximum(observed.sum(axis=0), 1)
        centred = np.where(observed, X, 0.0)
        centred = np.where(observed, X - centred.sum(axis=0) / counts, 0.0)
        variances = np.square(centred).sum(axis=0) / counts
        largest = variances.max()
        if not largest > 0:  # equal rows have no normal density
            return False
        variances = np.maximum(variances, DEGENERATE_VARIANCE * largest)
        normal = np.square(centred) / variances
        normal += np.where(observed, np.log(2 * np.pi * variances), 0.0)
        normal = -0.5 * normal.sum(axis=1)  # (m,)
        far = normal - _FAR_NATS * observed.sum(axis=1)
        lower = self._density_of_last_fit(X) < far
        # The rows of a block can be few, or alike.
        if lower.mean() <= _FAR_ROWS and not (
            method == "fit" and self._is_too_wide_for(X)
        ):
            return False
        name = type(self).__name__
        warn_user(
            f"The rows of X are far from the model that {name}.{method} continues, "
            "which is discarded: the fit starts again from X. Check the units of X.",
            ConvergenceWarning,
        )
        return True

    def _is_too_wide_for(self, X):
        """Return whether the model is too wide to be continued for rows (m, d)."""
        return False

    def _density_of_last_fit(self, X):
        """Return an approximate log p(x) of (m, d) rows by the last fit: (m,)."""
        return self._log_densities(X)

    # -- public methods --------------------------------------------------------

    @lazy_on_dask()
    def score_samples(self, X: MatrixLike) -> FloatArray:
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray or Dask array of shape (n_samples,)
            :math:`\log p(x)` of each row: the natural logarithm of a density that
            integrates to one over the space of the features. For Dask input, a lazy
            Dask array.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X, "score_samples")
        log_density = self._log_densities(X)
        with np.errstate(over="ignore"):  # below the range of float32 it is -inf
            return log_density.astype(float_type(X.dtype), copy=False)

    def score(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean log-density of the data, in nats per row.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data. Scores of training data are too high: use held-out data to
            compare models.
        y : None
            Ignored.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weight of each row; only ratios matter. None gives every row a weight of 1.

        Returns
        -------
        float
            Weighted mean of ``score_samples(X)``. It is a mean for every model, and
            not the sum that scikit-learn's ``KernelDensity`` returns. For Dask input,
            the workers compute it immediately.
        """
        log_likelihood, weight = self._log_likelihood(X, sample_weight)
        return log_likelihood / weight

    def sample(
        self, n_samples: int = 1, *, random_state: RandomState = None
    ) -> FloatArray:
        """Draw samples from the fitted density.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the samples. None uses the `random_state` of the constructor: an
            int gives the same samples on every call, a RandomState or a Generator
            advances, and None seeds every call anew. NumPy's global generator is never
            used.

        Returns
        -------
        ndarray or dataframe of shape (n_samples, n_features)
            Independent samples in random order: float32 if the model was fitted to
            float32 data, else float64. A dataframe if the model was fitted to one and
            `set_output` or scikit-learn's option `transform_output` selects pandas or
            polars.
        """
        return self._sample(n_samples, random_state)[0]

    @undisturbed()
    def _sample(self, n_samples, random_state):
        """Return samples as `sample` does, and their components or None."""
        check_is_fitted(self)
        rng = generator_of_draws(self, "sample", n_samples, random_state)
        draws, component = self._drawn(int(n_samples), rng)
        return self._as_samples(draws), component

    def _as_samples(self, draws):
        """Return draws (n, d) in the type and the container of samples."""
        return as_set_output(self, draws.astype(self._fit_dtype, copy=False))

    def _drawn(self, n_samples, rng):
        """Return (n_samples, d) draws, and their components where a model has them."""
        return self._draw(n_samples, rng), None

    @lazy_on_dask(lambda model: model._n_latent)
    def transform(self, X: MatrixLike) -> FloatArray:
        r"""Return the posterior mean of the latent, :math:`E[z | x]`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_latent)
            Posterior mean of each row's latent. A dataframe if `set_output` or
            scikit-learn's option `transform_output` selects pandas or polars. For
            Dask input, always a lazy Dask array.
        """
        return self._posterior(X)

    def fit_transform(
        self, X: MatrixLike, y: ArrayLike | None = None, **fit_params: Any
    ) -> FloatArray:
        """Fit the model and return the posterior mean of the latent of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, of any kind that `fit` takes and `transform` answers.
        y : array-like of shape (n_samples,), default=None
            Passed to `fit`.
        **fit_params : dict
            Passed to `fit`.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_latent)
            ``fit(X, y, **fit_params).transform(X)``.
        """
        return self.fit(X, y, **fit_params).transform(X)

    @lazy_on_dask(
        lambda model: model.n_features_in_, check=lambda model: model._validated_latents
    )
    def inverse_transform(self, Z: MatrixLike) -> FloatArray:
        r"""Return the conditional mean of the data given latents, :math:`E[x | z]`.

        Parameters
        ----------
        Z : array-like, Dask array or Dask dataframe of shape (n_samples, n_latent)
            Latents, as returned by `transform`.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_features)
            Mean of :math:`p(x | z)` for each latent. A dataframe if the model was
            fitted to one and `set_output` or scikit-learn's option
            `transform_output` selects pandas or polars; the index of a pandas
            dataframe `Z` is kept. For Dask input, always a lazy Dask array.
        """
        check_is_fitted(self)
        latents, Z = Z, self._validated_latents(Z)
        means = self._by_chunks(self._conditional_mean, Z).astype(Z.dtype, copy=False)
        return as_set_output(self, means, like=latents)

    def _validated_latents(self, Z):
        """Return unchecked latents (n, n_latent) as a finite float array."""
        what = f"The 'Z' argument of {type(self).__name__}.inverse_transform"
        Z = numbers_only(what, check_array, Z, input_name="Z")
        if Z.shape[1] != self._n_latent:
            raise invalid_argument(
                self,
                "inverse_transform",
                "Z",
                f"an array of {self._n_latent} columns, one for each latent",
                Described(f"{Z.shape[1]} columns"),
            )
        return Z

    @undisturbed()
    def _log_likelihood(self, X, sample_weight):
        """Return the log-likelihood of unchecked rows, and the number of rows."""
        check_is_fitted(self)
        if is_dask(X):
            log_density = frozen(self)._log_densities
            rows = DaskRows(self, X, sample_weight)
            total = rows.total(partial(counted_sum, function=log_density))
        else:
            X = rows_to_answer(self, X)
            sample_weight = validated_weight(self, sample_weight, X.shape[0])
            total = counted_sum(X, sample_weight, function=self._log_densities)
        log_likelihood, weight, squares, n_fractional = total
        one = row_weight(weight, squares / weight, n_fractional == 0)
        return float(log_likelihood / one), float(weight / one)

    def _log_densities(self, X):
        """Return the float64 log-densities (n,) of checked rows."""
        return self._by_chunks(self._log_density, X, "log_density")

    def _posterior(self, X):
        """Return E[z | x] of unchecked rows: (n, n_latent), in the precision of X."""
        check_is_fitted(self)
        X = rows_to_answer(self, X)
        means = self._by_chunks(self._posterior_mean, X, "posterior_mean")
        return means.astype(float_type(X.dtype), copy=False)

    def _undoing(self):
        """Return a function that restores what fitting changes in place."""
        return lambda: None

    # Seed of fits and draws. An estimator that holds a density takes the density's.
    @property
    def _random_state(self):
        return self.random_state

    # -- hooks -----------------------------------------------------------------

    @abstractmethod
    def _check_parameters(self):
        """Raise for a constructor parameter of the wrong type or value."""

    @abstractmethod
    def _fit(self, X, sample_weight, rng, task):
        """Set the fitted attributes from (n, d) rows and (n,) positive weights.

        `task` is the callback context of the fit: iterations are its sub-tasks. `X`
        may be the caller's own array and must not be written to.
        """

    @abstractmethod
    def _log_density(self, X):
        """Return log p(x) of (n, d) rows: (n,)."""

    @abstractmethod
    def _draw(self, n_samples, rng):
        """Return (n_samples, d) draws in random order."""

    @abstractmethod
    def _posterior_mean(self, X):
        """Return E[z | x] of (n, d) rows: (n, n_latent)."""

    @abstractmethod
    def _conditional_mean(self, Z):
        """Return E[x | z] of (n, n_latent) latents: (n, d)."""

    # Whether the model has a density, whose likelihood is unbounded for tied data.
    @property
    def _is_continuous(self):
        return True

    # Sample weight that is worth one row: `row_counts` has the rule.
    _row_weight = 1.0

    # Whether `_fit` also takes `Rows` that are not in memory.
    _fits_out_of_core = False

    # Whether `_fit`, and all answers, take NaN as a value that was not observed.
    _fits_incomplete = False
    _answers_incomplete = False

    @property
    @abstractmethod
    def _n_fit_tasks(self):
        """Return the number of sub-tasks that a fit reports to callbacks."""

    @property
    @abstractmethod
    def _n_latent(self):
        """Return the dimension of the latent space."""

    @property
    @abstractmethod
    def _bytes_per_row(self):
        """Return the bytes of memory that a hook needs for one row."""

    # -- chunks ------------------------------------------------------------------

    @undisturbed()
    def _by_chunks(self, hook, X, of_part=None):
        """Apply a hook to chunks of (n, d) rows within the working memory.

        Rows with NaN are answered by the method `of_part` of the parts of the model.
        """
        if of_part and self._answers_incomplete and X.dtype.kind == "f":
            complete = ~np.isnan(X).any(axis=1)
            if not complete.all():
                return self._by_parts(hook, X, of_part, complete)
        n_samples = X.shape[0]
        chunk = max(1, working_memory() // self._bytes_per_row)
        answers = None
        for rows in gen_batches(n_samples, min(chunk, n_samples)):
            part = answers_with_nan(hook, np.ascontiguousarray(X[rows], np.float64))
            if answers is None:
                answers = np.empty((n_samples, *part.shape[1:]), dtype=part.dtype)
            answers[rows] = part
        return answers

    def _by_parts(self, hook, X, of_part, complete):
        """Return the answers of `_by_chunks`, of which `complete` (n,) have no NaN."""
        answers = None
        if complete.any():
            whole = self._by_chunks(hook, X[complete])
            answers = np.empty((len(X), *whole.shape[1:]), whole.dtype)
            answers[complete] = whole
        for rows, part, values, _ in self._incomplete(X, self._bytes_per_row):
            answer = getattr(part, of_part)(values)
            if answers is None:
                answers = np.empty((len(X), *answer.shape[1:]), answer.dtype)
            answers[rows] = answer
        return answers

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class WeightedFitMixin:
    """Mixin that adds a `fit` with sample weights."""

    _learn: Callable[..., Any]  # of GenerativeModel

    def fit(
        self, X: MatrixLike, y: None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        r"""Fit the model to data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The training data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row. Whole numbers count rows: a weight of 2 is the row
            twice, a weight of 0 leaves it out. Of other weights only the ratios matter,
            and they are worth :math:`(\sum w)^2 / \sum w^2` rows, the effective number
            of rows (Kish, 1965). None gives every row a weight of 1.

        Returns
        -------
        self : object
            The fitted model. If fitting fails, the previous fit is kept.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is invalid, or `X` has too few rows
            for the model. The message names the argument.
        """
        self._learn(X, sample_weight)
        return self


class FitStopped:
    """Mixin for errors after which the model that was fitted so far is kept.

    Estimators that hold this model have no fit to keep.
    """


@contextmanager
def restored_on_error(model):
    """Restore the attributes of `model` if the body raises an error."""
    before = dict(vars(model))
    undo = model._undoing()
    try:
        yield
    except BaseException as error:
        keeps = getattr(model, "_keeps_stopped_fit", False)
        if keeps and isinstance(error, FitStopped):
            raise
        undo()
        vars(model).clear()
        vars(model).update(before)
        raise
