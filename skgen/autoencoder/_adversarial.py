"""Terms of a loss that carry the classes of labelled rows over to other rows."""

import torch

# Weight of the divergence between the mean class probabilities of a batch and the
# priors. Without it, a few classes take the rows of the others in the first steps.
_BALANCE = 3.0

# Length of the step that probes the curvature, as a fraction of the perturbation's.
_PROBE = 0.05


def divergences(log_p, log_q):
    """Return KL(p || q) (n,) of class probabilities, given as logarithms (n, C)."""
    return (log_p.exp() * (log_p - log_q)).sum(1)


def worst_direction(log_probabilities, x, log_q, probe, generator=None):
    """Return unit vectors (n, d) along which class probabilities change fastest.

    log_probabilities: maps rows (n, d) to log q(c | x): (n, C), which is `log_q` at x.
    """
    # One step of the power iteration for the largest eigenvector of the Hessian of
    # KL(q(c | x) || q(c | x + r)) at r = 0, from a random start of length `probe`
    # (Miyato et al., 2018, algorithm 1).
    r = torch.empty_like(x).normal_(generator=generator)  # (n, d)
    with torch.enable_grad():
        r = (probe * _unit(r)).requires_grad_()
        change = divergences(log_q, log_probabilities(x + r)).sum()
        (slope,) = torch.autograd.grad(change, r)
    return _unit(slope)


def unlabelled_loss(log_probabilities, x, log_q, log_priors, radius, generator=None):
    """Return the loss of class probabilities of rows x (n, d), labelled or not.

    log_probabilities, log_q: as in `worst_direction`; log_priors: (C,).
    """
    # The loss is the mean divergence of the probabilities at a perturbed row from the
    # probabilities at the row, their mean entropy, and the divergence of their mean
    # from the priors. Perturbations have the length `radius` times the root mean
    # squared distance of rows from their mean.
    fixed = log_q.detach()
    length = radius * x.var(dim=0, correction=0).sum().sqrt()
    r = worst_direction(log_probabilities, x, fixed, _PROBE * length, generator)
    q = log_q.exp()
    smoothness = divergences(fixed, log_probabilities(x + length * r)).mean()
    entropy = -(q * log_q).sum(1).mean()
    mean = q.mean(0)  # (C,)
    balance = (mean * (mean.clamp(min=1e-12).log() - log_priors)).sum()
    return smoothness + entropy + _BALANCE * balance


def _unit(r):
    """Return r (n, d) with rows of length 1; rows of 0 stay."""
    # Gradients of certain classes are tiny: their squares would be 0 in float32.
    largest = r.abs().amax(dim=1, keepdim=True)
    r = r / torch.where(largest > 0, largest, 1.0)
    return r / r.norm(dim=1, keepdim=True).clamp(min=1.0)
