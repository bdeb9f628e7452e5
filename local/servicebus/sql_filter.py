"""SQL filters of subscriptions: a boolean expression over a message's properties.

Syntax and three-valued logic after Microsoft's "Subscription rule SQL filter syntax". Names are looked up among the application
properties; `sys.Name` among the message's own. What is compared with a missing property, or a value of another type, is unknown.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any


class FilterSyntaxError(ValueError):
    """Where and why an expression is not a filter."""


type Lookup = Callable[[str, str], Any]
"""(scope "sys" or "user", name) -> value, None if missing."""

type Evaluate = Callable[[Lookup], Any]
"""An expression: its value, or None for unknown."""

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    | '(?P<text>(?:[^']|'')*)'
    | \[(?P<bracketed>(?:[^\]]|\]\])+)\]
    | "(?P<quoted>(?:[^"]|"")+)"
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign><>|!=|<=|>=|[-+*/%=<>(),.])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
    "%": operator.mod,
}


def compile_filter(expression: str) -> Callable[[Lookup], bool]:
    """A function that tells whether the expression is true of a message. Raises FilterSyntaxError."""
    parser = _Parser(expression)
    evaluate = parser.disjunction()
    parser.end()
    return lambda lookup: evaluate(lookup) is True


class _Parser:
    """Recursive descent; each method reads one level of precedence and returns what evaluates it."""

    def __init__(self, expression: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = expression.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise FilterSyntaxError(f"unexpected {text[at:].strip()[:20]!r}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match.group(kind)))
            at = match.end()
        self._at = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise FilterSyntaxError(f"unexpected {self._tokens[self._at][1]!r}")

    def disjunction(self) -> Evaluate:
        left = self._conjunction()
        while self._word("OR"):
            left = _or(left, self._conjunction())
        return left

    def _conjunction(self) -> Evaluate:
        left = self._negation()
        while self._word("AND"):
            left = _and(left, self._negation())
        return left

    def _negation(self) -> Evaluate:
        if self._word("NOT"):
            return _not(self._negation())
        return self._predicate()

    def _predicate(self) -> Evaluate:
        if self._word("EXISTS"):
            self._need("(")
            scope, name = self._property(self._next())
            self._need(")")
            return lambda lookup: lookup(scope, name) is not None
        left = self._sum()
        if (sign := self._sign(*_COMPARISONS)) is not None:
            return _compare(_COMPARISONS[sign], left, self._sum())
        if self._word("IS"):
            negated = self._word("NOT")
            self._need_word("NULL")
            return lambda lookup: (left(lookup) is None) is not negated
        negated = self._word("NOT")
        if self._word("IN"):
            found = self._among(left)
        elif self._word("LIKE"):
            found = self._like(left)
        elif negated:
            raise FilterSyntaxError("NOT must be followed by IN or LIKE here")
        else:
            return left
        return _not(found) if negated else found

    def _among(self, left: Evaluate) -> Evaluate:
        self._need("(")
        options = [_compare(operator.eq, left, self._sum())]
        while self._sign(","):
            options.append(_compare(operator.eq, left, self._sum()))
        self._need(")")
        result = options[0]
        for option in options[1:]:
            result = _or(result, option)
        return result

    def _like(self, left: Evaluate) -> Evaluate:
        pattern = self._text("LIKE")
        escape = self._text("ESCAPE") if self._word("ESCAPE") else None
        wanted = re.compile(_like_expression(pattern, escape), re.DOTALL)

        def evaluate(lookup: Lookup) -> bool | None:
            value = left(lookup)
            return wanted.fullmatch(value) is not None if isinstance(value, str) else None

        return evaluate

    def _text(self, after: str) -> str:
        kind, value = self._next()
        if kind != "text":
            raise FilterSyntaxError(f"{after} needs a text in quotes")
        return value.replace("''", "'")

    def _sum(self) -> Evaluate:
        left = self._product()
        while (sign := self._sign("+", "-")) is not None:
            left = _calculate(_ARITHMETIC[sign], left, self._product())
        return left

    def _product(self) -> Evaluate:
        left = self._signed()
        while (sign := self._sign("*", "/", "%")) is not None:
            left = _calculate(_ARITHMETIC[sign], left, self._signed())
        return left

    def _signed(self) -> Evaluate:
        sign = self._sign("+", "-")
        if sign is None:
            return self._operand()
        value = self._signed()
        return _calculate(_ARITHMETIC[sign], lambda lookup: 0, value)

    def _operand(self) -> Evaluate:
        kind, value = token = self._next()
        if kind == "number":
            number = int(value) if value.isdigit() else float(value)
            return lambda lookup: number
        if kind == "text":
            text = value.replace("''", "'")
            return lambda lookup: text
        if token == ("sign", "("):
            inner = self.disjunction()
            self._need(")")
            return inner
        constant = {"TRUE": True, "FALSE": False, "NULL": None}
        if kind == "word" and value.upper() in constant:
            return lambda lookup: constant[value.upper()]
        scope, name = self._property(token)
        return lambda lookup: lookup(scope, name)

    def _property(self, token: tuple[str, str]) -> tuple[str, str]:
        scope, name = "user", self._name(token)
        if token[0] == "word" and name.lower() in ("sys", "user") and self._sign("."):
            scope, name = name.lower(), self._name(self._next())
        return scope, name

    def _name(self, token: tuple[str, str]) -> str:
        kind, value = token
        if kind == "word":
            return value
        if kind == "bracketed":
            return value.replace("]]", "]")
        if kind == "quoted":
            return value.replace('""', '"')
        raise FilterSyntaxError(f"a property name is expected, not {value!r}")

    # -- tokens

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise FilterSyntaxError("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _sign(self, *signs: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "sign" and self._tokens[self._at][1] in signs:
            return self._next()[1]
        return None

    def _word(self, word: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at][0] == "word"
        if found and self._tokens[self._at][1].upper() == word:
            self._at += 1
            return True
        return False

    def _need(self, sign: str) -> None:
        if self._sign(sign) is None:
            raise FilterSyntaxError(f"{sign!r} is missing")

    def _need_word(self, word: str) -> None:
        if not self._word(word):
            raise FilterSyntaxError(f"{word} is missing")


def _not(inner: Evaluate) -> Evaluate:
    def evaluate(lookup: Lookup) -> bool | None:
        value = inner(lookup)
        return None if value is None else value is not True

    return evaluate


def _and(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(lookup: Lookup) -> bool | None:
        values = left(lookup), right(lookup)
        if False in values:
            return False
        return None if None in values else True

    return evaluate


def _or(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(lookup: Lookup) -> bool | None:
        values = left(lookup), right(lookup)
        if True in values:
            return True
        return None if None in values else False

    return evaluate


def _compare(compare: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(lookup: Lookup) -> bool | None:
        a, b = left(lookup), right(lookup)
        return compare(a, b) if _kind(a) is not None and _kind(a) == _kind(b) else None

    return evaluate


def _calculate(calculate: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(lookup: Lookup) -> Any:
        a, b = left(lookup), right(lookup)
        if _kind(a) != "number" or _kind(b) != "number":
            return a + b if calculate is operator.add and isinstance(a, str) and isinstance(b, str) else None
        try:
            return calculate(a, b)
        except ArithmeticError:
            return None

    return evaluate


def _kind(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _like_expression(pattern: str, escape: str | None) -> str:
    result, characters = "", iter(pattern)
    for character in characters:
        if character == escape:
            result += re.escape(next(characters, ""))
        else:
            result += {"%": ".*", "_": "."}.get(character, re.escape(character))
    return result
