"""A sample of the rows of a stream, of bounded size."""

from dataclasses import dataclass

import numpy as np

# Rows of a sample, and numbers in all of them, at most.
_MOST_ROWS, _NUMBERS = 2000, 2**20
_LEAST_ROWS = 200


@dataclass(frozen=True)
class Reservoir:
    """A uniform sample, without replacement, of all rows that it is of.

    Each row gets a number at random, and those of the least numbers are kept.
    """

    rows: object  # tensor of shape (n, d)
    keys: np.ndarray  # (n,) their numbers


def sample_of(rows, rng, before=None):
    """Return a sample of rows (n, d), and of those that an earlier one is of."""
    import torch

    if before is None:
        before = Reservoir(rows[:0].cpu(), np.empty(0))
    keys = np.concatenate([before.keys, rng.uniform(size=rows.shape[0])])
    size = max(_LEAST_ROWS, min(_MOST_ROWS, _NUMBERS // max(1, rows.shape[1])))
    kept = np.sort(np.argsort(keys, kind="stable")[:size])
    n_old = before.keys.size
    new = torch.from_numpy(kept[kept >= n_old] - n_old).to(rows.device)
    old = torch.from_numpy(kept[kept < n_old])
    return Reservoir(torch.cat([before.rows[old], rows[new].cpu()]), keys[kept])
