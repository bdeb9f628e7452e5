"""The grammar of OData expressions that Dataverse accepts: `$filter`, `$orderby`, `$expand`, `$apply`.

Own parser rather than a general one because Dataverse's dialect is narrower (no arithmetic, no date functions) and wider
(`Microsoft.Dynamics.CRM.*` conditions with named parameters), and because literals are kept apart from the shape: an
expression that differs only in its literals compiles once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from local.dataverse.errors import Fault, bad_query

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<s>'(?:[^']|'')*')
    | (?P<e>[A-Za-z_]\w*(?:\.\w+)+'[^']*')
    | (?P<q>"(?:[^"\\]|\\.)*")
    | (?P<g>\{?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\}?)
    | (?P<d>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?(?:Z|[+-]\d\d:\d\d)?)?)
    | (?P<n>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<alias>@[A-Za-z_]\w*)
    | (?P<w>\$?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<o>[(),/:=\[\]*;$])
    )""",
    re.VERBOSE,
)
_WILDCARDS = re.compile(r"[%_\[]")
DEEPEST = 64
LONGEST = 65_536


@dataclass(slots=True, frozen=True)
class Literal:
    """`index` points into the literals found beside the shape. `kind`: s n d g b null."""

    index: int
    kind: str


@dataclass(slots=True, frozen=True)
class Path:
    names: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Compare:
    op: str
    left: "Path | Literal"
    right: "Path | Literal"


@dataclass(slots=True, frozen=True)
class Text:
    """contains, startswith, endswith. `wild`: the value holds wildcard characters."""

    op: str
    path: Path
    value: Literal
    wild: bool


@dataclass(slots=True, frozen=True)
class In:
    path: Path
    values: tuple[Literal, ...]


@dataclass(slots=True, frozen=True)
class Condition:
    """A Microsoft.Dynamics.CRM query function."""

    name: str
    path: Path
    values: tuple[Literal, ...]


@dataclass(slots=True, frozen=True)
class Lambda:
    path: Path
    every: bool
    variable: str
    body: "Node | None"


@dataclass(slots=True, frozen=True)
class Logic:
    op: str
    parts: "tuple[Node, ...]"


@dataclass(slots=True, frozen=True)
class Not:
    part: "Node"


Node = Compare | Text | In | Condition | Lambda | Logic | Not
Literals = list[tuple[str, str]]
"""(kind, text) of each literal, in order of appearance."""


@dataclass(slots=True)
class Tokens:
    """Words of an expression, its literals, and the key under which its compiled form may be kept."""

    kinds: list[str]
    texts: list[str]
    literals: Literals
    key: str


def tokenize(text: str, aliases: dict[str, str] | None = None) -> Tokens:
    if len(text) > LONGEST:
        raise bad_query("The query is too long.")
    kinds: list[str] = []
    texts: list[str] = []
    literals: Literals = []
    key: list[str] = []
    position, end = 0, len(text.rstrip())
    match = _TOKEN.match
    while position < end:
        found = match(text, position)
        if found is None:
            raise bad_query(f"Syntax error at position {position} in '{text[:200]}'.")
        position = found.end()
        kind = found.lastgroup or ""
        value = found[kind]
        if kind == "alias":
            if aliases is None or value not in aliases:
                kinds.append("alias")
                texts.append(value)
                key.append(value)
                continue
            inner = tokenize(aliases[value], None)
            kinds += inner.kinds
            for inner_kind, inner_text in zip(inner.kinds, inner.texts, strict=True):
                if inner_kind == "literal":
                    texts.append(str(len(literals)))
                    literals.append(inner.literals[int(inner_text)])
                else:
                    texts.append(inner_text)
            key.append(inner.key)
            continue
        if kind == "w" and value in ("true", "false", "null"):
            kind = "null" if value == "null" else "b"
        if kind in ("w", "o"):
            kinds.append(kind)
            texts.append(value)
            key.append(value)
            continue
        if kind == "s":
            value = value[1:-1].replace("''", "'")
            key.append("?%" if _WILDCARDS.search(value) else "?s")
        elif kind == "e":  # a member of an enumeration: Namespace.Type'Member'
            kind, value = "s", value[value.index("'") + 1 : -1]
            key.append("?s")
        elif kind == "q":
            kind, value = "s", re.sub(r"\\(.)", r"\1", value[1:-1])
            key.append("?s")
        else:
            key.append(f"?{kind}")
        kinds.append("literal")
        texts.append(str(len(literals)))
        literals.append((kind, value))
    return Tokens(kinds, texts, literals, " ".join(key))


