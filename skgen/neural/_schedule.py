"""When to lower the learning rate and when to stop: by the loss, without tuning."""

import math

from skorch.callbacks import Callback

from skgen.neural._net import StopTraining

# At most twice so many training rows are watched where none are held out.
_WATCHED = 5_000


class Plateau(Callback):
    """Lower the learning rate where the loss no longer falls; stop at the last level.

    The loss is that of held-out rows where there are any, else of training rows. At
    each change of level, and at the end, the weights of the lowest loss come back.

    Parameters
    ----------
    tol : float
        What counts as a fall, in nats per row.
    patience : int
        How many epochs without one end a level.
    n_levels : int, default=3
        How many learning rates to go through.
    factor : float, default=0.2
        One learning rate over the last.
    """

    def __init__(self, tol, patience, n_levels=3, factor=0.2):
        self.tol = tol
        self.patience = patience
        self.n_levels = n_levels
        self.factor = factor

    def __getstate__(self):
        return {**vars(self), "best_": None, "watched_": None}

    def on_train_begin(self, net, X=None, **kwargs):
        self.level_ = 1
        self.waited_ = 0
        self.converged_ = False
        self.best_ = None
        self.lowest_ = math.inf
        # Where no rows are held out, some of those to train on; the mean over an
        # epoch is of the weights before each step, not of those that are kept.
        self.watched_ = X[:: max(1, X.shape[0] // _WATCHED)]
        if not net.streams_:
            # The start is a model to beat.
            self.lowest_, self.best_ = self._loss(net), net.snapshot()

    def _loss(self, net):
        """Return the loss to watch, under the weights as they are."""
        return net.mean_loss(self.watched_ if net.held_out_ is None else net.held_out_)

    def on_epoch_end(self, net, **kwargs):
        if net.streams_:
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


class Patience(Callback):
    """Stop where the loss of held-out rows no longer falls; keep its best weights.

    Parameters
    ----------
    patience : int
        How many epochs without a fall are the last.
    """

    def __init__(self, patience):
        self.patience = patience

    def __getstate__(self):
        return {**vars(self), "best_": None}

    def on_train_begin(self, net, **kwargs):
        self.waited_ = 0
        self.best_ = None
        self.lowest_ = math.inf

    def on_epoch_end(self, net, **kwargs):
        if net.held_out_ is None:
            return
        loss = net.history[-1]["valid_loss"]
        self.waited_ += 1
        if loss < self.lowest_:
            self.lowest_, self.best_, self.waited_ = loss, net.snapshot(), 0
        if self.waited_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        if self.best_ is not None:
            net.restore(self.best_)
        self.best_ = None
