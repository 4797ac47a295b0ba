"""Estimators that are trained by gradient descent: one way to fit and to continue."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from skgen._checks import Described, invalid_parameter, row_weight, wrong_argument
from skgen._dequantize import warn_about_ties
from skgen._threads import one_blas_thread
from skgen._torch import threads_for, torch_seed, usable_device
from skgen._typing import MatrixLike
from skgen.base import FitStopped, GenerativeModel
from skgen.neural._build import build_net, restored_net
from skgen.neural._net import DivergedError
from skgen.neural._noise import OwnNoise
from skgen.neural._parameters import check_training
from skgen.neural._schedule import Progress
from skgen.neural._training_rows import RowsInMemory, StreamedRows, TrainingRows

# The mean loss of fewer held-out rows is too noisy to stop a fit.
_LEAST_HELD_OUT = 5

# Maximum number of rows that show whether a fit continues.
_COMPARED = 4096

# Largest variance of rows, in units of the variance of the first fit, for which a fit
# starts again: gradient descent does not reach a scale a hundred times smaller.
_NARROW = 1e-4


class InterruptedFit(FitStopped, KeyboardInterrupt):
    """Ctrl-C ended a fit; the model of the last complete epoch is kept."""


class DivergedFitError(FitStopped, FloatingPointError):
    """The loss became NaN in an epoch; the model of the epoch before is kept."""


class GradientModel(GenerativeModel):
    """Base class of the models that are trained by gradient descent.

    The fitted attribute `net_` is a skorch net, which is trained on batches in float32.
    Fitted models compute densities, samples and latents in float64.

    Besides the hooks of :class:`~skgen.base.GenerativeModel`, a subclass implements
    ``_check_own``, ``_whitening_type``, ``_new_module``, ``_encoded``, ``_adopted``,
    ``_loss_offset`` and ``_callbacks``.
    """

    n_iter_: int
    history_: list[dict[str, Any]]
    net_: Any  # skorch has no types

    # Whether an interrupted fit, or one that diverged, leaves the last good epoch.
    _keeps_stopped_fit = True

    def fit(self, X: MatrixLike, y: None = None) -> Self:
        """Fit the model to `X`.

        Parameters
        ----------
        X : array-like, Dask array, Dask dataframe or function
            Training data of shape (n_samples, n_features). A function without
            arguments returns an iterator over blocks of rows. Memory maps that are
            large compared to `working_memory`, Dask collections and functions are read
            block by block in every epoch: see the guide on large data. `AutoEncoder`,
            `VAE`, `RAE` and `SWAE` take NaN as values that were not observed.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted model. If fitting fails, the model of an earlier `fit` is kept.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid, or the model needs more rows.
        FloatingPointError
            If the loss becomes NaN. The model of the last complete epoch is kept, as
            it is after a KeyboardInterrupt.
        """
        return self._learn(X)

    def partial_fit(self, X: MatrixLike, y: None = None) -> Self:
        """Update the model with one more batch of a stream of rows.

        An autoencoder keeps a random sample of at most 2,000 of all rows that it has
        seen, including the rows of `fit`. The noise variances and the density of the
        latent codes, if there is one to fit, are fitted to this sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows. The first rows of an unfitted model determine the scaling of
            the features and the initial parameters, so there must be enough of them.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The model after one pass over `X`.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid, or the model needs more rows.
        FloatingPointError
            If the loss becomes NaN. The model before the call is kept.
        """
        return self._learn_more(X)

    # -- hooks -----------------------------------------------------------------

    # Parameters that a net is built with and that cannot change while it continues.
    _fixed: tuple[str, ...] = ("optimizer", "net_callbacks", "net_params", "device")

    # State of the averaging over a stream in `_follow`; a fit resets it.
    _average = None

    # Number of epochs that `_finish` adds to `max_epochs`.
    _n_last_epochs = 0

    # Betas of Adam that replace its defaults.
    _betas: tuple[float, float] | None = None

    # Number of steps after which the learning rate has halved; None keeps it constant.
    _half_life: int | None = None

    # Whether the learning rate of a fit falls along half a cosine.
    _anneals = False

    # For batch_size="auto": maximum number of rows in a batch, and number of batches of
    # a block in a stream and of all rows in a fit.
    _largest_batch, _batches_of_block, _batches_of_fit = 128, 40, 40

    # Minimum number of rows in such a batch.
    _least_batch = 16

    @abstractmethod
    def _check_own(self):
        """Raise for an invalid parameter that is not one of the engine's."""

    def _prepare(self, rows, rng):
        """Set what `_new_module` needs; this hook may fit other models.

        `rows` are the argument of `_new_module`.
        """

    @abstractmethod
    def _new_module(self, rows, rng):
        """Set the coordinates; return an initial module.

        `rows` are `TrainingRows`: only its training rows may influence the parameters.
        """

    @property
    @abstractmethod
    def _whitening_type(self):
        """Return the type of the coordinates: "full", "diag" or "spherical"."""

    @abstractmethod
    def _encoded(self, X):
        """Return (n, d) rows as the float32 array that the module takes."""

    @abstractmethod
    def _adopted(self):
        """Return the fitted attributes that follow from `net_`, a dict."""

    @abstractmethod
    def _loss_offset(self):
        """Return the difference of nats in the units of the data and the loss."""

    @abstractmethod
    def _callbacks(self):
        """Return the callbacks of the schedule, as (name, callback) pairs."""

    def _finish(self, rows, watched, rng, task):
        """Complete a fit with all rows (n, d); return further attributes, a dict.

        `rows` are a tensor or a `Stream`; `watched` is whether rows were held out.
        """
        return {}

    def _follow(self, rows, share, rng):
        """Complete a `partial_fit` with rows (n, d); return further attributes, a dict.

        `share` is the fraction of all steps before these rows.
        """
        return {}

    # Hook without an abstract method: most models have nothing to warn about.
    def _warn(self):
        """Warn about failures of a fit, and about repairs."""

    # -- checks ----------------------------------------------------------------

    def _check_parameters(self):
        check_training(self)
        self._check_own()

    # -- fitting ---------------------------------------------------------------

    def _undoing(self):
        net = getattr(self, "net_", None)
        if net is None:
            return super()._undoing()
        return partial(net.restore, net.snapshot(), net.state())

    def _kept(self):
        kept = super()._kept()
        return {**kept, "net_": self.net_.kept()} if "net_" in kept else kept

    def _loaded(self):
        super()._loaded()
        net = vars(self).get("net_")
        if net is None:
            return
        if isinstance(net, dict):  # of a file
            self.net_ = restored_net(self, net)
        if str(self.net_.device) == "cpu":
            # So that a model of a GPU continues here, once its device is "cpu".
            usable = usable_device(self._built["device"])
            self._built = {**self._built, "device": usable}

    _fits_out_of_core = True

    def _learn_split(self, rows, other):
        """Fit `TrainingRows` that another model has split."""
        for name in ("_fit_dtype", "feature_names_in_"):
            if hasattr(other, name):
                setattr(self, name, getattr(other, name))
        return self._learn(rows)

    def _rows_to_fit(self, X, sample_weight):
        if not isinstance(X, TrainingRows):
            return super()._rows_to_fit(X, sample_weight)
        self.n_features_in_, self._row_weight = X.shape[1], 1.0
        return X, None

    def _fit(self, X, sample_weight, rng, task, labels=None):
        rows = self._training_rows(X, rng, labels)
        self._average = None
        if self.warm_start and hasattr(self, "net_"):
            self._check_continues("fit")
            self._check_width(rows.shape[1])
        if not self.warm_start or self._starts_again(rows, "fit"):
            self._build(rows, rng)
        training, held_out, every = self._placed(rows)
        self._set_rate(training.shape[0])
        with self._recovering():
            self._train(training, held_out, self._n_epochs, rng, task)
            self._adopt(self._finish(every, held_out is not None, rng, task))
        self._warn()

    def _fit_more(self, X, sample_weight, rng, labels=None):
        rows = RowsInMemory(X, self._whitening_type == "full", labels=labels)
        if hasattr(self, "net_"):
            self._check_continues("partial_fit")
        if self._starts_again(rows, "partial_fit"):
            self._average = None
            self._build(rows, rng)
        self.net_.set_rate(self.lr, self._half_life)
        n_before = self.net_.n_steps_
        with self._recovering():
            rows = self._placed(rows)[2]
            self._train(rows, None, 1, rng, None)
            self._adopt(self._follow(rows, n_before / self.net_.n_steps_, rng))

    def _starts_again(self, rows, method):
        """Return whether a new net is built for rows (n, d)."""
        if not hasattr(self, "net_"):
            return True
        some = np.random.RandomState(0)  # so that draws of the fit stay the same
        return self._is_far_from(rows.sample(_COMPARED, some), method)

    def _is_too_wide_for(self, X):
        # The first fit has set the coordinates, and with them the minimum variances.
        return 0 < self._variances_of(X).max(initial=0) < _NARROW

    def _variances_of(self, X):
        """Return the variances of rows (m, d) in the coordinates of the first fit."""
        return np.nan_to_num(self._encoded(X)).var(axis=0)

    def _training_rows(self, X, rng, labels):
        """Return rows in memory (n, d), or elsewhere, as `TrainingRows`.

        labels: (n,) numbers of rows in memory, or None.
        """
        if isinstance(X, TrainingRows):
            return X
        full = self._whitening_type == "full"
        if isinstance(X, np.ndarray):
            return RowsInMemory(X, full, *self._split(X.shape[0], rng), labels)
        moments = X.moments(full=full)
        n_effective = moments.weight / row_weight(*moments.weight_sums)
        if not np.isclose(n_effective, moments.n_rows, rtol=1e-10, atol=0):
            got, rule = "blocks with weights", "blocks of rows only"
            raise wrong_argument(X.name, "X", rule, Described(got))
        n_held_out = self._n_held_out(moments.n_rows)
        rows = StreamedRows(X, moments, n_held_out, torch_seed(rng))
        if self._is_continuous:  # in memory, this is already checked
            warn_about_ties(rows.sample(None), X.names)
        return rows

    def _build(self, rows, rng):
        """Set a new net with an initial module, before its first step."""
        self._prepare(rows, rng)
        with one_blas_thread(), threads_for(0), OwnNoise(torch_seed(rng)):
            module = self._new_module(rows, rng).float()
            generator = torch.Generator().manual_seed(torch_seed(rng))
            size = self._resolved_batch(rows.shape[0], False)  # until `_train`
            net = build_net(self, module, self._callbacks(), size, generator)
        self.net_ = net
        self.history_ = []
        self._width = rows.shape[1]
        self._built = {name: getattr(self, name) for name in self._fixed}

    def _resolved_batch(self, n_samples, streams):
        """Return the batch size of `n_samples` rows, in a stream or a fit."""
        if self.batch_size != "auto":
            return self.batch_size
        n_batches = self._batches_of_block if streams else self._batches_of_fit
        return min(self._largest_batch, max(self._least_batch, n_samples // n_batches))

    def _set_rate(self, n_training):
        """Set the learning rate of a fit to `n_training` rows."""
        n_steps = None
        if self._anneals:
            size = self._resolved_batch(n_training, False)
            n_steps = self._n_epochs * -(-n_training // size)
        self.net_.set_rate(self.lr, self._half_life, n_steps)

    def _check_continues(self, method):
        """Raise where a parameter that the net was built with has changed."""
        for name, before in self._built.items():
            now = getattr(self, name)
            if not _same(now, before):
                raise ValueError(
                    f"{type(self).__name__}.{method} continues a model that was built "
                    f"with {name}={before!r}. Got {name}={now!r} instead. Call fit "
                    "with warm_start=False to train a new model."
                )

    def _check_width(self, d):
        """Raise where rows of a warm start have a different number `d` of features."""
        if d != self._width:
            raise ValueError(
                f"{type(self).__name__}.fit continues a model that was built for "
                f"{self._width} features. Got {d} instead. Set warm_start=False to "
                "train a new model."
            )

    def _placed(self, rows):
        """Return the training rows, held-out rows or None, and all rows for the net."""
        self.net_.module_.incomplete = rows.incomplete
        return rows.placed(self._encoded, torch.device(self.net_.device))

    def _split(self, n, rng):
        """Return an order of `n` rows and the number of training rows, which are first.

        The held-out rows are chosen at random.
        """
        n_held_out = self._n_held_out(n)
        held_out = np.zeros(n, dtype=bool)
        if n_held_out:
            held_out[rng.permutation(n)[:n_held_out]] = True
        return np.argsort(held_out, kind="stable"), n - n_held_out

    def _n_held_out(self, n):
        """Return the number of `n` rows to hold out."""
        n_held_out = round(self.validation_fraction * n)
        if n_held_out == n:
            rule = f"small enough to leave some of the {n} rows for training"
            raise invalid_parameter(
                self, "validation_fraction", rule, self.validation_fraction
            )
        return (
            n_held_out if self.early_stopping and n_held_out >= _LEAST_HELD_OUT else 0
        )

    def _train(self, rows, held_out, epochs, rng, task):
        """Train the net; `task` is the callback context of a fit, None in a stream."""
        net = self.net_
        fresh = dict(self._callbacks())
        net.callbacks_ = [(name, fresh.get(name, cb)) for name, cb in net.callbacks_]
        net.streams_ = task is None
        device = torch.device(net.device)
        net.batch_size = self._resolved_batch(rows.shape[0], net.streams_)
        seed = (torch_seed(rng) + net.n_steps_) % 2**31
        net.module_.generator = torch.Generator(device).manual_seed(seed)
        net.module_.begin(rows)
        with (
            one_blas_thread(),
            threads_for(net.batch_size * net.n_parameters()),
            self._reporting(net, task),
            torch.enable_grad(),
        ):
            try:
                net.train(rows, held_out, epochs, OwnNoise(seed))
            finally:
                net.module_.generator = None
                net.module_.begin(None)

    @contextmanager
    def _recovering(self):
        """Keep the model of the last complete epoch if the body is stopped."""
        net = self.net_
        try:
            yield
        except (KeyboardInterrupt, DivergedError) as error:
            epoch = len(net.history_)
            if not net.back_to_last_epoch():
                raise self._stopped(error, epoch, "Nothing was learned") from None
            self._adopt()
            kept = f"The model of epoch {len(net.history_)} is kept in net_"
            raise self._stopped(error, epoch, kept, FitStopped) from None
        finally:
            net.kept_ = None

    @contextmanager
    def _reporting(self, net, task):
        """Report the epochs in the body to the callbacks of scikit-learn."""
        if task is not None:
            net.callbacks_.append(("progress", Progress(self, task)))
        try:
            yield
        finally:
            if task is not None:
                net.callbacks_.pop()

    def _adopt(self, further=None):
        """Set the fitted attributes that follow from the net, and `further` ones."""
        for name, value in {**self._adopted(), **(further or {})}.items():
            setattr(self, name, value)

    def _mid_fit(self):
        """Return the fitted attributes for callbacks of scikit-learn, a dict."""
        return self._adopted()

    def _stopped(self, error, epoch, kept, mark=None):
        """Return the error to raise where epoch `epoch` was not completed."""
        if isinstance(error, KeyboardInterrupt):
            return InterruptedFit(*error.args) if mark else error
        message = (
            f"The loss of {type(self).__name__} became NaN in epoch {epoch}. {kept}. "
            f"Lower the 'lr' parameter, {self.lr:g}, and look for outliers in the "
            "training data."
        )
        return DivergedFitError(message) if mark else FloatingPointError(message)

    def _losses(self):
        """Return the loss curve in nats per row of the data, a list of dicts."""
        epochs = self.net_.history_
        # Earlier epochs are not converted again: a stream has many.
        known = self.history_[: len(epochs)] if hasattr(self, "history_") else []
        offset = self._loss_offset()
        return known + [
            {
                "epoch": epoch["epoch"],
                "train": float(epoch["train_loss"] + offset),
                "validation": float(epoch["valid_loss"] + offset),
                "seconds": epoch["dur"],
            }
            for epoch in epochs[len(known) :]
        ]

    @property
    def _n_epochs(self):
        """Return the maximum number of epochs of one training."""
        return self.max_epochs

    @property
    def _n_fit_tasks(self):
        return self.max_epochs + self._n_last_epochs


def _same(one, other):
    """Return whether two values of a parameter are equal; they may hold arrays."""
    if one is other:
        return True
    if hasattr(one, "__array__") or hasattr(other, "__array__"):
        return np.array_equal(one, other)
    sequences = (list, tuple)
    if isinstance(one, sequences) and isinstance(other, sequences):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)
