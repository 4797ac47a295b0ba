"""Loss of a diffusion model, the average of its weights, and the choice of an epoch."""

import copy

import torch
from skorch.callbacks import Callback

from skgen.diffusion._ode import solve
from skgen.diffusion._velocity import FIRST, LAST, normal_log_density
from skgen.neural._net import LossModule, StopTraining

# Weight of the previous average of the weights in a step, at the end.
_DECAY = 0.999

# Number of held-out rows whose log-density chooses the weights, number of steps of
# their solution, and minimum number of training steps between two choices.
_WATCHED, _SOLUTION_STEPS, _BETWEEN = 500, 4, 400


def density_and_noise(velocity, z, n_steps, probes=()):
    """Return the log-density of coordinates z (n, d) and their noise: (n, 1 + d).

    Images have a log-density for each probe.
    """
    field = velocity.field(z.device, z.dtype, probes)
    noise, change = solve(field, z, n_steps, LAST, FIRST)
    change = change.movedim(0, -1)  # (n,), or (p, n) of images
    log_p = normal_log_density(noise) + change
    return torch.column_stack([log_p.movedim(-1, 0), noise])


class FlowMatching(LossModule):
    """Bound of the negative mean log-density of rows (n, d + 1).

    The last column is the log-determinant of the coordinates. In training, the
    network has the loss; otherwise the average of its weights, and noise is equal.
    """

    def __init__(self, velocity):
        super().__init__()
        self.velocity = velocity
        self.average = copy.deepcopy(velocity).requires_grad_(False)
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.float32))

    def forward(self, rows):
        if self.training:
            self._update_average()
            return self.velocity.loss(rows, self.generator)
        generator = torch.Generator(rows.device).manual_seed(0)
        return self.average.loss(rows, generator)

    def _update_average(self):
        """Move the average towards the weights before a step."""
        with torch.no_grad():
            self.n_steps += 1
            share = torch.clamp(9 / (9 + self.n_steps), min=1 - _DECAY)
            for mean, weight in zip(
                self.average.parameters(), self.velocity.parameters(), strict=True
            ):
                mean.lerp_(weight, share)


class BestDensity(Callback):
    """Keep the weights with the highest mean log-density of held-out rows.

    Training stops after `patience` epochs without a higher one.
    """

    draws = False  # random numbers

    def __init__(self, patience):
        self.patience = patience

    def __getstate__(self):
        return {**vars(self), "best_": None, "watched_": None}

    def on_train_begin(self, net, X=None, **kwargs):
        self.best_ = self.watched_ = None
        if net.held_out_ is None or net.streams_:
            return
        self.watched_ = net.held_out_[:_WATCHED]
        self.waited_, self.n_steps_ = 0, net.n_steps_
        self.highest_, self.best_ = self._score(net), net.snapshot()

    def _score(self, net):
        """Return the mean log-density of the watched rows, or minus the loss."""
        if not net.module_.average.is_solved_in_training:
            return -net.mean_loss(net.held_out_)
        z, log_det = self.watched_[:, :-1], self.watched_[:, -1]
        with torch.no_grad():
            found = density_and_noise(net.module_.average, z, _SOLUTION_STEPS)[:, 0]
            return float((found + log_det).mean())

    def on_epoch_end(self, net, **kwargs):
        if self.best_ is None:
            return
        self.waited_ += 1
        if net.n_steps_ >= self.n_steps_ + _BETWEEN:
            self._choose(net)
        if self.waited_ >= self.patience:
            raise StopTraining

    def _choose(self, net):
        self.n_steps_, score = net.n_steps_, self._score(net)
        if score > self.highest_:
            self.highest_, self.best_, self.waited_ = score, net.snapshot(), 0

    def on_train_end(self, net, **kwargs):
        if self.best_ is None:
            return
        if net.n_steps_ > self.n_steps_:
            self._choose(net)
        net.restore(self.best_)
        self.best_ = self.watched_ = None
