"""The columns that a display shows, and their names."""

from skgen._checks import Described, is_integer, wrong_argument

MAX_SHOWN = 4  # columns of a corner plot, unless the caller chooses columns


def column_names(method, estimator, X):
    """Return the column names of a dataframe, or the names seen in `fit`, or None."""
    seen = getattr(estimator, "feature_names_in_", None)
    columns = getattr(X, "columns", None)
    if columns is None:
        return None if seen is None else list(seen)
    columns = list(columns)
    if seen is not None and columns != list(seen):
        rule = f"a dataframe with the columns of fit, {list(seen)}"
        raise wrong_argument(method, "X", rule, Described(columns))
    return columns


def given_names(method, feature_names, n_features):
    """Return the `n_features` names that the caller gives, as a list."""
    rule = f"{n_features} names, one for each feature"
    if isinstance(feature_names, str) or not hasattr(feature_names, "__len__"):
        raise wrong_argument(method, "feature_names", rule, feature_names)
    if len(feature_names) != n_features:
        raise wrong_argument(method, "feature_names", rule, list(feature_names))
    return list(feature_names)


def chosen(method, features, names, n_features):
    """Return the indices of the columns to show, in the order of `features`."""
    if features is None:
        return list(range(min(n_features, MAX_SHOWN)))
    rule = f"a list of different ints from 0 to {n_features - 1}"
    if names is not None:
        rule += f", or of names in {names}"
    if isinstance(features, str) or not hasattr(features, "__len__"):
        raise wrong_argument(method, "features", rule, features)
    indices = []
    for feature in features:
        if is_integer(feature, 0) and feature < n_features:
            indices.append(int(feature))
        elif isinstance(feature, str) and names is not None and feature in names:
            indices.append(names.index(feature))
        else:
            raise wrong_argument(method, "features", rule, list(features))
    if not indices or len(set(indices)) < len(indices):
        raise wrong_argument(method, "features", rule, list(features))
    return indices
