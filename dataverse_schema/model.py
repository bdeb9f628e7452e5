"""The source of the solution as objects: TOML files in, one validated, immutable `Model` out.

Names follow Dataverse: a *schema name* is written with capitals (`loy_Membership`), the *logical name* is the same in
lower case. Everything that can be derived (sets, navigation properties, ids) is derived here and nowhere else.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

SOURCE = Path(__file__).parent
_IDS = UUID("6b0a9f0e-3c0d-5f5a-9d55-2a4c1c7e8f10")

_SCHEMA_NAME = r"^[a-z][a-z0-9]{1,7}_[A-Za-z][A-Za-z0-9]*$"
# An alternate key is a SQL index of at most 900 bytes, so its texts together hold at most 450 characters.
_KEY_TEXT_LIMIT = 450
_KEY_TYPES = {"String", "Integer", "Decimal", "DateTime", "Lookup", "Picklist"}


class SourceError(Exception):
    """The source is wrong; the message names the file and what in it."""


def component_id(kind: str, name: str) -> UUID:
    """The id of a component in every environment. Derived, so that an install can be repeated and an upgrade finds it."""
    return uuid5(_IDS, f"{kind}/{name}")


class Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Source):
    """A column. `type` is the Dataverse attribute type; `Customer` is the lookup to account or contact.

    `audit` false: what the connector writes all the time, left out of the audit history of a table that has one."""

    schema_name: str = Field(pattern=_SCHEMA_NAME)
    display: str = Field(min_length=1, max_length=100)
    type: Literal["String", "Memo", "Integer", "Decimal", "Boolean", "DateTime", "Picklist", "Lookup", "Customer"]
    description: str = ""
    required: bool = False
    max_length: int | None = Field(None, ge=1, le=1048576)
    minimum: int | None = None
    maximum: int | None = None
    precision: int | None = Field(None, ge=0, le=10)
    behavior: Literal["UserLocal", "DateOnly", "TimeZoneIndependent"] | None = None
    options: tuple[tuple[int, str], ...] = ()
    default: bool | int | Decimal | None = None
    targets: tuple[str, ...] = ()
    audit: bool = True

    @model_validator(mode="after")
    def _type_has_what_it_needs(self) -> Self:
        needs: dict[str, set[str]] = {
            "String": {"max_length"},
            "Memo": {"max_length"},
            "Integer": {"minimum", "maximum"},
            "Decimal": {"minimum", "maximum", "precision"},
            "DateTime": {"behavior"},
            "Picklist": {"options"},
            "Lookup": {"targets"},
            "Customer": {"targets"},
        }
        optional = {"default"} if self.type in ("Integer", "Decimal", "Boolean", "Picklist") else set()
        needed = needs.get(self.type, set())
        for name in ("max_length", "minimum", "maximum", "precision", "behavior", "options", "targets", "default"):
            given = getattr(self, name) not in (None, ())
            if name in needed and not given:
                raise ValueError(f"a {self.type} column needs {name}")
            if given and name not in needed | optional:
                raise ValueError(f"a {self.type} column has no {name}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        if self.type == "String" and self.max_length is not None and self.max_length > 4000:
            raise ValueError("a String column holds at most 4000 characters; use Memo")
        values = [value for value, _ in self.options]
        if len(set(values)) != len(values):
            raise ValueError("an option value occurs twice")
        if self.type == "Picklist" and self.default is not None and self.default not in values:
            raise ValueError("default is not one of the options")
        if self.type == "Customer" and self.targets != ("account", "contact"):
            raise ValueError('a Customer column targets ["account", "contact"]')
        if self.type == "Lookup" and len(self.targets) != 1:
            raise ValueError("a Lookup column has one target")
        return self

    @property
    def logical_name(self) -> str:
        return self.schema_name.lower()

    @property
    def is_lookup(self) -> bool:
        return self.type in ("Lookup", "Customer")


class Key(Source):
    """An alternate key over columns given by logical name."""

    schema_name: str = Field(pattern=_SCHEMA_NAME)
    display: str
    columns: tuple[str, ...] = Field(min_length=1, max_length=16)

    @property
    def logical_name(self) -> str:
        return self.schema_name.lower()


class PrimaryName(Source):
    schema_name: str = Field(pattern=_SCHEMA_NAME)
    display: str
    max_length: int = Field(ge=1, le=4000)

    @property
    def logical_name(self) -> str:
        return self.schema_name.lower()


class Relationship(Source):
    """One 1:N relationship: `table.column` points to `target`. A customer column has two."""

    schema_name: str
    table: str
    column: Column
    target: str

    @property
    def navigation(self) -> str:
        """Name for `@odata.bind` and `$expand` on the side that holds the lookup."""
        return f"{self.column.schema_name}_{self.target}" if self.column.type == "Customer" else self.column.schema_name

    @property
    def on_delete(self) -> Literal["RemoveLink", "Restrict"]:
        """A company may delete its customers (their history stays); rows of ours that others build on may not go."""
        return "RemoveLink" if self.column.type == "Customer" else "Restrict"


class Table(Source):
    """A table of ours, or (`extends`) a standard table to which we add columns."""

    logical_name: str
    extends: bool = False
    schema_name: str = ""
    display: str = ""
    plural: str = ""
    description: str = ""
    ownership: Literal["UserOwned", "OrganizationOwned"] | None = None
    audit: bool = False
    change_tracking: bool = False
    primary_name: PrimaryName | None = None
    columns: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()

    def audits(self, column: Column) -> bool:
        """Whether changes of a column are kept in the audit history."""
        return self.audit and column.audit

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.extends:
            if self.schema_name or self.ownership or self.primary_name or self.keys:
                raise ValueError("a table that extends a standard one holds columns only")
        elif not (self.schema_name and self.display and self.plural and self.ownership and self.primary_name):
            raise ValueError("a table needs schema_name, display, plural, ownership and primary_name")
        elif self.logical_name != self.schema_name.lower():
            raise ValueError(f"the file must be called {self.schema_name.lower()}.toml")
        names = [column.logical_name for column in self.columns]
        names += [self.primary_name.logical_name, self.primary_id] if self.primary_name else []
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"column {name} occurs twice")
        columns = {column.logical_name: column for column in self.columns}
        for key in self.keys:
            text = 0
            for name in key.columns:
                column = columns.get(name)
                if column is None:
                    raise ValueError(f"key {key.schema_name} names column {name}, which the table has not")
                if column.type not in _KEY_TYPES:
                    raise ValueError(f"key {key.schema_name}: a {column.type} column cannot be in a key")
                text += column.max_length or 0
            if text > _KEY_TEXT_LIMIT:
                raise ValueError(f"key {key.schema_name}: {text} characters of text, the index holds {_KEY_TEXT_LIMIT}")
        return self

    @property
    def primary_id(self) -> str:
        return f"{self.logical_name}id"

    @property
    def entity_set(self) -> str:
        """`loy_entry` -> `loy_entries`, `loy_tier` -> `loy_tiers`: the plural that Dataverse forms itself."""
        name = self.logical_name
        return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"

    def column(self, logical_name: str) -> Column:
        for column in self.columns:
            if column.logical_name == logical_name:
                return column
        raise KeyError(logical_name)


class Step(Source):
    """Dataverse tells the connector about `message` on `table`, after the fact and asynchronously."""

    message: Literal["Create", "Update", "Delete"]
    table: str
    filtering: tuple[str, ...] = ()
    pre_image: tuple[str, ...] = ()
    post_image: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if (self.message == "Update") != bool(self.filtering):
            raise ValueError("filtering attributes belong to Update, and every Update needs them")
        if self.message == "Create" and self.pre_image:
            raise ValueError("a Create has no image of before")
        if self.message == "Delete" and self.post_image:
            raise ValueError("a Delete has no image of after")
        return self

    @property
    def name(self) -> str:
        return f"Loyalty: {self.message} of {self.table}"

    @property
    def id(self) -> UUID:
        return component_id("step", f"{self.message}/{self.table}")


class Publisher(Source):
    unique_name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    display: str
    prefix: str = Field(pattern=r"^[a-z][a-z0-9]{1,7}$")
    option_value_prefix: int = Field(ge=10000, le=99999)

    @property
    def id(self) -> UUID:
        return component_id("publisher", self.unique_name)


class Endpoint(Source):
    name: str

    @property
    def id(self) -> UUID:
        return component_id("serviceendpoint", self.name)


class Option(Source):
    """An option added to a choice of a standard table."""

    table: str
    column: str
    value: int
    label: str


class Solution(Source):
    unique_name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    display: str
    description: str
    version: str = Field(pattern=r"^\d+\.\d+\.\d+\.\d+$")
    language: int
    publisher: Publisher
    endpoint: Endpoint
    options: tuple[Option, ...] = ()
    change_tracking: tuple[str, ...] = ()

    @property
    def id(self) -> UUID:
        return component_id("solution", self.unique_name)

    @field_validator("options")
    @classmethod
    def _once(cls, options: tuple[Option, ...]) -> tuple[Option, ...]:
        places = [(option.table, option.column, option.value) for option in options]
        if len(set(places)) != len(places):
            raise ValueError("an option occurs twice")
        return options


@dataclass(frozen=True)
class Languages:
    """`base`: the LCID of the language that the source is written in. `words`: LCID -> text of the source -> its translation."""

    base: int
    words: Mapping[int, Mapping[str, str]]

    @property
    def spoken(self) -> tuple[int, ...]:
        return (self.base, *self.words)

    def of(self, text: str) -> dict[int, str]:
        """LCID -> text, the base first. A language without this text is left out: Dynamics then shows the base."""
        return {self.base: text} | self.translated(text)

    def translated(self, text: str) -> dict[int, str]:
        """The same without the base."""
        return {lcid: words[text] for lcid, words in self.words.items() if text in words}


class Model(Source):
    """Everything that is installed. `tables` is in the order in which they can be created: targets first."""

    solution: Solution
    tables: tuple[Table, ...]
    steps: tuple[Step, ...]
    translations: Mapping[int, Mapping[str, str]] = Field(default_factory=dict)

    @property
    def languages(self) -> Languages:
        return Languages(self.solution.language, self.translations)

    def only(self, provisioned: Iterable[int]) -> Model:
        """Without the languages that an environment lacks: it refuses labels in them."""
        kept = set(provisioned)
        found = {lcid: words for lcid, words in self.translations.items() if lcid in kept}
        return self.model_copy(update={"translations": found})

    @cached_property
    def by_name(self) -> dict[str, Table]:
        return {table.logical_name: table for table in self.tables}

    @property
    def own_tables(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if not table.extends)

    @property
    def extended_tables(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if table.extends)

    def relationships(self, table: Table) -> Iterator[Relationship]:
        """The relationships of which `table` holds the lookup."""
        prefix = self.solution.publisher.prefix
        for column in table.columns:
            for target in column.targets:
                parts = [part.removeprefix(f"{prefix}_") for part in (target, table.logical_name, column.logical_name)]
                name = f"{prefix}_{'_'.join(parts)}"
                yield Relationship(schema_name=name, table=table.logical_name, column=column, target=target)


def read_toml(path: Path) -> dict[str, Any]:
    """Numbers with a point become `Decimal`: no amount passes through a float."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        raise SourceError(f"{path.name}: no such file in {path.parent}") from None
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{path.name}: {error}") from None


