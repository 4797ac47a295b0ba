"""When to lower the learning rate and when to stop: by the loss, without tuning."""

import math

from skorch.callbacks import Callback

from skgen.neural._net import StopTraining


class Plateau(Callback):
    """Lower the learning rate where the loss no longer falls; stop at the last level.

    The loss is that of held-out rows where there are any, else of training. At each
    change of level, and at the end, the weights of the lowest loss come back.

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
        return {**vars(self), "best_": None}

    def on_train_begin(self, net, **kwargs):
        self.level_ = 1
        self.waited_ = 0
        # Where rows are held out, the start is a model to beat.
        self.lowest_ = net.start_loss_
        self.best_ = net.snapshot() if math.isfinite(self.lowest_) else None
        self.converged_ = False

    def on_epoch_end(self, net, **kwargs):
        record = net.history[-1]
        loss = record.get("valid_loss", math.nan)
        loss = record["train_loss"] if math.isnan(loss) else loss
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
        self.best_ = None
