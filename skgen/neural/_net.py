"""A skorch net that trains on rows in memory and synchronises once an epoch."""

import copy
import inspect
import math
import time
from contextlib import nullcontext

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from skgen.neural._batches import Batches

# Attributes of a net that a file keeps, besides its module, optimiser and history.
_KEPT = (
    *("generator_state_", "n_steps_", "n_rows_", "lowest_", "streams_", "stopped_"),
    *("rate_", "half_life_", "cosine_", "due_", "batch_size", "lr", "max_epochs"),
)

# Steps between two calls of `LossModule.maintain` within an epoch.
_MAINTENANCE = 200

# Final learning rate of a cosine schedule, relative to the first.
_LEAST_SHARE = 1e-3


class LossModule(torch.nn.Module):
    """A module whose `forward` maps rows (n, d) to their mean loss, a scalar.

    Abstract: a model fills in `forward`.
    """

    # Source of noise in training: one for each net, so that threads do not share it.
    generator = None

    # Whether rows have NaN, which stands for values that were not observed.
    incomplete = False

    def begin(self, rows):
        """Prepare for training on rows (n, d) or a `Stream`; None ends it."""

    def maintain(self, rows, n_rows):
        """Adjust the module between two steps, after a batch `rows` of `n_rows`."""


class StopTraining(Exception):  # noqa: N818 (no error)
    """Raised by a callback to make the epoch that just ended the last one."""


class DivergedError(Exception):
    """Raised where the loss or the weights of an epoch are not finite."""