def load(source: Path = SOURCE) -> Model:
    """Read and check the whole source. Raises `SourceError`."""
    solution = validated(Solution, read_toml(source / "solution.toml"), "solution.toml")
    files = sorted((source / "tables").glob("*.toml"))
    if not files:
        raise SourceError(f"tables: no .toml file in {source / 'tables'}")
    tables = [validated(Table, {"logical_name": f.stem} | read_toml(f), f"tables/{f.name}") for f in files]
    raw_steps = read_toml(source / "steps.toml").get("steps", [])
    steps = [validated(Step, raw, f"steps.toml: step {number}") for number, raw in enumerate(raw_steps, 1)]
    model = Model(
        solution=solution,
        tables=tuple(_targets_first(tables)),
        steps=tuple(steps),
        translations={int(path.stem): read_toml(path) for path in sorted((source / "translations").glob("*.toml"))},
    )
    _check_across(model)
    return model


def validated[T: BaseModel](kind: type[T], raw: dict[str, Any], place: str) -> T:
    """`raw` as `kind`, or a `SourceError` that says where the first mistake is."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise SourceError(f"{place}: {_where(raw, first['loc'])}{first['msg'].removeprefix('Value error, ')}") from None


def _where(raw: Any, location: tuple[int | str, ...]) -> str:
    """`columns.3.minimum` reads better as `column loy_Points: minimum`."""
    words: list[str] = []
    for part in location:
        raw = _inside(raw, part)
        if isinstance(part, int) and words:
            name = raw.get("schema_name", part) if isinstance(raw, dict) else part
            words[-1] = f"{words[-1].removesuffix('s')} {name}"
        else:
            words.append(str(part))
    return "".join(f"{word}: " for word in words)


def _inside(raw: Any, part: int | str) -> Any:
    if isinstance(raw, dict):
        return raw.get(part)
    return raw[part] if isinstance(raw, list) and isinstance(part, int) and part < len(raw) else None


def _targets_first(tables: list[Table]) -> Iterator[Table]:
    waiting = {table.logical_name: table for table in tables}
    while waiting:
        ready = [t for t in waiting.values() if not _targets(t) & (waiting.keys() - {t.logical_name})]
        if not ready:
            raise SourceError(f"tables: lookups go round in a circle: {', '.join(waiting)}")
        for table in ready:
            yield waiting.pop(table.logical_name)


def _targets(table: Table) -> set[str]:
    return {target for column in table.columns for target in column.targets}


def _check_across(model: Model) -> None:
    """What no single file can know: names carry our prefix, values our range, references exist."""
    publisher = model.solution.publisher
    first = publisher.option_value_prefix * 10000
    for table in model.tables:
        file = f"tables/{table.logical_name}.toml"
        names = [column.schema_name for column in table.columns] + [key.schema_name for key in table.keys]
        names += [] if table.extends else [table.schema_name]
        for name in names:
            if not name.startswith(f"{publisher.prefix}_"):
                raise SourceError(f"{file}: {name} does not begin with {publisher.prefix}_")
        for column in table.columns:
            for value, label in column.options:
                if not first <= value < first + 10000:
                    raise SourceError(
                        f"{file}: column {column.schema_name}: {label} = {value} is not in our range {first}.."
                    )
            for target in column.targets:
                if target.startswith(f"{publisher.prefix}_") and target not in model.by_name:
                    raise SourceError(f"{file}: column {column.schema_name} points to {target}, which has no file")
    for option in model.solution.options:
        if not first <= option.value < first + 10000:
            raise SourceError(f"solution.toml: option {option.label} = {option.value} is not in our range {first}..")
    seen: set[str] = set()
    for step in model.steps:
        if step.name in seen:
            raise SourceError(f"steps.toml: {step.message} of {step.table} occurs twice")
        seen.add(step.name)
        if step.table.startswith(f"{publisher.prefix}_"):
            if step.table not in model.by_name:
                raise SourceError(f"steps.toml: table {step.table} has no file")
            known = {column.logical_name for column in model.by_name[step.table].columns}
            for name in (*step.filtering, *step.pre_image, *step.post_image):
                if name not in known:
                    raise SourceError(f"steps.toml: {step.message} of {step.table}: no column {name}")
