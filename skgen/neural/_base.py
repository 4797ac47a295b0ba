"""The estimators that learn by gradient descent: one way to fit, stop and go on."""

from abc import abstractmethod
from contextlib import contextmanager
from functools import partial

import numpy as np

from skgen._parameters import (
    check_boolean,
    check_integer,
    invalid_parameter,
    is_integer,
    is_real,
)
from skgen._tensors import (
    check_device,
    resolved_device,
    seeded,
    threads_for,
    torch_seed,
)
from skgen._threads import one_blas_thread
from skgen.base import FitStopped, GenerativeModel

# A mean over fewer held-out rows decides nothing.
_LEAST_HELD_OUT = 5


class InterruptedFit(FitStopped, KeyboardInterrupt):
    """Ctrl-C ended a fit; the model of the last whole epoch is kept."""


class DivergedFitError(FitStopped, FloatingPointError):
    """The loss of an epoch was not a number; the model of the one before is kept."""


class GradientModel(GenerativeModel):
    """A model that a private skorch net fits, batch by batch, in float32.

    Abstract: besides the hooks that answer, a model fills in ``_check_own``,
    ``_new_module``, ``_encoded``, ``_adopted``, ``_loss_offset``, ``_resolved_batch``
    and ``_callbacks``.
    """

    def fit(self, X, y=None):
        """Fit the model to the rows of `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted model. Where fitting fails, what an earlier `fit` had
            learned is still there.

        Raises
        ------
        ValueError
            If a parameter or `X` is not what it must be, or the rows are too few
            for the model; the message names it.
        FloatingPointError
            If the loss of an epoch is not a number. The model of the epoch before
            is kept, as it is after a KeyboardInterrupt.
        """
        return self._learn(X)

    def partial_fit(self, X, y=None):
        """Go on learning from one more block of a stream of rows.

        An autoencoder fits its noise, and the density of its codes where it has one,
        to a sample of all rows seen, those of `fit` included: no more than 2,000,
        which it keeps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The block. The first of an unfitted model sets its coordinates and its
            start, so it must have rows enough for that.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The model after one pass over the block.

        Raises
        ------
        ValueError
            If a parameter or `X` is not what it must be; the message names it.
        FloatingPointError
            If the loss is not a number. The model before the block is kept.
        """
        return self._learn_more(X)

    # -- hooks -----------------------------------------------------------------

    # Parameters that a net is built with, which cannot change while it goes on.
    _fixed = ("optimizer", "net_callbacks", "net_params", "device")

    # What `_follow` makes of the path through a stream; a fit forgets it.
    _average = None

    # How many epochs `_finish` adds to `max_epochs`.
    _n_last_epochs = 0

    # Those of Adam, where its defaults do not serve.
    _betas = None

    # After how many steps the learning rate is a half; None keeps it.
    _half_life = None

    # Whether the learning rate of a fit falls along half a cosine.
    _anneals = False

    @abstractmethod
    def _check_own(self):
        """Raise for a parameter that the engine does not know."""

    @abstractmethod
    def _new_module(self, X, training, rng):
        """Set the coordinates; return a module to train from its start.

        The start may know the rows of `training` (their numbers), and no others.
        """

    @abstractmethod
    def _encoded(self, X):
        """Return (n, d) rows as a float32 array of what the module takes."""

    @abstractmethod
    def _adopted(self):
        """Return the fitted attributes that follow from the module of `net_`."""

    @abstractmethod
    def _loss_offset(self):
        """Return what turns a loss of the module into nats in the data's units."""

    @abstractmethod
    def _resolved_batch(self, n_samples, streams):
        """Return the number of rows in a batch, at most, in a stream or a fit."""

    @abstractmethod
    def _callbacks(self):
        """Return the callbacks of the schedule, as (name, callback) pairs."""

    @abstractmethod
    def _finish(self, rows, watched, rng, task):
        """Do what is left to do with all rows; return attributes that follow from it.

        `watched` tells whether some of the rows were held out so far.
        """

    @abstractmethod
    def _follow(self, rows, share, rng):
        """Take account of a block of a stream; return attributes that follow from it.

        `share` of all steps came before the block.
        """

    @abstractmethod
    def _warn(self):
        """Warn about what went wrong, and was mended, in a fit."""

    # -- checks ----------------------------------------------------------------

    def _check_parameters(self):
        # Not at the top: PyTorch is heavy, and importing skgen should not be.
        from skgen.neural._training import check_net_parameters

        check_integer(self, "max_epochs", 1)
        batch_size = self.batch_size
        if batch_size != "auto" and not is_integer(batch_size, 1):
            rule = "'auto' or an int of at least 1"
            raise invalid_parameter(self, "batch_size", rule, batch_size)
        if not (is_real(self.lr) and self.lr > 0):
            rule = "a finite number above 0"
            raise invalid_parameter(self, "lr", rule, self.lr)
        check_boolean(self, "early_stopping")
        fraction = self.validation_fraction
        if not (is_real(fraction) and 0 < fraction < 1):
            rule = "a number between 0 and 1"
            raise invalid_parameter(self, "validation_fraction", rule, fraction)
        check_boolean(self, "warm_start")
        check_net_parameters(self)
        check_device(self)
        self._check_own()

    # -- fitting ---------------------------------------------------------------

    def _undoing(self):
        net = getattr(self, "net_", None)
        if net is None:
            return super()._undoing()
        return partial(net.restore_full_state, net.full_state())

    def _fit(self, X, sample_weight, rng, task):
        order, n_training = self._split(X.shape[0], rng)
        self._average = None
        if self.warm_start and hasattr(self, "net_"):
            self._check_continues("fit")
            self._check_width(X.shape[1])
        else:
            # From the training rows alone: held-out rows must not know the start.
            self._build(X, order[:n_training], rng)
        rows = self._placed(X, order)
        held_out = rows[n_training:] if n_training < X.shape[0] else None
        self._set_rate(n_training)
        with self._recovering():
            self._train(rows[:n_training], held_out, self.max_epochs, rng, task)
            self._adopt(self._finish(rows, held_out is not None, rng, task))
        self._warn()

    def _fit_more(self, X, sample_weight, rng):
        order = np.arange(X.shape[0])
        if hasattr(self, "net_"):
            self._check_continues("partial_fit")
        else:
            self._build(X, order, rng)
        self.net_.set_rate(self.lr, self._half_life)
        n_before = self.net_.n_steps_
        with self._recovering():
            rows = self._placed(X, order)
            self._train(rows, None, 1, rng, None)
            self._adopt(self._follow(rows, n_before / self.net_.n_steps_, rng))

    def _build(self, X, training, rng):
        """Start afresh: a module at its start, in a net that has taken no step."""
        import torch

        from skgen.neural._training import build_net

        device = resolved_device(self.device)
        with one_blas_thread(), threads_for(0), seeded(torch_seed(rng), device):
            module = self._new_module(X, training, rng).float()
            generator = torch.Generator().manual_seed(torch_seed(rng))
            size = self._resolved_batch(X.shape[0], False)  # until training says
            net = build_net(self, module, self._callbacks(), size, generator)
        self.net_ = net
        self.history_ = []
        self._width = X.shape[1]
        self._built = {name: getattr(self, name) for name in self._fixed}

    def _set_rate(self, n_training):
        """Set the learning rate of a fit to so many rows."""
        n_steps = None
        if self._anneals:
            size = self._resolved_batch(n_training, False)
            n_steps = self.max_epochs * -(-n_training // size)
        self.net_.set_rate(self.lr, self._half_life, n_steps)

    def _check_continues(self, method):
        """Raise where a parameter that the net was built with has changed since."""
        for name, before in self._built.items():
            now = getattr(self, name)
            if not _same(now, before):
                raise ValueError(
                    f"{type(self).__name__}.{method} goes on with the model as it was "
                    f"built, with {name}={before!r}. Got {name}={now!r} instead. Call "
                    "fit with warm_start=False to start afresh."
                )

    def _check_width(self, d):
        """Raise where rows of a warm start have another number of features."""
        if d != self._width:
            raise ValueError(
                f"{type(self).__name__}.fit goes on with the model as it was built, "
                f"for {self._width} features. Got {d} instead. Set warm_start=False "
                "to start afresh."
            )

    def _placed(self, X, order):
        """Return rows in the given order as a tensor of what the module takes."""
        import torch

        from skgen.neural._batches import placed

        rows = torch.from_numpy(self._encoded(X))[torch.from_numpy(order)]
        return placed(rows, torch.device(self.net_.device))

    def _split(self, n, rng):
        """Return an order of the rows, and how many of them to train on.

        The rest are held out, chosen at random.
        """
        n_held_out = round(self.validation_fraction * n)
        if n_held_out == n:
            rule = f"small enough to leave rows to train on, of {n}"
            raise invalid_parameter(
                self, "validation_fraction", rule, self.validation_fraction
            )
        if not self.early_stopping or n_held_out < _LEAST_HELD_OUT:
            return np.arange(n), n
        held_out = np.zeros(n, dtype=bool)
        held_out[rng.permutation(n)[:n_held_out]] = True
        return np.argsort(held_out, kind="stable"), n - n_held_out

    def _train(self, rows, held_out, epochs, rng, task):
        """Train the net.

        `task` is the callback context of a fit, None for a block of a stream.
        """
        import torch

        net = self.net_
        fresh = dict(self._callbacks())
        net.callbacks_ = [(name, fresh.get(name, cb)) for name, cb in net.callbacks_]
        net.streams_ = task is None
        device = torch.device(net.device)
        net.batch_size = self._resolved_batch(rows.shape[0], net.streams_)
        seed = (torch_seed(rng) + net.n_steps_) % 2**31
        net.module_.generator = torch.Generator(device).manual_seed(seed)
        with (
            one_blas_thread(),
            threads_for(net.batch_size * net.n_parameters()),
            seeded(seed, device),
            self._reporting(net, task),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            try:
                net.train(rows, held_out, epochs)
            finally:
                net.module_.generator = None

    @contextmanager
    def _recovering(self):
        """Leave the last whole epoch's model if the body is stopped."""
        from skgen.neural._net import DivergedError

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
        """Report epochs to the callbacks of scikit-learn, for as long as they run."""
        from skgen.neural._progress import Progress

        if task is not None:
            net.callbacks_.append(("progress", Progress(self, task)))
        try:
            yield
        finally:
            if task is not None:
                net.callbacks_.pop()

    def _adopt(self, further=None):
        """Set the fitted attributes that follow from the net, and further ones."""
        for name, value in {**self._adopted(), **(further or {})}.items():
            setattr(self, name, value)

    def _mid_fit(self):
        """Return the fitted attributes that callbacks of scikit-learn may use."""
        return self._adopted()

    def _stopped(self, error, epoch, kept, mark=None):
        """Return the error to raise where epoch `epoch` was not finished."""
        if isinstance(error, KeyboardInterrupt):
            return InterruptedFit(*error.args) if mark else error
        message = (
            f"The loss of {type(self).__name__} was not a number in epoch {epoch}. "
            f"{kept}. Lower the 'lr' parameter, {self.lr:g}, and look for rows that "
            "lie far from all others."
        )
        return DivergedFitError(message) if mark else FloatingPointError(message)

    def _losses(self):
        """Return the loss curve in nats per row and in the units of the data."""
        epochs = self.net_.history_
        # What was there before is taken over: a stream has very many epochs.
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
    def _n_fit_tasks(self):
        return self.max_epochs + self._n_last_epochs


def _same(one, other):
    """Tell whether two values of a parameter are equal, arrays and sequences too."""
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
