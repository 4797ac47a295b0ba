"""Reading a delimited text file into numeric columns, or one line that says why not."""

import csv
import gzip
import re
import warnings
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

# Share of the entries of a column that must be numbers for text in it to be an
# error; below it the column is not numeric, and is left out.
_NUMERIC_SHARE = 0.5

_DELIMITERS = ",;\t|"

# What reading raises for files that are damaged, or no tables.
_UNREADABLE = (csv.Error, OSError, EOFError, zlib.error)

# Fewer rows leave nothing to hold out.
LEAST_ROWS = 4


class TableError(ValueError):
    """The table cannot be used; the message says why in one line."""


def count(number, thing):
    """Return a number with what it counts: 1 row, 2 rows."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def read_frame(path):
    """Return the file as a dataframe, and notes on how it was read."""
    try:
        import pandas as pd
    except ImportError:
        raise TableError(
            'reading a table needs pandas: pip install "skgen[cli]"'
        ) from None
    if Path(path).is_dir():
        raise TableError(f"{path} is a folder, not a table.")
    if not Path(path).is_file():
        raise TableError(f"there is no file {path}")
    try:
        delimiter, names, values = _first_lines(path)
        has_header = not names or not all(map(_is_number, names))
        _check_width(path, names, values)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=delimiter,
                decimal=_decimal_mark(delimiter, values),
                header=0 if has_header else None,
                index_col=False,
                encoding="utf-8-sig",
                compression="gzip" if _is_gzip(path) else None,
                low_memory=False,
            )
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty.") from None
    except UnicodeDecodeError:
        raise TableError(
            f"{path} is not text in UTF-8: save it as a UTF-8 table."
        ) from None
    except (*_UNREADABLE, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path} cannot be read as a table: {reason}") from None
    if not has_header:
        frame.columns = [f"column{j}" for j in range(frame.shape[1])]
        return frame, ["no header: the first line holds numbers, and is a row"]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        return frame, [f"columns of the same name are numbered: {', '.join(doubles)}"]
    return frame, []


def _is_gzip(path):
    return Path(path).suffix.lower() == ".gz"


def _first_lines(path):
    """Return the delimiter of a table, its names and its first row, as text."""
    opener = gzip.open if _is_gzip(path) else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
        delimiter = _delimiter(first)
        file.seek(0)
        filled = (row for row in csv.reader(file, delimiter=delimiter) if any(row))
        names, values = [*islice(filled, 2), [], []][:2]
    if names:
        names[0] = names[0].removeprefix("\ufeff")
    return delimiter, names, values


def _decimal_mark(delimiter, values):
    """Return the comma where fields beside semicolons are written with it."""
    comma = any(re.fullmatch(r"\s*[-+]?\d+,\d+\s*", value) for value in values)
    return "," if delimiter == ";" and comma else "."


def _check_width(path, names, values):
    """Raise where the first row has more fields than the header has names."""
    if any(value.strip() for value in values[len(names) :]):
        raise TableError(
            f"the first row of {path} has {count(len(values), 'field')}, and its "
            f"header {count(len(names), 'name')}."
        )


def _delimiter(line):
    """Return the delimiter that a header line has most of; a comma without any."""
    return max(_DELIMITERS, key=lambda mark: (line.count(mark), mark == ","))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def numeric_columns(frame, path):
    """Keep the numeric columns; say which are left out, and why."""
    import pandas as pd

    if frame.shape[0] == 0:
        raise TableError(f"{path} has no rows.")
    kept, left_out = {}, []
    for name in frame.columns:
        column = frame[name]
        if column.dropna().isin([True, False]).all() and not (
            pd.api.types.is_numeric_dtype(column)
            and not pd.api.types.is_bool_dtype(column)
        ):
            left_out.append(f"{name} (true or false)")
            continue
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
        text = column.notna() & numbers.isna()
        if column.isna().all():
            left_out.append(f"{name} (empty)")
        elif text.any() and numbers.notna().sum() >= _NUMERIC_SHARE * text.size:
            row = int(np.flatnonzero(text)[0])
            raise TableError(
                f"the column {name!r} of {path} holds text among its numbers: "
                f"{column.iloc[row]!r} in row {row + 1} below the header."
            )
        elif text.any():
            example = str(column[text].iloc[0])[:20]
            left_out.append(f"{name} (text: {example!r})")
        elif np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            raise TableError(
                f"the column {name!r} of {path} holds an infinity, in row {row + 1} "
                "below the header."
            )
        elif _counts_rows(numbers.to_numpy()):
            left_out.append(f"{name} (numbers the rows)")
        else:
            kept[name] = numbers
    return pd.DataFrame(kept, index=frame.index), left_out


def _counts_rows(values):
    """Tell whether a column is 0, 1, 2, ... or 1, 2, 3, ...: an index, not data."""
    return values.size > 2 and (
        values[0] in (0.0, 1.0) and bool((np.diff(values) == 1).all())
    )


def complete_rows(frame, notes, path):
    """Drop rows with blanks in a numeric column, and say so."""
    complete = frame.notna().all(axis=1)
    n_dropped = int((~complete).sum())
    if n_dropped:
        most = frame.isna().sum().idxmax()
        blanks = f"{count(n_dropped, 'row')} with blanks, most of them in {most}"
        notes = [*notes, f"left out: {blanks}"]
    frame = frame[complete]
    if frame.shape[0] < LEAST_ROWS:
        raise TableError(
            f"{path} must have at least {LEAST_ROWS} rows without blanks, to hold "
            f"some out. It has {count(frame.shape[0], 'row')}."
            + (f" Left out: {blanks}." if n_dropped else "")
        )
    return frame, notes
