"""Reports of the epochs of a net to the callbacks of scikit-learn."""

from skorch.callbacks import Callback

from skgen.neural._net import StopTraining


class Progress(Callback):
    """Report each epoch as a subtask of the fit `task` of `model`; stop on request."""

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
