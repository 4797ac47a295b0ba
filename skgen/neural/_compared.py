"""Models that are trained from several bases; held-out rows choose one of them."""

import math
from abc import abstractmethod
from contextlib import nullcontext
from functools import partial

import numpy as np

from skgen._torch import torch_seed
from skgen._warnings import quiet
from skgen.neural._model import GradientModel, InterruptedFit


class ComparesBases(GradientModel):
    """Abstract model whose `base` is a density from which training starts.

    With "auto", a model is trained from each base of `_trials`, and the model with the
    lowest loss of held-out rows is kept.
    """

    # Number of epochs from each base, relative to `max_epochs`. The last base needs no
    # other model.
    _trials: dict[str, float]

    # Base of the training that runs, while bases are compared.
    _trial: str | None = None

    @property
    @abstractmethod
    def _held_out_loss(self):
        """Return the loss of the held-out rows after training."""

    @abstractmethod
    def _quick_log_density(self, X):
        """Return an approximate log p(x) of rows (n, d), in milliseconds: (n,)."""

    def _density_of_last_fit(self, X):
        return self._quick_log_density(X)

    @property
    def _is_auto(self):
        return isinstance(self.base, str) and self.base == "auto"

    @property
    def _named_base(self):
        """Name of the base of the training that runs, or None for an estimator."""
        if self._is_auto:
            return self._trial or list(self._trials)[-1]
        return self.base if isinstance(self.base, str) else None

    def _fit(self, X, sample_weight, rng, task, labels=None):
        fit = partial(super()._fit, X, sample_weight, task=task, labels=labels)
        if not self._compares(X):
            fit(rng=rng)
            return
        seed, lowest, best = torch_seed(rng), math.inf, {}
        *_, last = self._trials
        try:
            for trial in self._trials:
                self._trial = trial
                vars(self).pop("net_", None)  # a warm start would continue it
                # The last training gives the warnings of all.
                silent = nullcontext() if trial == last else quiet()
                try:
                    with silent:  # and the same rows are held out
                        fit(rng=np.random.RandomState(seed))
                except FloatingPointError:
                    if trial == last and not best:
                        raise
                    continue
                except KeyboardInterrupt as error:
                    raise InterruptedFit(*error.args) if best else error from None
                if self._held_out_loss <= lowest:
                    lowest, best = self._held_out_loss, dict(vars(self))
        finally:
            vars(self).update(best)
            vars(self).pop("_trial", None)

    def _compares(self, X):
        """Return whether held-out rows choose the base in a fit to X."""
        continues = self.warm_start and hasattr(self, "net_")
        if continues or not (self._is_auto and self.early_stopping):
            return False
        if isinstance(X, np.ndarray):
            n_held_out = self._n_held_out(len(X))
        else:
            n_held_out = getattr(X, "n_held_out", 1)  # a source is long
        return self.max_epochs > 1 and n_held_out > 0

    @property
    def _n_epochs(self):
        if self._trial is None:
            return self.max_epochs
        *others, last = self._trials
        numbers = {
            trial: max(1, round(self._trials[trial] * self.max_epochs))
            for trial in others
        }
        numbers[last] = max(1, self._n_fit_tasks - sum(numbers.values()))
        return numbers[self._trial]

    @property
    def _n_fit_tasks(self):
        total = sum(self._trials.values()) if self._is_auto else 1
        return round(total * self.max_epochs)
