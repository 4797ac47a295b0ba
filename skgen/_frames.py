"""Rows as dataframes, for estimators that were fitted to them and know their names."""


def frame_kind(X):
    """Return the library of a dataframe, "pandas" or "polars"; None for other rows."""
    library = type(X).__module__.split(".")[0]
    return library if library in ("pandas", "polars") else None


def framed(X, names, kind):
    """Return rows under their names; as they are where they have none.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    names : ndarray of str of shape (n_features,) or None
        The names.
    kind : {"pandas", "polars"} or None
        The library. None is pandas, which estimators that know names without a
        dataframe of the user's have them from.

    Returns
    -------
    ndarray or dataframe of shape (n_samples, n_features)
    """
    if names is None:
        return X
    if kind == "polars":
        import polars

        return polars.DataFrame(X, schema=list(names))
    import pandas

    return pandas.DataFrame(X, columns=list(names))
