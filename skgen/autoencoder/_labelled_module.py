"""Abstract loss of rows of which some are labelled."""

import math
from abc import abstractmethod

import numpy as np
import torch

from skgen.autoencoder._adversarial import unlabelled_loss
from skgen.autoencoder._networks import AutoencoderModule

# Labelled rows of a batch, as a fraction of its rows. Where fewer rows have labels,
# each step draws this number of labelled rows for the terms of the labels.
_LABELLED = 0.25


def log_of(priors):
    """Return finite logarithms of the probabilities of the classes (C,), a tensor."""
    return torch.from_numpy(np.log(np.maximum(priors, 1e-12))).float()


class LabelledModule(AutoencoderModule):
    """Abstract loss of rows (n, d + 1), whose last column is the class code or -1."""

    pool = None  # labelled training rows (m, d + 1), where they are few

    def __init__(self, *networks, priors, **parameters):
        super().__init__(*networks, **parameters)
        self.register_buffer("log_priors", log_of(priors))  # (C,)
        self.register_buffer("share", torch.ones(()))  # of labelled rows in training

    @abstractmethod
    def log_class_probabilities(self, x):
        """Return log q(c | x): (n, C) of rows (n, d)."""

    def given_class(self, c):
        """Return the module given class c, with its encoder and decoder."""
        return self

    def begin(self, rows):
        self.pool = None
        if rows is None:
            return
        labelled = rows[:, -1] >= 0
        self.share.fill_(labelled.float().mean())
        if 0 < self.share < _LABELLED:
            self.pool = rows[labelled]

    def batch(self, x):
        """Return rows (m, d) and class codes (m,) for a step on rows (n, d + 1).

        The first n are the rows of the batch. Further ones, in training only, are
        labelled rows for the terms of the labels.
        """
        if self.training and self.pool is not None:
            n_more = math.ceil(_LABELLED * x.shape[0])
            chosen = torch.empty(n_more, dtype=torch.long, device=x.device)
            chosen.random_(self.pool.shape[0], generator=self.generator)
            x = torch.cat([x, self.pool[chosen]])
        return x[:, :-1], x[:, -1].long()

    def class_loss(self, x, log_q, y, n):
        """Return the terms of the classes, given log q(c | x): (m, C) of rows (m, d).

        x: inputs of the encoder, without NaN; y: (m,), where further rows follow the
        first n.
        """
        loss = self.cross_entropy(log_q, y, n)
        if self.adversarial_radius:
            loss = loss + unlabelled_loss(
                self.log_class_probabilities,
                x[:n],
                log_q[:n],
                self.log_priors,
                self.adversarial_radius,
                self.generator,
            )
        return self.label_weight * loss

    def cross_entropy(self, log_q, y, n):
        """Return the mean of -log q(y | x) over labelled rows, in a batch of n rows.

        log_q: (m, C), y: (m,), where further rows follow the first n.
        """
        losses = -log_q.gather(1, y.clamp(min=0)[:, None])[:, 0]
        known = (y >= 0).to(losses.dtype)
        # Without further rows, the expected number: sums over batches are then the
        # sum over all rows.
        n_labelled = n * self.share if y.numel() == n else known.sum()
        return (losses * known).sum() / n_labelled.clamp(min=1e-9)
