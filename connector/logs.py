"""Log lines with a correlation id, without secrets and personal data; on request as JSON.

Everything that is logged in this process passes here, that of libraries too, before any handler sees it.
"""

import contextvars
import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_HIDDEN = "[hidden]"
_LONGEST = 20_000  # characters of a message or a traceback; no handler takes much more, and redacting has its price
_SECRETS = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b(bearer|basic|sharedaccesssignature)\s+[^\s'\",;]{4,}[^'\",;\r\n]*", rf"\1 {_HIDDEN}"),
        (
            r"\b((?:shared)?access_?key|account_?key|client_?secret|client_?assertion|password|pwd|sig|x-functions-key"
            rf"|access_token|refresh_token|authorization)(['\"]?\s*[=:]\s*['\"]?)(?!bearer|basic|\{_HIDDEN[:-1]})[^\s'\",;&]+",
            rf"\1\2{_HIDDEN}",
        ),
        (r"([?&]code=)[^\s&'\"]+", rf"\1{_HIDDEN}"),
        (r"\beyJ[\w-]{8,2000}\.[\w-]+(?:\.[\w-]*)?", _HIDDEN),
        (r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", "[e-mail]"),
    )
]
_about: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("about", default=None)
_plain_factory = logging.LogRecord


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without `secrets`, keys, tokens and e-mail addresses; control characters cannot begin a line of their own."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """What the log lines of this block are about: `correlation_id`, `change`, `record`."""
    token = _about.set({**(_about.get() or {}), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _about.reset(token)


def install(secrets: Iterable[str] = (), *, as_json: bool = False) -> None:
    """From now on every record is redacted; `secrets` are hidden wherever they appear. Handlers stay who they are."""
    known = sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True)

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = _plain_factory(*args, **kwargs)
        message = _one_line(redact(_message(record)[:_LONGEST], known))
        trace = ""
        if record.exc_info and record.exc_info[0]:
            text = "".join(traceback.format_exception(*record.exc_info))
            trace = redact(text[-_LONGEST:], known).rstrip()
            # An exporter of telemetry would quote the exception itself, and not our text of it.
            record.exc_info = None
        # A message that somebody else sent may have named them.
        fields = {name: _one_line(redact(value, known)) for name, value in (_about.get() or {}).items()}
        if as_json:
            line = {"level": record.levelname, "logger": record.name, "message": message, **fields}
            if trace:
                line["exception"] = trace
            message = json.dumps(line, ensure_ascii=True)
        else:
            if fields:
                message = f"[{' '.join(f'{name}={value}' for name, value in fields.items())}] {message}"
            # Indented, so that no line of an error's text looks like one of ours.
            message = "\n    ".join([message, *map(_one_line, trace.splitlines())])
        record.msg, record.args = message, ()
        return record

    logging.setLogRecordFactory(factory)


def uninstall() -> None:
    logging.setLogRecordFactory(_plain_factory)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit must not cost us the line
        return f"{record.msg} {record.args}"


def _one_line(text: str) -> str:
    """A name with a line break in it must not look like a line of ours."""
    return "".join(char if char.isprintable() or char == "\t" else f"\\x{ord(char):02x}" for char in text)
