"""Rules that Microsoft's solution checker and a strict content policy set for the pages; no browser is needed for them."""

import re
from pathlib import Path

import pytest

from tests.browser.conftest import PAGES

SCRIPTS = sorted(PAGES.rglob("*.js"))
FORBIDDEN = {
    r"\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|document\.write": "markup from text",
    r"\beval\s*\(|new Function\b|setTimeout\(\s*[\"']": "code from text",
    r"\bconsole\.|\bdebugger\b": "debugging left behind",
    r"\b(?:window\.)?(?:alert|prompt)\s*\(|window\.confirm": "a modal of the browser",
    r"\?\.(?!\d)|\?\?": "syntax newer than ES2018",
    r"\bparent\.|window\.top\b|\bXrm\.Page\b": "the page around ours",
    r"XMLHttpRequest": "a request that may be synchronous",
    r"document\.cookie|document\.domain": "cookies and domains",
    r"https?://": "an absolute address",
    r"[^=!]==[^=]|!=[^=]": "loose equality",
    r"catch\s*\{": "syntax newer than ES2018",
}


def code(path: Path) -> str:
    """The script without comments and without the contents of strings."""
    text = re.sub(r"(?m)(^|\s)//.*$", "", path.read_text())
    return re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_follow_the_checkers_rules(path: Path) -> None:
    text = code(path)
    assert path.read_text().startswith('"use strict";'), "not strict"
    for pattern, what in FORBIDDEN.items():
        found = re.search(pattern, text)
        assert not found, f"{what}: {found and text[max(0, found.start() - 40) : found.end() + 40]!r}"
    assert "http" not in re.sub(r"(?m)(^|\s)//.*$", "", path.read_text()), "an address in a string"


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.html")), ids=lambda path: path.name)
def test_pages_have_nothing_inline_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert all(src for src in re.findall(r"<script([^>]*)>", text) if "src=" in src)
    for script in re.findall(r"<script[^>]*>([^<]*)</script>", text):
        assert not script.strip()
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (path.parent / address).is_file(), address
    assert re.search(r'<html lang="\w+">', text)


def test_every_text_that_a_page_names_exists() -> None:
    words = "".join(path.read_text() for path in (PAGES / "texts").glob("*en.js"))
    known = set(re.findall(r'^\s*"([\w.]+)":', words, re.MULTILINE))
    named = set()
    for path in (*PAGES.glob("*.html"), *(PAGES / "scripts").glob("*.js")):
        text = path.read_text()
        named |= set(re.findall(r'data-(?:text|label|hint)="([\w.]+)"', text))
        named |= set(re.findall(r'\bsay\("([\w.]+\w)"', text))
    assert named <= known, named - known
