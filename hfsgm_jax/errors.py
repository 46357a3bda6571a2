"""Errors that are the user's to mend: every message says what was given, what is needed and how to fix it."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Something the user has to change; the programs print it as a sentence."""


class ConfigError(UserError):
    """The config, the command line or an option."""


class DataError(UserError):
    """The data, or the data section of the config."""


class CheckpointError(UserError):
    """No such checkpoint or weights, or unreadable ones."""


class NotApplicable(UserError):
    """An evaluation without meaning for this model or run."""


def nearest(word: Any, valid: Iterable[str]) -> str | None:
    """The valid word closest in spelling, if one is near."""
    return next(iter(difflib.get_close_matches(str(word), list(valid), n=1, cutoff=0.5)), None)


def hint(near: str | None) -> str:
    """The end of a sentence about a word that is not known, when one is near."""
    return f"; did you mean {near!r}?" if near else ""


def choice_problem(name: str, value: Any, valid: Iterable[str]) -> str | None:
    """A sentence that names the nearest valid value, unless ``value`` is one of ``valid``."""
    valid = list(valid)
    if isinstance(value, str) and value in valid:
        return None
    return f"{name}={value!r} is not one of {', '.join(valid)}{hint(nearest(value, valid))}"


def check_choice(name: str, value: Any, valid: Iterable[str], error: type[UserError] = ConfigError) -> None:
    """Raises ``error`` unless ``value`` is one of ``valid``."""
    if problem := choice_problem(name, value, valid):
        raise error(problem)
