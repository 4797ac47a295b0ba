"""Density of rows given each class under a decoder."""

from functools import cached_property

import torch

from skgen.autoencoder._posterior import Posterior


class ClassPosteriors:
    r"""Densities :math:`p(x | c) = \int p(z | c) p(x | z, c) \, dz` of all classes.

    module: a `LabelledModule` in float64 without gradients; priors: a prior of codes
    for each class, or None; codes: (n, k) of training rows for each class, or None.
    """

    def __init__(self, module, priors, codes):
        self.module, self.priors, self.codes = module, priors, codes

    def __getstate__(self):
        return {name: vars(self)[name] for name in ("module", "priors", "codes")}

    @property
    def prior(self):
        """Return the prior of the first class, or None without priors."""
        return self.priors[0]

    @cached_property
    def of_class(self):
        """Return the `Posterior` given each class, a list."""
        return [
            Posterior(self.module.given_class(c), prior, codes)
            for c, (prior, codes) in enumerate(
                zip(self.priors, self.codes, strict=True)
            )
        ]

    def log_densities(self, rows, n_samples):
        """Return log p(x | c): (n, C) of rows (n, d) in the scaling of the module."""
        log_p = [given.log_density(rows, n_samples) for given in self.of_class]
        return torch.stack(log_p, dim=1)

    def draw_codes(self, classes, rng):
        """Return a code (n, k) for each of the classes (n,)."""
        z = torch.empty(len(classes), self.codes[0].shape[1], dtype=torch.float64)
        for c, prior in enumerate(self.priors):
            rows = torch.from_numpy(classes == c)
            if rows.any():
                z[rows] = prior.draw(int(rows.sum()), rng)
        return z

    def decode(self, z, classes):
        """Return decoder outputs (n, d') of codes (n, k) of classes (n,)."""
        a = torch.empty(z.shape[0], self.module.width, dtype=torch.float64)
        for c, given in enumerate(self.of_class):
            rows = torch.from_numpy(classes == c)
            if rows.any():
                a[rows] = given.module.decode(z[rows])
        return a
