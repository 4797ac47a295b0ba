"""Loss of a diffusion model, the average of its weights, and the choice of an epoch."""

import copy
import math

import torch
from skorch.callbacks import Callback

from skgen.diffusion._images import ImageVelocity
from skgen.diffusion._ode import solve
from skgen.diffusion._velocity import FIRST, LAST, shares, with_divergence
from skgen.neural._net import LossModule, StopTraining

# Number of times in a batch, and minimum number of noisy rows: small batches have each
# row several times.
_TIMES, _NOISY_ROWS = 32, 512

# Weight of the previous average of the weights in a step, at the end.
_DECAY = 0.999

# Number of held-out rows whose log-density chooses the weights, number of steps of
# their solution, and minimum number of training steps between two choices.
_WATCHED, _SOLUTION_STEPS, _BETWEEN = 500, 4, 400


def field_of(velocity, device, dtype, probes=()):
    """Return a field for `solve`: noisy rows become rows from FIRST to LAST.

    probes: of the divergence of the velocity of images, see `ImageVelocity.field`.
    """
    if isinstance(velocity, ImageVelocity):
        return velocity.field(device, dtype, probes)

    def field(times):
        u = torch.as_tensor(times, dtype=dtype, device=device)
        of_row, of_noise = shares(u)
        speeds = (of_row * of_noise).tolist()  # dx/du = speed * velocity
        changes = velocity.changes(u)

        def at(i):
            here = [(factors[i, 0], shifts[i, 0]) for factors, shifts in changes]
            layers = velocity.at(here)

            def slope(x):
                v, divergence = with_divergence(x, layers)
                return v.mul_(speeds[i]), divergence.mul_(speeds[i])

            return slope

        return (at(i) for i in range(len(speeds)))

    return field


def normal_log_density(z):
    """Return the standard normal log-density (n,) of z (n, d)."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


def density_and_noise(velocity, z, n_steps, probes=()):
    """Return the log-density of coordinates z (n, d) and their noise: (n, 1 + d).

    Images have a log-density for each probe.
    """
    field = field_of(velocity, z.device, z.dtype, probes)
    noise, change = solve(field, z, n_steps, LAST, FIRST)
    change = change.movedim(0, -1)  # (n,), or (p, n) of images
    log_p = normal_log_density(noise) + change
    return torch.column_stack([log_p.movedim(-1, 0), noise])


def noisy_loss(velocity, x, e, u, generator=None):
    """Return the loss minus the loss of a velocity of zero, a scalar.

    x, e: rows and noise (t, n, d) at times u (t,), which are uniform.
    """
    # In expectation, it is the integral over u of sin^2 (|v - f|^2 - |v|^2), where f is
    # the estimate of v: the variational bound of -log p(x), minus the bound for f = 0
    # (Kingma et al., 2021).
    of_row, of_noise = (share[:, None, None] for share in shares(u))
    v = x * of_noise - e * of_row
    f = velocity(x * of_row + e * of_noise, u, generator)
    losses = (f * (f - 2 * v)).sum(-1)  # (t, n)
    return (LAST - FIRST) * (of_row[:, :, 0].square() * losses).mean()


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
        x, log_det = rows[:, :-1], rows[:, -1]
        n, d = x.shape
        generator = self.generator
        velocity = self.velocity if self.training else self.average
        if self.training:
            self._update_average()
        else:
            generator = torch.Generator(x.device).manual_seed(0)
        if isinstance(velocity, ImageVelocity):
            return velocity.loss(x, generator)
        n_each = -(-max(n, _NOISY_ROWS) // _TIMES)
        which = torch.arange(_TIMES * n_each, device=x.device) % n
        noise = {"generator": generator, "dtype": x.dtype, "device": x.device}
        # Stratified times, which lower the variance of the loss.
        u = torch.arange(_TIMES, device=x.device, dtype=x.dtype)
        u = FIRST + (LAST - FIRST) * (u + torch.rand((), **noise)) / _TIMES
        e = torch.randn((_TIMES, n_each, d), **noise)
        many = x[which].view(_TIMES, n_each, d)
        loss = noisy_loss(velocity, many, e, u, generator)
        return loss - (normal_log_density(x) + log_det).mean()

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
        if isinstance(net.module_.average, ImageVelocity):
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
