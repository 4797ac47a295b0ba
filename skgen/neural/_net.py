"""A skorch net whose epochs stay in memory and never wait for the device."""

import copy
import inspect
import math
import time

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from skgen.neural._batches import Batches

# Steps between two calls of `LossModule.maintain` within an epoch.
_MAINTENANCE = 200

# What is left of a learning rate at the end of its cosine.
_LEAST_SHARE = 1e-3


class LossModule(torch.nn.Module):
    """A module whose `forward` maps rows to their mean loss, a scalar.

    Abstract: a model fills in `forward`. While it trains, `generator` is what its
    noise comes from, so that the fits of several threads do not share one.
    """

    generator = None

    def maintain(self, rows, n_rows):
        """Mend what gradients cannot, between two steps of the optimiser.

        Parameters
        ----------
        rows : torch.Tensor
            The batch of the last step.
        n_rows : int
            How many rows there are to train on.
        """


class StopTraining(Exception):  # noqa: N818 (no error)
    """Raised by a callback of ours: the epoch that ended was the last."""


class DivergedError(Exception):
    """Raised where the loss of an epoch is not a number."""


class Net(NeuralNet):
    """Train a `LossModule` on rows in memory.

    It differs from its base in that batches are slices of a tensor, losses are added
    up on the device and read once an epoch, batches leave nothing in the history
    and are announced only to callbacks that listen, `KeyboardInterrupt` reaches the
    caller, and after a failure the model of the last whole epoch can be had back.
    """

    def get_default_callbacks(self):
        return []

    def check_data(self, X, y=None):
        pass

    def prepare(self, generator):
        """Set what training needs and `initialize` knows nothing of."""
        self.generator_state_ = generator.get_state()
        self.n_steps_ = 0
        self.kept_ = self.held_out_ = None
        self.n_rows_ = 0
        self.lowest_ = {}
        parameters = inspect.signature(self.optimizer.step).parameters
        closure = parameters.get("closure")
        self.needs_closure_ = (
            closure is not None and closure.default is inspect.Parameter.empty
        )

    def __getstate__(self):
        # The same module as `module_`, which loads on any device.
        return {**super().__getstate__(), "module": None, "held_out_": None}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.module = getattr(self.module_, "_orig_mod", self.module_)

    # -- one call of fit ---------------------------------------------------------

    def train(self, rows, held_out, epochs):
        """Train for some epochs; raise what interrupts them.

        Parameters
        ----------
        rows, held_out : torch.Tensor or None
            The rows to train on and to watch.
        epochs : int
            How many passes at most.
        """
        self.held_out_ = held_out
        self.notify("on_train_begin", X=rows, y=None)
        self.stopped_ = False
        try:
            self.fit_loop((rows, held_out), epochs=epochs)
        except StopTraining:
            self.stopped_ = True
        self.notify("on_train_end", X=rows, y=None)
        self.held_out_ = None

    def mean_loss(self, rows):
        """Return the mean loss of rows under the weights as they are."""
        self._set_training(False)
        batches = self.get_iterator(rows)
        with torch.no_grad():
            return batches.mean([self.module_(batch) for batch in batches])

    def get_split_datasets(self, X, y=None, **fit_params):
        return X

    def get_iterator(self, dataset, training=False):
        name = "train" if training else "valid"
        size = self.get_params_for(f"iterator_{name}").get(
            "batch_size", self.batch_size if training else 4 * self.batch_size
        )
        generator = None
        if training:
            generator = torch.Generator()
            generator.set_state(self.generator_state_)
        return Batches(dataset, size, torch.device(self.device), generator)

    def notify(self, method_name, **cb_kwargs):
        getattr(self, method_name)(self, **cb_kwargs)
        stop = False
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                # How skorch's own callback ends training; anyone else is the user.
                if not isinstance(callback, EarlyStopping):
                    raise
                stop = True
            except StopTraining:
                stop = True
        if stop:
            raise StopTraining

    # -- one epoch ----------------------------------------------------------------

    def on_epoch_begin(self, net, **kwargs):
        super().on_epoch_begin(net, **kwargs)
        self.began_ = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        record = self.history[-1]
        self.history.record("dur", time.perf_counter() - self.began_)
        # What callbacks of skorch look for in an epoch.
        record["batches"] = [{}]
        record.setdefault("valid_loss", math.nan)
        for name in ("train_loss", "valid_loss"):
            best = record[name] < self.lowest_.get(name, math.inf)
            record[f"{name}_best"] = best
            if best:
                self.lowest_[name] = record[name]
        # The last step may have spoiled what no batch has seen since.
        weights = float(sum(p.detach().sum() for p in self.module_.parameters()))
        if not math.isfinite(record["train_loss"] + weights) or math.isinf(
            record["valid_loss"]
        ):
            raise DivergedError
        self.kept_ = self.snapshot(), len(self.history_)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self._set_training(training)
        heard = self._listeners(training)
        if training:
            n_rows = iterator.rows.shape[0]
            self.n_rows_ = n_rows + self.n_rows_ * self.streams_
        losses = []
        for i, batch in enumerate(iterator, 1):
            if heard:
                self.notify("on_batch_begin", batch=(batch, None), training=training)
            if training:
                loss = self._step(batch, heard)
                if i % _MAINTENANCE == 0 or i == len(iterator):
                    self._maintain(batch)
            else:
                with torch.no_grad():
                    loss = self.module_(batch)
            losses.append(loss.detach())
            if heard:
                self.notify(
                    "on_batch_end",
                    batch=(batch, None),
                    training=training,
                    loss=loss.detach(),
                    y_pred=loss.detach(),
                )
        if training:
            self.generator_state_ = iterator.generator.get_state()
        self.history.record(f"{prefix}_loss", iterator.mean(losses))
        self.history.record(f"{prefix}_batch_count", len(iterator))

    def _maintain(self, batch):
        """Mend the module and lower the rate, between two steps."""
        try:
            self.module_.maintain(batch, self.n_rows_)
        except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:
            raise DivergedError from error
        self._lower_rate()

    def _step(self, batch, heard):
        """Take one step of the optimiser; return the loss before it."""
        optimizer = self.optimizer_

        def closure():
            optimizer.zero_grad()
            try:
                loss = self.module_(batch)
            except torch.linalg.LinAlgError as error:
                raise DivergedError from error
            loss.backward()
            if heard:
                self.notify(
                    "on_grad_computed",
                    named_parameters=list(self.get_all_learnable_params()),
                    batch=(batch, None),
                    training=True,
                )
            return loss

        self.n_steps_ += 1
        if self.needs_closure_:
            return optimizer.step(closure)
        loss = closure()
        optimizer.step()
        return loss

    def _listeners(self, training):
        """Tell whether any callback of the user listens to batches."""
        methods = ["on_batch_begin", "on_batch_end"]
        if training:
            methods.append("on_grad_computed")
        return any(
            getattr(type(callback), method) is not getattr(Callback, method)
            for _, callback in self.callbacks_
            for method in methods
        )

    def n_parameters(self):
        """Return how many numbers the optimiser moves."""
        return sum(p.numel() for _, p in self.get_all_learnable_params())

    def set_rate(self, rate, half_life=None, n_steps=None):
        """Set the learning rate of the steps to come.

        Parameters
        ----------
        rate : float
            That of the first step of the net, or of the next for a cosine.
        half_life : float, default=None
            The rate falls with the root of one plus the steps over a third of this
            number, after which it is a half. None keeps it.
        n_steps : int, default=None
            The rate falls along half a cosine over so many steps to come. None
            keeps it.
        """
        self.rate_, self.half_life_ = rate, half_life
        self.cosine_ = None if n_steps is None else (self.n_steps_, n_steps)
        self.due_ = rate
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        self._lower_rate()

    def _lower_rate(self):
        """Set the rate that is due after so many steps."""
        rate = self.rate_
        if self.half_life_:
            rate /= math.sqrt(1 + 3 * self.n_steps_ / self.half_life_)
        if self.cosine_:
            first, n_steps = self.cosine_
            share = min(1.0, (self.n_steps_ - first) / n_steps)
            # Not to zero: whoever multiplies rates could not raise it again.
            rate *= max(0.5 + 0.5 * math.cos(math.pi * share), _LEAST_SHARE)
        for group in self.optimizer_.param_groups:
            group["lr"] *= rate / self.due_
        self.due_ = rate

    # -- the model of a whole epoch ------------------------------------------------

    def snapshot(self):
        """Return a copy of the weights."""
        return {
            name: value.detach().clone()
            for name, value in self.module_.state_dict().items()
        }

    def restore(self, snapshot):
        """Put the weights of a snapshot back."""
        self.module_.load_state_dict(snapshot)

    def full_state(self):
        """Return all that training changes, to put it back after a failure."""
        return (
            self.snapshot(),
            copy.deepcopy(self.optimizer_.state_dict()),
            self.generator_state_,
            self.n_steps_,
            self.n_rows_,
            list(self.history_),
        )

    def restore_full_state(self, state):
        """Put back what `full_state` returned."""
        weights, optimizer, self.generator_state_, self.n_steps_, self.n_rows_, past = (
            state
        )
        self.restore(weights)
        self.optimizer_.load_state_dict(copy.deepcopy(optimizer))
        self.history_[:] = past

    def back_to_last_epoch(self):
        """Go back to the end of the last whole epoch, and tell whether there is one."""
        if self.kept_ is None:
            return False
        weights, n_epochs = self.kept_
        self.restore(weights)
        # Moments of the gradients that led astray would lead there again.
        self.optimizer_.state.clear()
        del self.history_[n_epochs:]
        return True
