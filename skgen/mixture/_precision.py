"""What arithmetic of so many digits allows EM."""

from dataclasses import dataclass

# What matrix products may lose of log-densities, as a multiple of the rounding of
# float64, where nothing allows more.
LEAST_LOSS = 1e4


@dataclass(frozen=True)
class Precision:
    """The limits of EM in one arithmetic."""

    # A mean so many standard deviations (squared) of its component from a point
    # leaves too few digits of moments about it.
    far: float
    # What products may lose, as a multiple of rounding, where float64 may lose
    # `LEAST_LOSS`, and the power of what it may lose more.
    least: float
    growth: float
    # A fall of the likelihood by this share of it is rounding.
    rounding: float
    # Rows beyond it leave the range of numbers once they are squared.
    range: float

    def allowed(self, loss):
        """Return what products may lose where float64 may lose so much."""
        return self.least * (loss / LEAST_LOSS) ** self.growth


DOUBLE = Precision(far=1e6, least=LEAST_LOSS, growth=1, rounding=1e-10, range=1e70)

# Rounding is 6e-8: 6e-5 of a covariance and of a row's log-density at the worst, ten
# times that of the latter while the likelihood rises by 2e-5 or more; of its mean over
# rows 1e-6 or less (docs/development.md).
SINGLE = Precision(far=1e3, least=1e3, growth=1 / 3, rounding=1e-6, range=1e6)
