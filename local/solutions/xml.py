"""Writing XML with few words."""

from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

ENGLISH = 1033


def el(tag: str, attributes: dict[str, str] | None = None, *children: Element) -> Element:
    element = Element(tag, attributes or {})
    element.extend(children)
    return element


def leaf(tag: str, text: object = "") -> Element:
    """An element that holds text only. True and False are written 1 and 0, None as nothing."""
    element = Element(tag)
    element.text = "" if text is None else str(int(text) if isinstance(text, bool) else text)
    return element


def texts(tag: str, item: str, text: str | None, others: dict[int, str] | None = None) -> Element:
    """A text in English and further languages (LCID -> text)."""
    words = {ENGLISH: text or ""} | (others or {})
    return el(tag, None, *(el(item, {"description": t, "languagecode": str(code)}) for code, t in words.items()))


def names(text: str | None) -> Element:
    return texts("LocalizedNames", "LocalizedName", text)


def held(tag: str, xml: str | None) -> Element:
    """`tag` around XML that a row holds as text."""
    return el(tag, None, *([fromstring(xml)] if xml and xml.strip() else []))


def braces(value: str) -> str:
    return f"{{{value}}}"
