"""Rules of thumb for the bandwidth, as factors of the data's standard deviation."""


def scott_factor(n, d):
    """Return ``n ** (-1 / (d + 4))`` for `n` rows of `d` features (Scott, 1992)."""
    return n ** (-1.0 / (d + 4))


def silverman_factor(n, d):
    """Return ``(n (d + 2) / 4) ** (-1 / (d + 4))`` (Silverman, 1986)."""
    # Minimises the asymptotic mean integrated squared error for normal data.
    return (n * (d + 2) / 4.0) ** (-1.0 / (d + 4))


RULES = {"scott": scott_factor, "silverman": silverman_factor}
