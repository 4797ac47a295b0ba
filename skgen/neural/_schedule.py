"""Callbacks of a net: when to lower its rate and when to stop, and its progress."""

import math

from skorch.callbacks import Callback

from skgen.neural._net import StopTraining
from skgen.neural._training_rows import some_rows

# Without held-out rows, at least this number of training rows is watched, and less
# than twice the number.
_WATCHED = 5_000


class Plateau(Callback):
    """Lower the learning rate where the loss stops falling; stop at the last rate.

    Without held-out rows, training rows are watched if `watches_training`; otherwise
    the schedule does nothing.
    """

    draws = False  # random numbers

    # A level ends after `patience` epochs without a fall of `tol` nats per row, with
    # its best weights. Each of the `n_levels` rates is `factor` times the one before.
    # With `keeps_start`, they may be the weights before the first epoch.
    def __init__(
        self,
        tol,
        patience,
        n_levels=3,
        factor=0.2,
        watches_training=True,
        keeps_start=False,
    ):
        self.tol = tol
        self.patience = patience
        self.n_levels = n_levels
        self.factor = factor
        self.watches_training = watches_training
        self.keeps_start = keeps_start

    def __getstate__(self):
        return {**vars(self), "best_": None, "watched_": None}

    def on_train_begin(self, net, X=None, **kwargs):
        self.level_ = 1
        self.waited_ = 0
        self.converged_ = False
        self.best_ = None
        self.lowest_ = math.inf
        # The training loss of an epoch averages over weights that have changed since:
        # the loss of the final weights needs a pass over some rows.
        self.watched_ = some_rows(X, _WATCHED)
        held_out = net.held_out_ is not None and self.keeps_start
        if (self.watches_training or held_out) and not net.streams_:
            self.lowest_, self.best_ = self._loss(net), net.snapshot()

    def _loss(self, net):
        """Return the loss of the watched rows under the current weights."""
        return net.mean_loss(self.watched_ if net.held_out_ is None else net.held_out_)

    def on_epoch_end(self, net, **kwargs):
        if net.streams_ or (net.held_out_ is None and not self.watches_training):
            return
        held_out = net.history[-1]["valid_loss"]
        loss = self._loss(net) if math.isnan(held_out) else held_out
        fell = loss < self.lowest_ - self.tol
        self.waited_ = 0 if fell else self.waited_ + 1
        if loss < self.lowest_:
            self.lowest_, self.best_ = loss, net.snapshot()
        if self.waited_ < self.patience:
            return
        if self.level_ == self.n_levels:
            self.converged_ = True
            raise StopTraining
        self.level_ += 1
        self.waited_ = 0
        net.restore(self.best_)
        net.set_rate(net.rate_ * self.factor, net.half_life_)

    def on_train_end(self, net, **kwargs):
        if self.best_ is not None:
            net.restore(self.best_)
        self.best_ = self.watched_ = None


class Progress(Callback):
    """Report each epoch as a subtask of the fit `task` of `model`; stop on request."""

    draws = False

    def __init__(self, model, task):
        self.model = model
        self.task = task

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.task.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(estimator=self.model)

    def on_epoch_end(self, net, **kwargs):
        stop = self.epoch_.call_on_fit_task_end(
            estimator=self.model, reconstruction_attributes=self.model._mid_fit
        )
        if stop:
            raise StopTraining
