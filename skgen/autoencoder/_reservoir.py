"""Uniform sample of the rows of a stream, of bounded size."""

from dataclasses import dataclass

import numpy as np
import torch

# Maximum number of rows of a sample, and maximum number of its entries. The number of
# rows is at least _LEAST_ROWS.
_MOST_ROWS, _NUMBERS = 2000, 2**20
_LEAST_ROWS = 200


@dataclass(frozen=True)
class Reservoir:
    """Uniform sample without replacement: the rows with the smallest random keys."""

    rows: torch.Tensor  # (n, d)
    keys: np.ndarray  # (n,)


def sample_of(rows, rng, before=None):
    """Return a `Reservoir` of rows (n, d) and of all rows behind `before`."""
    if before is None:
        before = Reservoir(rows[:0].cpu(), np.empty(0))
    keys = np.concatenate([before.keys, rng.uniform(size=rows.shape[0])])
    size = max(_LEAST_ROWS, min(_MOST_ROWS, _NUMBERS // max(1, rows.shape[1])))
    kept = np.sort(np.argsort(keys, kind="stable")[:size])
    n_old = before.keys.size
    new = torch.from_numpy(kept[kept >= n_old] - n_old).to(rows.device)
    old = torch.from_numpy(kept[kept < n_old])
    return Reservoir(torch.cat([before.rows[old], rows[new].cpu()]), keys[kept])
