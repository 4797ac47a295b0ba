"""Differential equations on grids of times, which are finer for rows that need it."""

import numpy as np
import torch
from scipy.integrate import DOP853

# The Runge-Kutta method of order 8 of Dormand and Prince.
_A, _B, _C = DOP853.A, DOP853.B, DOP853.C
_N_STAGES = _C.size

# Largest error of a solution, as a fraction of its difference from the solution of half
# the number of steps. For short steps it is 1/255.
_REMAINING = 1 / 8


def solve(field, x, n_steps, start, end):
    """Return the solution (n, d) at `end` of dx/du = f(u, x) that starts at x (n, d).

    `field` maps times (m,) to m functions of x (n, d), which return f (n, d) and its
    divergence (n, ...). The second answer is the integral of the divergence.
    """
    step = (end - start) / n_steps
    times = start + step * (np.arange(n_steps)[:, None] + _C)  # (n_steps, stages)
    functions = iter(field(times.ravel()))
    before, after = (
        torch.tensor(step * part, dtype=x.dtype, device=x.device) for part in (_A, _B)
    )
    total = 0.0
    slopes = x.new_empty((_N_STAGES, x.numel()))
    for _ in range(n_steps):
        divergences = []
        for i in range(_N_STAGES):
            moved = x + (before[i, :i] @ slopes[:i]).view(x.shape) if i else x
            slope, divergence = next(functions)(moved)
            slopes[i] = slope.reshape(-1)
            divergences.append(divergence.reshape(-1))
        x = x + (after @ slopes).view(x.shape)
        total = total + (after @ torch.stack(divergences)).view_as(divergence)
    return x, total


def refined(solution, X, rtol, n_steps, most_steps):
    """Return answers (n, m) for rows X (n, d), and their errors (n,).

    `solution` maps rows and a number of steps, which doubles until errors meet `rtol`.
    """
    # A solution is compared with the solution of half the number of steps. The error is
    # estimated from the largest difference of an answer of the row, relative to answers
    # above 1.
    coarse = solution(X, n_steps)
    answers, errors = coarse, np.full(X.shape[0], np.inf)
    rows = np.arange(X.shape[0])
    while rows.size and 2 * n_steps <= most_steps:
        n_steps *= 2
        fine = solution(X[rows], n_steps)
        error = (np.abs(fine - coarse) / np.maximum(1.0, np.abs(fine))).max(axis=1)
        error *= _REMAINING
        answers[rows], errors[rows] = fine, error
        left = ~(error <= rtol)
        rows, coarse = rows[left], fine[left]
    return answers, errors