class Net(NeuralNet):
    """A skorch net that trains a `LossModule` on rows in memory, or on a `Stream`."""

    # Differences from NeuralNet:
    # - Batches are slices of a tensor.
    # - Losses are summed on the device and read once an epoch.
    # - The history holds no batches, and only callbacks that handle batches are called.
    # - KeyboardInterrupt reaches the caller.
    # - After a failure, the weights of the last complete epoch can be restored.

    def get_default_callbacks(self):
        return []

    def check_data(self, X, y=None):
        pass

    def prepare(self, generator):
        """Set the state of training that `initialize` does not set."""
        self.generator_state_ = generator.get_state()
        self.n_steps_ = 0
        self.kept_ = self.held_out_ = self.noise_ = None
        self.n_rows_ = 0
        self.lowest_ = {}
        parameters = inspect.signature(self.optimizer.step).parameters
        closure = parameters.get("closure")
        self.needs_closure_ = (
            closure is not None and closure.default is inspect.Parameter.empty
        )
        of_torch = type(self.optimizer_).__module__.startswith("torch.")
        self.optimizer_draws_ = not of_torch

    def __getstate__(self):
        # `module` is `module_`, which skorch loads on any device.
        gone = dict.fromkeys(("module", "held_out_", "noise_"))
        return {**super().__getstate__(), **gone}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.module = getattr(self.module_, "_orig_mod", self.module_)

    # -- one call of fit ---------------------------------------------------------

    def train(self, rows, held_out, epochs, noise=None):
        """Train on `rows` (n, d) for at most `epochs`, watching rows `held_out`.

        In the context `noise`, networks, callbacks and optimisers of the user draw.
        """
        self.held_out_ = held_out
        self.noise_, self.module_draws_ = noise, True
        try:
            self.notify("on_train_begin", X=rows, y=None)
            self.stopped_ = False
            try:
                self.fit_loop((rows, held_out), epochs=epochs)
            except StopTraining:
                self.stopped_ = True
            self.notify("on_train_end", X=rows, y=None)
        finally:
            self.held_out_ = self.noise_ = None

    def mean_loss(self, rows):
        """Return the mean loss of rows (n, d) under the current weights."""
        self._set_training(False)
        batches = self.get_iterator(rows)
        with torch.no_grad():
            return batches.mean([self._loss(batch) for batch in batches])

    def _loss(self, batch):
        """Return the mean loss of a batch (b, d)."""
        if self.noise_ is None or not self.module_draws_:
            return self.module_(batch)
        before = self.noise_.n_drawn
        with self.noise_:
            loss = self.module_(batch)
        if self.module_.training:
            # The context costs time in every operation. The first step shows whether
            # the networks need it.
            self.module_draws_ = self.noise_.n_drawn > before
        return loss

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
            drawing = getattr(callback, "draws", True) and self.noise_
            try:
                with drawing or nullcontext():
                    getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                # EarlyStopping of skorch raises it to end training. From any other
                # callback it is Ctrl-C.
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
        # Entries that callbacks of skorch expect in an epoch.
        record["batches"] = [{}]
        record.setdefault("valid_loss", math.nan)
        for name in ("train_loss", "valid_loss"):
            best = record[name] < self.lowest_.get(name, math.inf)
            record[f"{name}_best"] = best
            if best:
                self.lowest_[name] = record[name]
        # The last step may have made weights NaN that no batch has used since.
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
            try:
                with torch.set_grad_enabled(training):
                    loss = self._step(batch, heard) if training else self._loss(batch)
                if training and (i % _MAINTENANCE == 0 or i == len(iterator)):
                    self.module_.maintain(batch, self.n_rows_)
                    self._lower_rate()
            except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:
                raise DivergedError from error
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

    def _step(self, batch, heard):
        """Take one optimiser step; return the loss before the step."""
        optimizer = self.optimizer_

        def closure():
            optimizer.zero_grad()
            loss = self._loss(batch)
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
        drawing = (self.optimizer_draws_ and self.noise_) or nullcontext()
        if self.needs_closure_:
            with drawing:
                return optimizer.step(closure)
        loss = closure()
        with drawing:
            optimizer.step()
        return loss

    def _listeners(self, training):
        """Return whether any callback handles batches."""
        methods = ["on_batch_begin", "on_batch_end"]
        if training:
            methods.append("on_grad_computed")
        return any(
            getattr(type(callback), method) is not getattr(Callback, method)
            for _, callback in self.callbacks_
            for method in methods
        )

    def n_parameters(self):
        """Return the number of trainable parameters."""
        return sum(p.numel() for _, p in self.get_all_learnable_params())

    def set_rate(self, rate, half_life=None, n_steps=None):
        """Set the learning rate: constant, or falling from `rate`.

        After `half_life` steps it has halved, as ``1 / sqrt(1 + 3 steps / half_life)``;
        over the next `n_steps` steps it falls along half a cosine.
        """
        self.rate_, self.half_life_ = rate, half_life
        self.cosine_ = None if n_steps is None else (self.n_steps_, n_steps)
        self.due_ = rate
        for group in self.optimizer_.param_groups:
            group["lr"] = rate
        self._lower_rate()

    def _lower_rate(self):
        """Set the learning rate of the current step."""
        rate = self.rate_
        if self.half_life_:
            rate /= math.sqrt(1 + 3 * self.n_steps_ / self.half_life_)
        if self.cosine_:
            first, n_steps = self.cosine_
            share = min(1.0, (self.n_steps_ - first) / n_steps)
            # A rate of zero could not be raised again by a factor.
            rate *= max(0.5 + 0.5 * math.cos(math.pi * share), _LEAST_SHARE)
        for group in self.optimizer_.param_groups:
            group["lr"] *= rate / self.due_
        self.due_ = rate

    # -- the model of a whole epoch ------------------------------------------------

    def snapshot(self):
        """Return a copy of the weights, a dict."""
        return {
            name: value.detach().clone()
            for name, value in self.module_.state_dict().items()
        }

    def state(self):
        """Return a copy of what training changes besides the weights, a dict."""
        return {
            "optimizer": copy.deepcopy(self.optimizer_.state_dict()),
            "history": list(self.history_),
            **{name: copy.copy(getattr(self, name)) for name in _KEPT},
        }

    def restore(self, snapshot, state=None):
        """Restore the weights of a snapshot, and the state of training."""
        self.module_.load_state_dict(snapshot)
        if state is not None:
            self.restore_state(state)

    def restore_state(self, state):
        """Restore the state of training, which may be of a file."""
        self.optimizer_.load_state_dict(state["optimizer"])
        self.history_[:] = [{"batches": [{}], **epoch} for epoch in state["history"]]
        for name in _KEPT:
            setattr(self, name, state[name])

    def kept(self):
        """Return what a file keeps of the net, a dict."""
        module = getattr(self.module_, "_orig_mod", self.module_)
        history = [
            {name: value for name, value in epoch.items() if name != "batches"}
            for epoch in self.history_
        ]
        return {**self.state(), "module": module, "history": history}

    def back_to_last_epoch(self):
        """Restore the weights of the last complete epoch; return False without one."""
        if self.kept_ is None:
            return False
        weights, n_epochs = self.kept_
        self.restore(weights)
        # The moments hold the gradients that made training diverge.
        self.optimizer_.state.clear()
        del self.history_[n_epochs:]
        return True
