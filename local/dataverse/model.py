"""Metadata: tables, columns, keys, relationships and choices, as Dataverse describes them.

Everything else reads these classes: storage makes SQLite columns of them, the parsers look names up in them, the metadata
endpoints render them. They hold no connection and know no URL.
"""

import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

NUMBERS = {"Integer", "BigInt", "Decimal", "Double", "Money"}
CHOICES = {"Picklist", "State", "Status"}
TEXTS = {"String", "Memo", "EntityName"}
LOOKUPS = {"Lookup", "Customer", "Owner"}
BINARIES = {"File", "Image"}

# the columns that any table's definition may be asked to be idempotent about: ids of standard parts never change
_NAMESPACE = uuid.UUID("6f2f7c52-3a6e-4a3f-9c0e-0d9a5f3f7a11")


def stable_id(*names: str) -> str:
    """The id of a part that every environment has, the same each time."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))


@dataclass(slots=True)
class Option:
    value: int
    label: str
    state: int | None = None  # of a status: the state it belongs to
    default_status: int | None = None  # of a state: its default status
    description: str = ""
    color: str | None = None
    labels: dict[int, str] = field(default_factory=dict)  # further languages


@dataclass(slots=True)
class Column:
    """One column. `type` is Dataverse's AttributeType (or File, Image, MultiSelectPicklist)."""

    name: str
    type: str
    schema_name: str = ""
    id: str = ""
    label: str = ""
    description: str = ""
    labels: dict[int, str] = field(default_factory=dict)
    required: str = "None"
    length: int = 0
    minimum: float | None = None
    maximum: float | None = None
    precision: int = 0
    behavior: str = "UserLocal"
    format: str = ""
    options: list[Option] = field(default_factory=list)
    option_set: str | None = None  # name of a global choice
    default: Any = None
    targets: list[str] = field(default_factory=list)
    create: bool = True
    update: bool = True
    read: bool = True
    custom: bool = False
    secured: bool = False
    auto_number: str = ""
    number: int = 0

    @property
    def polymorphic(self) -> bool:
        return len(self.targets) > 1

    @property
    def stored(self) -> bool:
        return self.type not in {"Virtual"}

    @property
    def indexed_date(self) -> bool:
        """Dates that were added to a table have an index (see `Storage.index`)."""
        return self.type == "DateTime" and self.custom

    @property
    def property_name(self) -> str:
        """The name in JSON."""
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name

    @property
    def scale(self) -> int:
        """Stored numbers are exact integers of this many decimal places."""
        return 4 if self.type == "Money" else self.precision


@dataclass(slots=True)
class Key:
    name: str
    columns: list[str]
    schema_name: str = ""
    id: str = ""
    label: str = ""
    status: str = "Pending"
    job: str | None = None


@dataclass(slots=True)
class Table:
    name: str
    set_name: str
    schema_name: str = ""
    id: str = ""
    label: str = ""
    plural: str = ""
    description: str = ""
    labels: dict[int, str] = field(default_factory=dict)
    plurals: dict[int, str] = field(default_factory=dict)
    primary_id: str = ""
    primary_name: str = ""
    ownership: str = "UserOwned"
    otc: int = 10000
    custom: bool = False
    activity: bool = False
    intersect: bool = False
    change_tracking: bool = False
    optimistic: bool = True
    audit: bool = False
    privilege: str = ""  # the word in its privileges' names, if not the schema name
    bulk: bool = True  # CreateMultiple and UpdateMultiple are offered
    extra: dict[str, Any] = field(default_factory=dict)  # definition properties that are stored and given back only
    columns: dict[str, Column] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)

    @property
    def user_owned(self) -> bool:
        return self.ownership == "UserOwned"


@dataclass(slots=True)
class Relationship:
    """1:N (`referencing.attribute` points at `referenced`) or N:N (through `intersect`)."""

    schema_name: str
    kind: str  # "1:N" or "N:N"
    referenced: str
    referencing: str
    attribute: str = ""
    nav_lookup: str = ""  # on referencing: the single-valued navigation property; of N:N: the collection there
    nav_collection: str = ""  # on referenced
    intersect: str = ""
    id: str = ""
    custom: bool = False
    cascade: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def hierarchical(self) -> bool:
        """Whether rows of a table are ordered by it as by a tree."""
        standard = self.schema_name in ("account_parent_account", "user_parent_user")
        return self.referenced == self.referencing and (standard or bool(self.extra.get("IsHierarchical")))

    @property
    def on_delete(self) -> str:
        return self.cascade.get("Delete", "RemoveLink")


@dataclass(slots=True)
class OptionSet:
    """A global choice."""

    name: str
    id: str = ""
    label: str = ""
    description: str = ""
    labels: dict[int, str] = field(default_factory=dict)
    custom: bool = True
    options: list[Option] = field(default_factory=list)


class Schema:
    """All metadata, with the look-ups that requests need. `generation` grows with every change."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.sets: dict[str, Table] = {}
        self.relationships: dict[str, Relationship] = {}
        self.option_sets: dict[str, OptionSet] = {}
        self.generation = 0
        self._navigation: dict[str, dict[str, tuple[Relationship, str]]] = {}
        self._referencing: dict[str, list[Relationship]] = {}

    def changed(self) -> None:
        self.generation += 1
        self.sets = {table.set_name: table for table in self.tables.values()}
        self._navigation = {name: {} for name in self.tables}
        self._referencing = {name: [] for name in self.tables}
        for relation in self.relationships.values():
            if relation.referenced not in self.tables or relation.referencing not in self.tables:
                continue
            self._navigation[relation.referencing][relation.nav_lookup] = (
                relation,
                "many-many" if relation.kind == "N:N" else "one",
            )
            if relation.nav_collection:
                side = "many-many" if relation.kind == "N:N" else "many"
                self._navigation[relation.referenced][relation.nav_collection] = (relation, side)
            if relation.kind == "1:N":
                self._referencing[relation.referenced].append(relation)

    def navigation(self, table: str) -> dict[str, tuple[Relationship, str]]:
        """Navigation property -> (relationship, "one" | "many" | "many-many")."""
        return self._navigation[table]

    def references_to(self, table: str) -> list[Relationship]:
        """The 1:N relationships in which `table` is the one."""
        return self._referencing[table]

    def options_of(self, column: Column) -> list[Option]:
        if column.option_set:
            return self.option_sets[column.option_set].options
        return column.options


def dump(part: Table | Relationship | OptionSet) -> dict[str, Any]:
    return asdict(part)


def _option(data: dict[str, Any]) -> Option:
    return Option(**{**data, "labels": {int(k): v for k, v in data["labels"].items()}})


def _labels(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return data | {name: {int(k): v for k, v in data[name].items()} for name in names}


def load_table(data: dict[str, Any]) -> Table:
    columns = {}
    for name, column in data["columns"].items():
        fields = _labels(column, "labels") | {"options": [_option(option) for option in column["options"]]}
        columns[name] = Column(**fields)
    keys = {name: Key(**key) for name, key in data["keys"].items()}
    return Table(**(_labels(data, "labels", "plurals") | {"columns": columns, "keys": keys}))


def load_relationship(data: dict[str, Any]) -> Relationship:
    return Relationship(**data)


def load_option_set(data: dict[str, Any]) -> OptionSet:
    return OptionSet(**(_labels(data, "labels") | {"options": [_option(option) for option in data["options"]]}))
