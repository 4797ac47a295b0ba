"""Epochs of a net, reported to the callbacks of scikit-learn."""

from skorch.callbacks import Callback

from skgen.neural._net import StopTraining


class Progress(Callback):
    """Tell scikit-learn's callbacks of each epoch; stop where one of them asks to.

    Parameters
    ----------
    model : GradientModel
        The estimator that is fitted.
    task : CallbackContext
        That of its fit.
    """

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
