"""Building XML with as few words as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID
from xml.etree.ElementTree import Element, fromstring, tostring

if TYPE_CHECKING:
    from ..model import Languages

__all__ = ["Element", "braces", "el", "leaf", "parse", "texts", "to_text"]


def el(tag: str, attributes: dict[str, str] | None = None, *children: Element) -> Element:
    element = Element(tag, attributes or {})
    element.extend(children)
    return element


def leaf(tag: str, text: object = "", attributes: dict[str, str] | None = None) -> Element:
    """An element that holds text only. True and False are written 1 and 0, as Dynamics does."""
    element = Element(tag, attributes or {})
    element.text = str(int(text) if isinstance(text, bool) else text)
    return element


def texts(tag: str, item: str, text: str, languages: Languages) -> Element:
    """`text` in every language, each in an `item` under `tag`."""
    words = languages.of(text)
    return el(tag, None, *(el(item, {"description": word, "languagecode": str(lcid)}) for lcid, word in words.items()))


def braces(value: UUID) -> str:
    return f"{{{value}}}"


def to_text(element: Element) -> str:
    return tostring(element, encoding="unicode", short_empty_elements=True)


def parse(text: str) -> Element:
    """Our own source or a form that Dynamics sent; neither can hold a document type."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type is refused")
    return fromstring(text)  # noqa: S314 - see above
