"""Keys of a config, each described once: default, meaning, and the values it takes.

Validation, messages, the nearest right key and the page of all keys in docs/ are read from these descriptions.
"""

import ast
import contextlib
import inspect
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hfsgm_jax.errors import choice_problem

LARGEST = 2**31 - 1  # of whole numbers


class Kind(NamedTuple):
    """The values a key takes: ``form`` in words, a test, the type on the command line, and names to choose from."""

    form: str
    valid: Callable[[Any], bool]
    type: type = object
    choices: Callable[[], Iterable[str]] | None = None

    def or_none(self, meaning: str) -> "Kind":
        """These values, or None, which means ``meaning``."""
        form, valid = f"{self.form} (None: {meaning})", lambda value: value is None or self.valid(value)
        return self._replace(form=form, valid=valid)

    def read(self, value: Any) -> Any:
        """The value that a text of a command line stands for; what is no text stays."""
        if not isinstance(value, str) or self.type is str:
            return None if value == "None" else value
        if self.type is tuple:
            return tuple(_literal(part) for part in value.strip("()[] ").split(",") if part)
        return _literal(value.capitalize() if self.type is bool else value)


class Key(NamedTuple):
    """One key: its kind, its meaning with the unit, its default."""

    kind: Kind
    help: str
    default: Any = None

    def problem(self, name: str, value: Any) -> str | None:
        """A sentence about a value that the key does not take."""
        if self.kind.valid(value):
            return None
        choices = self.kind.choices and self.kind.choices()
        for word in value if isinstance(value, tuple | list) else [value]:
            if choices and (problem := choice_problem(name, word, choices)):
                return problem
        return f"{name}={value!r} is not {self.kind.form} ({self.help})"


def whole(low: int = 0, high: int = LARGEST) -> Kind:
    """Whole numbers."""
    upper = "" if high == LARGEST else f" and at most {high}"
    return Kind(f"a whole number of at least {low}{upper}", lambda x: _is_whole(x) and low <= x <= high, int)


def number(low: float = 0.0, high: float = math.inf, *, above: bool = False, below: bool = False) -> Kind:
    """Finite numbers from ``low`` (or ``above`` it) to ``high`` (or ``below`` it)."""
    lower = f"above {low:g}" if above else f"of at least {low:g}"
    upper = "" if high == math.inf else f" and below {high:g}" if below else f" and at most {high:g}"

    def valid(x: Any) -> bool:
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x):
            return False
        return (x > low if above else x >= low) and (x < high if below else x <= high)

    return Kind(f"a finite number {lower}{upper}", valid, float)


def one_of(*names: str, table: Callable[[], Iterable[str]] | None = None) -> Kind:
    """Names of a list, or of a table that may grow."""
    choices = table or (lambda: names)
    return Kind("one of a list", lambda x: isinstance(x, str) and x in choices(), str, choices)


def text(form: str = "text") -> Kind:
    """Any text that is not empty."""
    return Kind(form, lambda x: isinstance(x, str) and bool(x), str)


def several(kind: Kind, least: int = 1) -> Kind:
    """A tuple of values of one kind."""
    valid = lambda x: isinstance(x, tuple | list) and len(x) >= least and all(map(kind.valid, x))
    return Kind(f"a tuple, each {kind.form}" + ("" if least else " (or empty)"), valid, tuple, kind.choices)


FLAG = Kind("True or False", lambda x: isinstance(x, bool), bool)


def _literal(text: str) -> Any:
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text.strip())
    return text.strip()


def _is_whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _is_set_size(x: Any) -> bool:
    low, high = x if isinstance(x, tuple | list) and len(x) == 2 else (x, x)
    return _is_whole(low) and _is_whole(high) and 1 <= low <= high <= LARGEST


SET_SIZE = Kind("a whole number above 0, or (low, high) with 1 <= low <= high", _is_set_size)
STEP = Kind("'best', 'last' or the number of a step", lambda x: x in ("best", "last") or str(x).isdecimal(), str)


def keywords(function: Callable) -> dict[str, Key]:
    """The keys of a function's keyword arguments, by their annotations ``Annotated[type, Key(...)]`` and defaults."""
    annotated = typing.get_type_hints(getattr(function, "func", function), include_extras=True)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "image_shape":
            key = next((x for x in getattr(annotated[name], "__metadata__", ()) if isinstance(x, Key)), None)
            key = key or Key(Kind("any value", lambda _: True), "")
            found[name] = key._replace(default=parameter.default)
    return found
