"""The contract that every generative model of skgen keeps.

Public methods live here, once: they check parameters and data, split rows into
chunks, restore data types and choose the generator. A model fills in the private
hooks, which receive clean float64 arrays and only compute.
"""

from abc import ABC, abstractmethod
from contextlib import contextmanager

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, DensityMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_array, gen_batches
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skgen._parameters import (
    Described,
    check_random_state_parameter,
    invalid_argument,
    numbers_only,
)
from skgen._persistence import Persistent
from skgen._ties import warn_about_ties
from skgen._validation import (
    column_names,
    float_type,
    generator,
    generator_of_draws,
    present,
    rows_to_answer,
    validated_rows,
    validated_weight,
)


class GenerativeModel(
    Persistent, CallbackSupportMixin, TransformerMixin, DensityMixin, BaseEstimator, ABC
):
    r"""A model that draws a latent :math:`z \sim p(z)`, then :math:`x \sim p(x | z)`.

    Abstract: a model fills in ``_check_parameters``, ``_fit``, ``_log_density``,
    ``_draw``, ``_posterior_mean``, ``_conditional_mean``, ``_n_fit_tasks``,
    ``_n_latent`` and ``_bytes_per_row``. Nothing else is overridden.
    """

    # Latents are what `inverse_transform` maps, not metadata to route to it.
    __metadata_request__inverse_transform = {"Z": UNUSED}  # noqa: RUF012 (read only)

    # -- fitting ---------------------------------------------------------------

    def _learn(self, X, sample_weight=None, **more):
        """Fit the model; where that fails, leave what was fitted before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, unchecked.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts, unchecked. None counts each once.
        **more : dict
            Passed on to the hook `_fit`.

        Returns
        -------
        self
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
        self._fit(rows, sample_weight, generator(self.random_state), task, **more)
        task.call_on_fit_task_end(estimator=self, X=seen, reconstruction_attributes={})
        return self

    def _rows_to_fit(self, X, sample_weight):
        """Return checked rows and weights, or a table as it is."""
        if self._table_elsewhere is not None:
            table = self._table_elsewhere(self, X, sample_weight)
            if table is not None:
                self._fit_dtype = table.dtype
                return table, None
        return self._rows_to_learn(X, sample_weight, reset=True)

    def _rows_to_learn(self, X, sample_weight, *, reset):
        """Return checked float64 rows and positive weights.

        `reset` says that they are the first: their features, names and data type are
        those of the model.
        """
        X = validated_rows(self, X, reset=reset)
        sample_weight = validated_weight(self, sample_weight, X.shape[0])
        X, sample_weight = present(X, sample_weight)
        if reset:
            if self._is_continuous:
                warn_about_ties(X, column_names(self))
            self._fit_dtype = X.dtype
        # However rows lie in memory, sums over them are rounded alike.
        return np.ascontiguousarray(X, np.float64), sample_weight

    def _learn_more(self, X, sample_weight=None):
        """Go on learning from a block of rows; where that fails, lose nothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, unchecked.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts, unchecked. None counts each once.

        Returns
        -------
        self
        """
        with restored_on_error(self):
            self._check_parameters()
            check_random_state_parameter(self)
            first = not hasattr(self, "n_features_in_")
            X, sample_weight = self._rows_to_learn(X, sample_weight, reset=first)
            self._fit_more(X, sample_weight, generator(self.random_state))
        return self

    # -- what every model answers ----------------------------------------------

    def score_samples(self, X):
        r"""Return the log-density of each row, in nats and in the units of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            :math:`\log p(x)` of each row, the natural logarithm of a density that
            integrates to one over the space of the features.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X)
        log_density = self._by_chunks(self._log_density, X)
        with np.errstate(over="ignore"):  # below the least float32 it is -inf
            return log_density.astype(float_type(X.dtype), copy=False)

    def score(self, X, y=None, sample_weight=None):
        """Return the mean log-density of the rows, in nats per row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, held out from fitting if the figure is to mean anything.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None counts each once.

        Returns
        -------
        float
            The weighted mean of ``score_samples(X)``: a mean for every model,
            unlike the sum of scikit-learn's ``KernelDensity``.
        """
        log_density, sample_weight = self._weighted_log_density(X, sample_weight)
        return float(np.average(log_density, weights=sample_weight))

    def sample(self, n_samples=1, *, random_state=None):
        """Draw rows from the fitted density.

        Parameters
        ----------
        n_samples : int, default=1
            How many rows to draw.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws. None falls back on the `random_state` of the
            constructor: an int there gives the same draws on every call, a
            RandomState moves on, and None is fresh entropy. The global generator
            is never used.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Independent draws, in random order: float32 if `fit` saw float32, else
            float64.
        """
        check_is_fitted(self)
        rng = generator_of_draws(self, "sample", n_samples, random_state)
        return self._draw(int(n_samples), rng).astype(self._fit_dtype, copy=False)

    def transform(self, X):
        r"""Return the posterior mean of the latent, :math:`E[z | x]`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_latent)
            The posterior mean for each row; a dataframe where ``set_output`` asks
            for one.
        """
        return self._posterior(X)

    def inverse_transform(self, Z):
        r"""Return the mean of the rows that latents give rise to, :math:`E[x | z]`.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latent)
            Latents, as `transform` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The mean of :math:`p(x | z)` for each latent.
        """
        check_is_fitted(self)
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
        return self._by_chunks(self._conditional_mean, Z).astype(Z.dtype, copy=False)

    def _weighted_log_density(self, X, sample_weight):
        """Return the log-density of unchecked rows in float64, and their weights."""
        check_is_fitted(self)
        X = rows_to_answer(self, X)
        sample_weight = validated_weight(self, sample_weight, X.shape[0])
        return self._by_chunks(self._log_density, X), sample_weight

    def _posterior(self, X):
        """Return E[z | x] of unchecked rows, in their own precision."""
        check_is_fitted(self)
        X = rows_to_answer(self, X)
        means = self._by_chunks(self._posterior_mean, X)
        return means.astype(float_type(X.dtype), copy=False)

    def _undoing(self):
        """Return a function that puts back what fitting changes in place."""
        return lambda: None

    # -- hooks -----------------------------------------------------------------

    @abstractmethod
    def _check_parameters(self):
        """Raise for a constructor parameter of the wrong type or value."""

    @abstractmethod
    def _fit(self, X, sample_weight, rng, task):
        """Set the fitted attributes from (n, d) rows and (n,) positive weights.

        `task` is the callback context of the whole fit, to hang iterations on. The
        rows may be the caller's own: they are read, never written.
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

    # Whether rows have a density, which ties let grow without bound.
    _is_continuous = True

    # For a model that fits rows which are not in memory: a function of the model, `X`
    # and weights, unchecked, that returns such rows as a table with a `dtype`, sets
    # the number and names of the features, and returns None for arrays in memory.
    _table_elsewhere = None

    @property
    @abstractmethod
    def _n_fit_tasks(self):
        """Return how many sub-tasks a fit reports to callbacks; 0 for a leaf."""

    @property
    @abstractmethod
    def _n_latent(self):
        """Return the number of columns of a latent."""

    @property
    @abstractmethod
    def _bytes_per_row(self):
        """Return the memory that a hook needs for one row, in bytes."""

    # -- chunks ------------------------------------------------------------------

    def _by_chunks(self, hook, X):
        """Apply a hook to chunks of rows that fit scikit-learn's `working_memory`."""
        n_samples = X.shape[0]
        chunk = max(1, working_memory() // self._bytes_per_row)
        answers = None
        for rows in gen_batches(n_samples, min(chunk, n_samples)):
            part = hook(np.ascontiguousarray(X[rows], np.float64))
            if answers is None:
                answers = np.empty((n_samples, *part.shape[1:]), dtype=part.dtype)
            answers[rows] = part
        return answers

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class WeightedFitMixin:
    """Give a model a `fit` that takes weights: a weight of 2 is the row twice."""

    def fit(self, X, y=None, sample_weight=None):
        """Fit the model to the rows of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts: 2 is the row twice, 0 the row absent.
            None counts each row once.

        Returns
        -------
        self : object
            The fitted model. Where fitting fails, what an earlier `fit` had
            learned is still there.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is not what it must be, or the rows
            are too few for the model; the message names it.
        """
        return self._learn(X, sample_weight)


def working_memory():
    """Return scikit-learn's `working_memory` setting in bytes, at least 64 KiB."""
    return max(int(get_config()["working_memory"] * 2**20), 2**16)


class FitStopped:
    """Marks an error after which the model that was learned so far is kept."""


@contextmanager
def restored_on_error(model):
    """Put the attributes of `model` back as they were if the body raises."""
    before = dict(vars(model))
    undo = model._undoing()
    try:
        yield
    except BaseException as error:
        if isinstance(error, FitStopped):
            raise
        undo()
        vars(model).clear()
        vars(model).update(before)
        raise
