"""How near drawn digits are to real ones: a small classifier, and a Frechet distance.

The moments of two sets of pictures are compared in the features of a classifier of
the digits (Heusel et al., 2017). The classifier is small and is
trained here, so the distances compare with each other only, not with published ones.
"""

import math

import numpy as np
import torch
from torch import nn

from skgen import SampleDisplay

_BATCH, _RATE, _EPOCHS = 100, 3e-3, 3

# Pictures on a page, seven by seven.
ON_A_PAGE = 49

# Pictures that are looked at together.
_AT_ONCE = 1000


def train_classifier(X, y, seed=0, epochs=_EPOCHS):
    """Return a convolutional net trained to classify digits.

    Parameters
    ----------
    X : ndarray of shape (n, 784)
        Grey levels in [0, 1].
    y : ndarray of shape (n,)
        The digits.
    seed : int
        Seeds the weights and the order of the rows.
    epochs : int
        How often each row is seen. The rate falls to zero over them, by a cosine.

    Returns
    -------
    torch.nn.Sequential
    """
    X, y = _pictures(X), torch.from_numpy(y.astype(np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 5 * 5, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        steps = epochs * math.ceil(X.shape[0] / _BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for rows in torch.randperm(X.shape[0]).split(_BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()
    return net.eval()


def grey(levels):
    """Return grey levels from 0 to 255 as numbers in [0, 1]."""
    return levels.astype(np.float32) / 255


def accuracy(net, X, y):
    """Return the accuracy of the classifier."""
    return float((_outputs(net, X).argmax(axis=1) == np.asarray(y)).mean())


def features(net, X):
    """Return what the last layer but one makes of pictures: (n, 64)."""
    return _outputs(net[:-1], X)


def frechet_distance(A, B):
    r"""Return the Frechet distance of two normal densities with the sets' moments.

    .. math:: |m_A - m_B|^2 + \mathrm{tr}(S_A + S_B - 2 (S_A^{1/2} S_B S_A^{1/2})^{1/2})

    Parameters
    ----------
    A, B : ndarray of shape (n, k) and (m, k)
        Features.

    Returns
    -------
    float
    """
    difference = A.mean(axis=0) - B.mean(axis=0)
    S_A, S_B = np.cov(A.T), np.cov(B.T)
    values, vectors = np.linalg.eigh(S_A)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ S_B @ root).clip(min=0)
    traces = np.trace(S_A) + np.trace(S_B) - 2 * np.sqrt(shared).sum()
    return max(0.0, float(difference @ difference + traces))


def draw_pages(pages, path):
    """Write one panel of seven by seven pictures for each title, two rows of panels.

    Parameters
    ----------
    pages : dict of str to ndarray of shape (n, height, width)
        Titles, and pictures in [0, 1].
    path : path-like
        The file.
    """
    from matplotlib.figure import Figure

    columns = -(-len(pages) // 2)
    figure = Figure(figsize=(3 * columns, 6.6), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (title, pictures) in zip(panels, pages.items(), strict=False):
        display = SampleDisplay(pictures[:ON_A_PAGE], n_columns=7).plot(
            panel, vmin=0, vmax=1
        )
        display.ax_.set_title(title, fontsize=9)
    figure.savefig(path, dpi=100)


def _outputs(net, X):
    """Return what a net makes of pictures, in float64."""
    with torch.no_grad():
        parts = [net(part) for part in _pictures(X).split(_AT_ONCE)]
    return torch.cat(parts).numpy().astype(np.float64)


def _pictures(X):
    return torch.as_tensor(np.asarray(X, dtype=np.float32)).reshape(-1, 1, 28, 28)
