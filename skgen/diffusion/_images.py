r"""Noisy images and the velocity of their coordinates.

Noise is added to pixels: :math:`y_u = x \sin\theta + e \cos\theta` with :math:`\tan
\theta = e^u`. In the principal direction :math:`j` of the pixels, with the variance
:math:`\lambda_j`, the noisy image has the variance :math:`r_j^2 = \lambda_j \sin^2
\theta + \cos^2 \theta`, and its whitened coordinate is a noisy row at the later time
:math:`u + \log \sqrt{\lambda_j}`,

.. math:: w_j = y_j / r_j = z_j \sin\theta_j + e_j \cos\theta_j,

of the whitened image :math:`z`. So the coordinates keep a unit variance at all times,
and they stand still for normal images: the network of the velocity of :math:`y` only
adds to the velocity of normal images, as Karras et al. (2022) do for a single variance.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from skgen.diffusion._unet import UNet
from skgen.diffusion._velocity import (
    COSINES,
    FIRST,
    LAST,
    TIME_UNITS,
    cosines,
    shares,
)

# Logarithm of the largest standard deviation, which sets the unit of the pixels: the
# first direction is noise at the first time, and pixels have little noise at the last.
_LARGEST = 1.0

# Scale of the logistic distribution of times in training. Most of an image is decided
# in the middle.
_SPREAD = 0.8


# Number of pixels that are solved together.
_BLOCK_PIXELS = 2**16


class ImageVelocity(nn.Module):
    """Velocity of whitened images (n, d') by a U-Net of pixels, zero at the start.

    factor: (d, d'), images are their mean plus factor @ z; its columns are orthogonal.
    """

    is_solved_in_training = False  # it would take longer than training

    def __init__(self, shape, channels, dropout, factor):
        super().__init__()
        self.shape = shape
        self.net = UNet(shape, channels, dropout)
        self.time = nn.Linear(COSINES, TIME_UNITS, dtype=torch.float32)
        n_changes = 2 * sum(self.net.sizes())
        self.change = nn.Linear(TIME_UNITS, n_changes, dtype=torch.float32)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        deviations = np.sqrt((factor**2).sum(axis=0))
        relative = math.exp(_LARGEST) * deviations / deviations.max()
        self.register_buffer("directions", torch.from_numpy((factor / deviations).T))
        self.register_buffer("variances", torch.from_numpy(relative**2))

    @property
    def block(self):
        """Number of images that are solved together."""
        return max(1, _BLOCK_PIXELS // self.directions.shape[1])

    @property
    def work(self):
        """Least number of multiplications for an image: weights, times pixels."""
        _, height, width = self.shape
        pixels = max(1, height * width // 4 ** (1 + len(self.net.down)))
        return pixels * sum(weights.numel() for weights in self.net.parameters())

    def scales(self, u):
        """Return the factors of images, answers and coordinates at times u (t,).

        (t, 1) inverse of the standard deviation of noisy pixels; (t, 1) standard
        deviation of what the network estimates; (t, d') standard deviations of noisy
        images along the directions.
        """
        of_row, of_noise = (part[:, None] for part in shares(u))
        d = self.directions.shape[1]
        squares = of_row**2 * self.variances + of_noise**2  # (t, d')
        pixels = of_row**2 * self.variances.sum() / d + of_noise**2  # (t, 1)
        answers = (self.variances / squares).sum(1, keepdim=True) / d
        return pixels.rsqrt(), answers.sqrt(), squares.sqrt()

    def changes(self, u):
        """Return factors and shifts (t, h, 1, 1) of each block at times u (t,)."""
        changes = self.change(functional.silu(self.time(cosines(u))))
        factors, shifts = changes[:, :, None, None].tensor_split(2, dim=1)
        sizes = self.net.sizes()
        return list(
            zip((1 + factors).split(sizes, 1), shifts.split(sizes, 1), strict=True)
        )

    def images(self, y, changes, generator=None):
        """Return the answers (n, d) of the network for images (n, d)."""
        return self.net(y.view(-1, *self.shape), changes, generator).flatten(1)

    def loss(self, rows, generator):
        """Return the mean squared error of pixels, in units of a velocity of zero.

        rows: (n, d' + 1) coordinates; the last column is not used.
        """
        z = rows[:, :-1]
        noise = {"generator": generator, "dtype": z.dtype, "device": z.device}
        n = z.shape[0]
        shares_of_rows = torch.arange(n, device=z.device, dtype=z.dtype)
        shares_of_rows = (shares_of_rows + torch.rand(n, **noise)) / n  # stratified
        middle = (FIRST + LAST) / 2
        u = (middle + _SPREAD * torch.logit(shares_of_rows)).clamp(FIRST, LAST)
        e = torch.randn(z.shape, **noise)
        of_pixels, of_answers, r = self.scales(u)
        of_row, of_noise = (part[:, None] for part in shares(u))
        x = z * self.variances.sqrt()
        y = of_pixels * (of_row * x + of_noise * e)
        # What remains of the velocity of y, given the velocity of normal images.
        v = (of_noise * z - of_row * self.variances.sqrt() * e) * self.variances.sqrt()
        v = v / (r.square() * of_answers)
        y, v = torch.cat([y, v]).matmul(self.directions).chunk(2)
        return (self.images(y, self.changes(u), generator) - v).square().mean()

    def probes(self, n_probes):
        """Return probes of the divergence: random ones, or all directions, (p, d)."""
        n = self.directions.shape[0]
        if n_probes >= n:
            return self.directions
        probes = torch.from_numpy(orthonormal(n_probes, n, seed=0))
        return probes.to(self.directions) @ self.directions

    def field(self, device, dtype, probes=()):
        """Return a field for `solve`: noisy images become images from FIRST to LAST.

        probes: orthonormal vectors (p, d) in the span of the directions. Each has its
        own estimate of the divergence; all d' directions have the exact mean.
        """
        n_directions = self.directions.shape[0]

        def field(times):
            u = torch.as_tensor(times, dtype=dtype, device=device)
            of_row, of_noise = shares(u)
            of_pixels, of_answers, r = self.scales(u)
            changes = self.changes(u)

            def at(i):
                here = [(factor[i], shift[i]) for factor, shift in changes]
                into = r[i] * of_pixels[i]  # (d',)
                speed = of_row[i] * of_noise[i] * of_answers[i]  # of pixels
                trace = n_directions * float(speed * of_pixels[i])

                def slope(w):
                    y = (w * into) @ self.directions
                    answer, traces = with_traces(
                        lambda y: self.images(y, here), y, probes
                    )
                    v = (answer @ self.directions.T) * (speed / r[i])
                    return v, traces.mul_(trace)

                return slope

            return (at(i) for i in range(u.numel()))

        return field


def with_traces(function, y, probes):
    """Return f(y) (n, d), and q^T J q (n, p) of its Jacobian J for probes q (p, d)."""
    if not len(probes):
        return function(y), y.new_empty((y.shape[0], 0))
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        f = function(y)
        columns = []
        for i, q in enumerate(probes):
            more = i + 1 < len(probes)
            (g,) = torch.autograd.grad(f, y, q.expand_as(f), retain_graph=more)
            columns.append(g @ q)
    return f.detach(), torch.stack(columns, dim=1)


def error_of_mean(values, d):
    """Return standard errors (n,) of the means of values (n, p).

    Values are along p of d orthogonal directions; the mean of all d has no error.
    """
    p = values.shape[1]
    return values.std(axis=1, ddof=1) * math.sqrt(max(0.0, 1 / p - 1 / d))


def orthonormal(n, d, seed):
    """Return n random orthonormal vectors (n, d), which are equal for equal seeds."""
    normal = np.random.RandomState(seed).standard_normal((d, n))
    q, r = np.linalg.qr(normal)
    return (q * np.sign(np.diag(r))).T
