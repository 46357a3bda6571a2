"""Errors that are the user's to fix."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """The data or the data section of the config cannot be used; the message says what to do."""


def check_choice(key: str, value: str, valid: Iterable[str]) -> None:
    """Raises a DataError that names the nearest valid value unless ``value`` is one of ``valid``."""
    valid = list(valid)
    if value in valid:
        return
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(f"Unknown {key} {value!r}.{hint} Valid: {', '.join(valid)}.")
