"""Numerical limits of EM in float64 and float32."""

from dataclasses import dataclass

# Default rounding error allowed for log-densities by matrix products, as a multiple of
# the machine epsilon of float64.
LEAST_LOSS = 1e4


@dataclass(frozen=True)
class Precision:
    """The limits of EM for one floating-point type."""

    # Maximum squared distance of a mean from the origin of its moments, in variances of
    # the component. Farther means leave too few digits after cancellation.
    far: float
    # Allowed rounding error of products, as a multiple of machine epsilon, if float64
    # allows `LEAST_LOSS`; and its growth as a power of the error allowed to float64.
    least: float
    growth: float
    # A relative decrease of the likelihood below this is rounding.
    rounding: float
    # Maximum magnitude of the rows. Squares of larger numbers overflow.
    range: float

    def allowed(self, loss):
        """Return the allowed rounding error if float64 allows `loss`."""
        return self.least * (loss / LEAST_LOSS) ** self.growth


DOUBLE = Precision(far=1e6, least=LEAST_LOSS, growth=1, rounding=1e-10, range=1e70)

# The rounding unit is 6e-8. Errors are at most 6e-5 of a covariance, 6e-5 of the
# log-density of a row (6e-4 while the likelihood increases by 2e-5 or more), and 1e-6
# of the mean log-density (docs/development.md).
SINGLE = Precision(far=1e3, least=1e3, growth=1 / 3, rounding=1e-6, range=1e6)
