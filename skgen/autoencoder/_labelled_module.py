"""Losses of rows of which some are labelled, and the labels as users give them."""

import math
import numbers
from abc import abstractmethod

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from skgen._bayes import checked_labels
from skgen._checks import Described, invalid_argument, refuse_masked
from skgen.autoencoder._adversarial import unlabelled_loss
from skgen.autoencoder._networks import AutoencoderModule

UNLABELLED = -1

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

        y: (m,), where further rows follow the first n.
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


def _is_missing(label):
    """Return whether a label is missing: None, NaN or the NA of pandas."""
    if label is None or type(label).__name__ == "NAType":
        return True
    return isinstance(label, numbers.Real) and bool(label != label)


def split_labels(model, X, y, method):
    """Return the labels (m,) of labelled rows, and whether each row is labelled."""
    if y is None:
        return np.empty(0), None
    if not isinstance(X, np.ndarray):
        rule = "None where X is out of core"
        raise invalid_argument(model, method, "y", rule, Described("labels"))
    refuse_masked(f"The 'y' argument of {type(model).__name__}.{method}", y)
    if isinstance(y, (list, tuple)):  # whose numbers would become strings
        y = np.array(y, dtype=object)
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    n_missing = sum(map(_is_missing, y)) if y.dtype.kind in "Of" else 0
    if n_missing:
        rule = "without missing values; -1 marks a row without a label"
        got = Described(f"None or NaN in {n_missing} of {y.size} rows")
        raise invalid_argument(model, method, "y", rule, got)
    if y.dtype.kind in "US" and (y == "-1").any():
        rule = (
            "an object array where strings are classes, with the integer -1 for "
            "rows without a label"
        )
        raise invalid_argument(model, method, "y", rule, Described("the text '-1'"))
    if y.dtype.kind == "O":
        known = [not (isinstance(v, numbers.Number) and v == -1) for v in y]
        labelled = np.array(known, dtype=bool)
    elif y.dtype.kind in "iuf":
        labelled = y != UNLABELLED
    else:
        labelled = np.ones(y.size, dtype=bool)
    labels = y[labelled]
    if labels.dtype.kind == "O":
        is_text = {isinstance(label, str) for label in labels.tolist()}
        if len(is_text) == 2:
            rule = "of strings only, but for -1, or of numbers only"
            raise invalid_argument(model, method, "y", rule, Described("both"))
        labels = np.array(labels.tolist())
    if not labels.size:
        return np.empty(0), labelled
    labels = checked_labels(model, labels, labels)
    if labels.size < y.size and labels.dtype.kind in "iuf" and (labels == 1).all():
        rule = (
            "of at least two classes besides -1, which marks rows without a label; "
            "if -1 is a class, recode it, for example as 0"
        )
        got = Described("no values but -1 and 1")
        raise invalid_argument(model, method, "y", rule, got)
    return labels, labelled
