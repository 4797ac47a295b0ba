"""Rules for the bandwidth of a kernel, as fractions of the data's own spread."""


def scott_factor(n, d):
    """Return Scott's factor ``n ** (-1 / (d + 4))`` (Scott, 1992).

    Parameters
    ----------
    n : float
        The number of rows: the sum of their weights.
    d : int
        The number of features.

    Returns
    -------
    float
        What the standard deviations of the data are multiplied by.
    """
    return n ** (-1.0 / (d + 4))


def silverman_factor(n, d):
    """Return Silverman's factor ``(n (d + 2) / 4) ** (-1 / (d + 4))`` (1986).

    It minimises the asymptotic mean integrated squared error where the data are
    normal. Parameters and result as for `scott_factor`.
    """
    return (n * (d + 2) / 4.0) ** (-1.0 / (d + 4))


RULES = {"scott": scott_factor, "silverman": silverman_factor}
