"""Read a delimited text file into numeric columns, or raise an error of one line."""

import csv
import gzip
import re
import warnings
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

from skgen._lazy import is_installed, lazy_module, missing_package

pandas = lazy_module("pandas", "Reading a table")

# A column in which at least this fraction of the entries are numbers is numeric, and
# text in it is an error. Other columns with text are left out.
_NUMERIC_FRACTION = 0.5

_DELIMITERS = ",;\t|"

# Errors of reading a damaged file, or a file that is not a table.
_UNREADABLE = (csv.Error, OSError, EOFError, zlib.error)

# Minimum number of rows: fewer leave no row to hold out.
LEAST_ROWS = 4


class TableError(ValueError):
    """The command cannot do its work; the message is one line."""


def require(package, what):
    """Raise a TableError unless a package is installed; `what` begins the message."""
    if not is_installed(package):
        raise TableError(str(missing_package(package, what)))


def count(number, thing):
    """Return a number and its noun: "1 row", "2 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def read_frame(path):
    """Return the file as a dataframe, and a list of notes on how it was read."""
    require("pandas", "Reading a table")
    if Path(path).is_dir():
        raise TableError(f"{path} is a folder, not a table.")
    if not Path(path).is_file():
        raise TableError(f"there is no file {path}.")
    try:
        delimiter, names, values = _first_lines(path)
        has_header = not names or not all(map(_is_number, names))
        _check_width(path, names, values)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                path,
                sep=delimiter,
                decimal=_decimal_mark(delimiter, values),
                header=0 if has_header else None,
                index_col=False,
                encoding="utf-8-sig",
                compression="gzip" if _is_gzip(path) else None,
                low_memory=False,
            )
    except pandas.errors.EmptyDataError:
        raise TableError(f"{path} is empty.") from None
    except UnicodeDecodeError:
        raise TableError(
            f"{path} is not text in UTF-8: save it as a UTF-8 table."
        ) from None
    except (
        *_UNREADABLE,
        pandas.errors.ParserError,
        pandas.errors.ParserWarning,
    ) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path} cannot be read as a table: {reason}") from None
    if not has_header:
        frame.columns = [f"column{j}" for j in range(frame.shape[1])]
        return frame, ["no header: the first line holds numbers and is read as a row"]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        return frame, [f"columns with the same name are numbered: {', '.join(doubles)}"]
    return frame, []


def _is_gzip(path):
    return Path(path).suffix.lower() == ".gz"


def _first_lines(path):
    """Return the delimiter, the column names and the first row, all as text."""
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
    """Return "," if fields between semicolons have decimal commas; else "."."""
    comma = any(re.fullmatch(r"\s*[-+]?\d+,\d+\s*", value) for value in values)
    return "," if delimiter == ";" and comma else "."


def _check_width(path, names, values):
    """Raise if the first row has more fields than the header has names."""
    if any(value.strip() for value in values[len(names) :]):
        raise TableError(
            f"the first row of {path} has {count(len(values), 'field')}, but its "
            f"header has {count(len(names), 'name')}."
        )


def _delimiter(line):
    """Return the commonest delimiter of a header line; a comma if it has none."""
    return max(_DELIMITERS, key=lambda mark: (line.count(mark), mark == ","))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def numeric_columns(frame, path):
    """Return the numeric columns, and a list of the others: "name (reason)"."""
    if frame.shape[0] == 0:
        raise TableError(f"{path} has no rows.")
    kept, left_out = {}, []
    for name in frame.columns:
        column = frame[name]
        if column.dropna().isin([True, False]).all() and not (
            pandas.api.types.is_numeric_dtype(column)
            and not pandas.api.types.is_bool_dtype(column)
        ):
            left_out.append(f"{name} (true or false)")
            continue
        numbers = pandas.to_numeric(column, errors="coerce").astype(np.float64)
        text = column.notna() & numbers.isna()
        if column.isna().all():
            left_out.append(f"{name} (empty)")
        elif text.any() and numbers.notna().sum() >= _NUMERIC_FRACTION * text.size:
            row = int(np.flatnonzero(text)[0])
            raise TableError(
                f"the column {name!r} of {path} has text among its numbers: "
                f"{column.iloc[row]!r} in row {row + 1} below the header."
            )
        elif text.any():
            example = str(column[text].iloc[0])[:20]
            left_out.append(f"{name} (text: {example!r})")
        elif np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            raise TableError(
                f"the column {name!r} of {path} has an infinity, in row {row + 1} "
                "below the header."
            )
        elif _counts_rows(numbers.to_numpy()):
            left_out.append(f"{name} (numbers the rows)")
        else:
            kept[name] = numbers
    return pandas.DataFrame(kept, index=frame.index), left_out


def _counts_rows(values):
    """Return whether a column is an index: 0, 1, 2, ... or 1, 2, 3, ..."""
    return values.size > 2 and (
        values[0] in (0.0, 1.0) and bool((np.diff(values) == 1).all())
    )


def complete_rows(frame, notes, path):
    """Return the rows without blanks, and the notes with one on the dropped rows."""
    complete = frame.notna().all(axis=1)
    n_dropped = int((~complete).sum())
    if n_dropped:
        most = frame.isna().sum().idxmax()
        blanks = f"{count(n_dropped, 'row')} with blanks, most of them in {most}"
        notes = [*notes, f"left out: {blanks}"]
    frame = frame[complete]
    if frame.shape[0] < LEAST_ROWS:
        raise TableError(
            f"{path} must have at least {LEAST_ROWS} rows without blanks, so that "
            f"some can be held out. It has {count(frame.shape[0], 'row')}."
            + (f" Left out: {blanks}." if n_dropped else "")
        )
    return frame, notes
