"""Sliced distances of codes to a mixture with a component for each class."""

import numpy as np
import torch
from scipy.linalg import helmert

from skgen.autoencoder._labelled_module import LabelledModule
from skgen.autoencoder._sliced_wasserstein import (
    directions,
    sliced_distance,
    sliced_distance_to_normal,
)


def class_means(n_classes, k, separation):
    """Return points (n_classes, k) whose smallest distance is `separation`.

    They are the corners of a regular simplex where `k` dimensions have room for it,
    else points on a line or a circle, or points that repel each other on a sphere.
    """
    if n_classes == 1:
        return np.zeros((1, k))
    if k >= n_classes - 1:
        corners = helmert(n_classes).T  # (n_classes, n_classes - 1)
        points = np.pad(corners, [(0, 0), (0, k - n_classes + 1)])
    elif k == 1:
        points = np.arange(n_classes)[:, None] - (n_classes - 1) / 2
    elif k == 2:
        angles = 2 * np.pi * np.arange(n_classes) / n_classes
        points = np.column_stack([np.cos(angles), np.sin(angles)])
    else:
        points = _repelled(n_classes, k)
    gaps = np.linalg.norm(points[:, None] - points, axis=2)
    return points * (separation / gaps[~np.eye(n_classes, dtype=bool)].min())


def _repelled(n, k):
    """Return n points on the unit sphere in R^k that repel each other: (n, k)."""
    points = np.random.RandomState(0).standard_normal((n, k))
    for step in np.geomspace(0.3, 0.003, 300):
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        apart = points[:, None] - points
        squares = (apart**2).sum(axis=2, keepdims=True) + np.eye(n)[..., None]
        force = (apart / squares**4).sum(axis=1)
        points = points + step * force / np.linalg.norm(force, axis=1).max()
    return points / np.linalg.norm(points, axis=1, keepdims=True)


class SlicedByClass(LabelledModule):
    """Reconstruction loss plus sliced distances of codes to a mixture and its parts.

    The mixture has the component N(means[c], I) for each class c.
    """

    def __init__(self, *networks, means, **parameters):
        super().__init__(*networks, **parameters)
        self.register_buffer("means", torch.as_tensor(means, dtype=torch.float32))

    def log_posterior(self, z):
        """Return log p(c | z): (n, C) of codes (n, k)."""
        squares = (z[:, None] - self.means).square().sum(2)  # (n, C)
        return torch.log_softmax(self.log_priors - 0.5 * squares, dim=1)

    def log_class_probabilities(self, x):
        return self.log_posterior(self.encode(x))

    def forward(self, x):
        n = x.shape[0]
        x, y = self.batch(x)
        x = self.observed.seen(x, self.generator)
        inputs = self.inputs(x)
        z = self.encoder(inputs)  # (m, k)
        a = self.decode(z[:n])
        fit = self.observed.log_density(self.rows(x[:n]), a)  # (n,)
        distance = self._distance(z[:n]) + self._distance_of_classes(z, y)
        loss = self.class_loss(inputs, self.log_posterior(z), y, n)
        return loss + self.swd_weight * z.shape[1] * distance - fit.mean()

    def _directions(self, z):
        k = z.shape[1]
        return directions(self.n_projections, k, z.detach(), self.generator)

    def _distance(self, z):
        """Return the sliced distance of codes (n, k) to draws from the mixture."""
        n = z.shape[0]
        prior = torch.empty_like(z).normal_(generator=self.generator)
        # Systematic sampling: the number of draws of a class varies by one at most.
        u = torch.empty(1, dtype=z.dtype, device=z.device)
        u = (
            u.uniform_(generator=self.generator) + torch.arange(n, device=z.device)
        ) / n
        ends = self.log_priors.exp().cumsum(0)
        classes = torch.searchsorted(ends, u.to(ends.dtype) * ends[-1])
        prior = prior + self.means[classes.clamp(max=ends.numel() - 1)]
        return sliced_distance(z, prior, self._directions(z))

    def _distance_of_classes(self, z, y):
        """Return the mean over labelled codes of the distances to their components."""
        projections, total, n = self._directions(z), z.new_zeros(()), 0
        for c in range(self.means.shape[0]):
            of_class = z[y == c] - self.means[c]
            n_rows = of_class.shape[0]
            if n_rows:
                distance = sliced_distance_to_normal(of_class, projections)
                total, n = total + n_rows * distance, n + n_rows
        return total / max(n, 1)