class Reader:
    """Recursive descent over tokens."""

    def __init__(self, tokens: Tokens, source: str) -> None:
        self._kinds = tokens.kinds
        self._texts = tokens.texts
        self._literals = tokens.literals
        self._source = source
        self._at = 0
        self._depth = 0

    def fail(self) -> Fault:
        here = self._texts[self._at] if self._at < len(self._texts) else "the end"
        return bad_query(f"Syntax error near '{here[:60]}' in '{self._source[:200]}'.")

    def done(self) -> bool:
        return self._at >= len(self._kinds)

    def peek(self) -> str | None:
        """The next word or sign; None at a literal or the end."""
        if self._at < len(self._kinds) and self._kinds[self._at] in ("w", "o"):
            return self._texts[self._at]
        return None

    def accept(self, *words: str) -> str | None:
        word = self.peek()
        if word in words:
            self._at += 1
            return word
        return None

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.fail()

    def word(self) -> str:
        if self.done() or self._kinds[self._at] != "w":
            raise self.fail()
        self._at += 1
        return self._texts[self._at - 1]

    def literal(self) -> Literal | None:
        if not self.done() and self._kinds[self._at] == "literal":
            index = int(self._texts[self._at])
            self._at += 1
            return Literal(index, self._literals[index][0])
        return None

    def need_literal(self) -> Literal:
        found = self.literal()
        if found is None:
            raise self.fail()
        return found

    def path(self) -> Path:
        names = [self.word()]
        while self.accept("/"):
            names.append(self.word())
        return Path(tuple(names))

    # --- $filter ---

    def expression(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._unary))

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self.accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Logic(word, tuple(parts))

    def _unary(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise bad_query("The expression is nested too deeply.")
        try:
            if self.accept("not"):
                part = self._unary()
                if isinstance(part, Condition):
                    raise bad_query("Not operator along with the Custom Named Condition operators is not allowed")
                return Not(part)
            if self.accept("("):
                inner = self.expression()
                self.expect(")")
                return inner
            return self._predicate()
        finally:
            self._depth -= 1

    def _predicate(self) -> Node:
        left = self.literal()
        if left is not None:
            return self._comparison(left)
        word = self.word()
        if word in ("contains", "startswith", "endswith") and self.accept("("):
            path = self.path()
            self.expect(",")
            value = self.need_literal()
            self.expect(")")
            node = Text(word, path, value, bool(_WILDCARDS.search(self._literals[value.index][1])))
            if self.accept("eq"):
                wanted = self.need_literal()
                if self._literals[wanted.index] not in (("b", "true"), ("b", "false")):
                    raise self.fail()
                return node if self._literals[wanted.index][1] == "true" else Not(node)
            return node
        if word.startswith("Microsoft.Dynamics.CRM."):
            return self._condition(word.removeprefix("Microsoft.Dynamics.CRM."))
        if self.peek() == "(":
            raise bad_query(f"An unknown function with name '{word}' was found. This may also be a function import or a "
                            "key lookup on a navigation property, which is not allowed.")  # fmt: skip
        names = [word]
        while self.accept("/"):
            name = self.word()
            if name in ("any", "all") and self.accept("("):
                return self._lambda(Path(tuple(names)), name == "all")
            names.append(name)
        return self._comparison(Path(tuple(names)))

    def _comparison(self, left: Path | Literal) -> Node:
        if isinstance(left, Path) and self.accept("in"):
            self.expect("(")
            values = [self.need_literal()]
            while self.accept(","):
                values.append(self.need_literal())
            self.expect(")")
            return In(left, tuple(values))
        operator = self.accept("eq", "ne", "gt", "ge", "lt", "le")
        if operator is None:
            raise self.fail()
        return Compare(operator, left, self.literal() or self.path())

    def _lambda(self, path: Path, every: bool) -> Node:
        if self.accept(")"):
            return Lambda(path, every, "", None)
        variable = self.word()
        self.expect(":")
        body = self.expression()
        self.expect(")")
        return Lambda(path, every, variable, body)

    def _condition(self, name: str) -> Node:
        self.expect("(")
        path: Path | None = None
        values: list[Literal] = []
        while not self.accept(")"):
            parameter = self.word()
            self.expect("=")
            if parameter == "PropertyName":
                text = self._literals[self.need_literal().index][1]
                path = Path(tuple(text.split("/")))
            elif parameter in ("PropertyValue", "PropertyValue1", "PropertyValue2"):
                values.append(self.need_literal())
            elif parameter == "PropertyValues":
                self.expect("[")
                while not self.accept("]"):
                    values.append(self.need_literal())
                    self.accept(",")
            else:
                raise bad_query(f"Parameter '{parameter}' is not expected by '{name}'.")
            self.accept(",")
        if path is None:
            raise bad_query(f"The function '{name}' needs the parameter PropertyName.")
        return Condition(name, path, tuple(values))


def parse_filter(tokens: Tokens, source: str) -> Node:
    reader = Reader(tokens, source)
    node = reader.expression()
    if not reader.done():
        raise reader.fail()
    return node


def parse_order(text: str) -> list[tuple[Path, bool]]:
    """[(path, descending)] of `$orderby`."""
    reader = Reader(tokenize(text), text)
    order = []
    while True:
        path = reader.path()
        order.append((path, reader.accept("asc", "desc") == "desc"))
        if not reader.accept(","):
            break
    if not reader.done():
        raise reader.fail()
    return order


@dataclass(slots=True)
class Expand:
    name: str
    options: dict[str, str]
    reference: bool = False


def split_outside(text: str, separator: str) -> list[str]:
    """Splits at separators that are outside quotes and parentheses."""
    parts, depth, start, quoted = [], 0, 0, False
    for index, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    if depth or quoted:
        raise bad_query(f"Unbalanced parentheses or quotes in '{text[:200]}'.")
    parts.append(text[start:])
    return parts


def parse_expand(text: str) -> list[Expand]:
    expands = []
    for part in split_outside(text, ","):
        part = part.strip()
        name, _, rest = part.partition("(")
        options: dict[str, str] = {}
        if rest:
            if not part.endswith(")"):
                raise bad_query(f"Syntax error in $expand near '{part[:60]}'.")
            for option in split_outside(rest[:-1], ";"):
                key, _, value = option.strip().partition("=")
                if key not in ("$select", "$filter", "$orderby", "$top", "$expand"):
                    raise bad_query(f"The query option '{key[:40]}' is not supported in $expand.")
                options[key] = value
        name = name.strip()
        if not re.fullmatch(r"[A-Za-z_]\w*(/\$ref)?", name):
            raise bad_query(f"Syntax error in $expand near '{name[:60]}'.")
        expands.append(Expand(name.removesuffix("/$ref"), options, name.endswith("/$ref")))
    return expands
