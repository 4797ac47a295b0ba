"""A sample of the rows of a stream, of bounded size."""

import numpy as np

# Rows of a sample, and numbers in all of them, at most.
_MOST_ROWS, _NUMBERS = 2000, 2**20
_LEAST_ROWS = 200


class Reservoir:
    """A uniform sample, without replacement, of all rows that it was given.

    Each row gets a number at random, and those of the least numbers are kept.

    Parameters
    ----------
    rows : torch.Tensor of shape (n, d)
        The rows that are kept.
    keys : ndarray of shape (n,)
        Their numbers.
    """

    def __init__(self, rows, keys):
        self.rows, self.keys = rows, keys

    def joined(self, rows, rng):
        """Return a sample of these and of more rows."""
        import torch

        keys = np.concatenate([self.keys, rng.uniform(size=rows.shape[0])])
        size = max(_LEAST_ROWS, min(_MOST_ROWS, _NUMBERS // max(1, rows.shape[1])))
        kept = np.sort(np.argsort(keys, kind="stable")[:size])
        n_old = self.keys.size
        new = torch.from_numpy(kept[kept >= n_old] - n_old).to(rows.device)
        old = torch.from_numpy(kept[kept < n_old])
        parts = [self.rows[old], rows[new].cpu()]
        return Reservoir(torch.cat(parts), keys[kept])


def sample_of(rows, rng):
    """Return a sample of rows (n, d)."""
    return Reservoir(rows[:0].cpu(), np.empty(0)).joined(rows, rng)
