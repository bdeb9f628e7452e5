"""$batch bodies: what we build another parser reads, what a server builds we read, and nothing else crashes us."""

import email
import email.policy
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.dataverse import batch
from connector.dataverse.odata import Part, Response, encode

ROOT = "/api/data/v9.2/"

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
gets = st.builds(lambda n: Part("GET", f"accounts({n})?$select=name", (("Accept", "application/json"),)), st.integers())
writes = st.one_of(
    st.builds(lambda row: Part("POST", "accounts", (), encode(row)), st.dictionaries(texts, texts, max_size=3)),
    st.builds(lambda n: Part("DELETE", f"accounts({n})", (("If-Match", "*"),)), st.integers()),
)
items = st.lists(gets | st.lists(writes, min_size=1, max_size=4), min_size=1, max_size=6)


def read_by_email(part: Message) -> tuple[str, dict[str, str], str]:
    """An application/http part, by a parser that is not ours: request line, headers, body."""
    raw = part.get_payload(decode=True)
    assert isinstance(raw, bytes)
    line, _, rest = raw.decode("utf-8").partition("\r\n")
    head, _, body = rest.partition("\r\n\r\n")
    return line, dict(field.split(": ", 1) for field in head.split("\r\n") if field), body.removesuffix("\r\n")


@given(items)
@settings(max_examples=60)
def test_another_parser_reads_what_we_build(things: list[Part | list[Part]]) -> None:
    body = batch.build(things, ROOT, "batch_1f")
    assert "\n" not in body.replace("\r\n", "")
    head = f"Content-Type: {batch.content_type('batch_1f')}\r\n\r\n"
    message = email.message_from_bytes((head + body).encode(), policy=email.policy.HTTP)
    found = message.get_payload()
    assert isinstance(found, list) and len(found) == len(things)
    content_ids = []
    for thing, part in zip(things, found, strict=True):
        inside = [part] if isinstance(thing, Part) else part.get_payload()
        expected = [thing] if isinstance(thing, Part) else thing
        assert len(inside) == len(expected)
        for one, sent in zip(expected, inside, strict=True):
            assert sent["Content-Type"] == "application/http" and sent["Content-Transfer-Encoding"] == "binary"
            line, headers, text = read_by_email(sent)
            assert line == f"{one.method} {ROOT}{one.path} HTTP/1.1"
            assert dict(one.headers).items() <= headers.items()
            assert text == (one.body or "")
            if not isinstance(thing, Part):
                content_ids.append(sent["Content-ID"])
    assert content_ids == [str(n + 1) for n in range(len(content_ids))]


bodies = st.dictionaries(texts, texts, max_size=3).map(lambda row: encode(row).encode())
answers = st.builds(
    lambda status, body: Response(status, {"content-type": "application/json"}, b"" if status == 204 else body),
    st.sampled_from([200, 204, 404, 412]),
    bodies,
)
replies = st.lists(answers | st.lists(answers, min_size=1, max_size=4), min_size=1, max_size=6)


def served(things: list[Response | list[Response]], outer: str, inner: str) -> bytes:
    """The bytes a server sends; after a part without body come two empty lines."""

    def http(answer: Response) -> bytes:
        head = (
            f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 {answer.status} X\r\n"
        )
        fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        return (head + fields + "\r\n").encode() + answer.body + b"\r\n"

    out = b""
    for thing in things:
        out += f"--{outer}\r\n".encode()
        if isinstance(thing, Response):
            out += http(thing)
        else:
            out += f"Content-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode()
            out += b"".join(f"--{inner}\r\n".encode() + http(answer) for answer in thing)
            out += f"--{inner}--\r\n".encode()
    return out + f"--{outer}--\r\n".encode()


@given(replies, st.sampled_from([("b", "b1"), ("batchresponse_1", "changesetresponse_2"), ("x", "y+.()'")]))
def test_we_read_what_a_server_builds(things: list[Response | list[Response]], names: tuple[str, str]) -> None:
    assert batch.parse(f"multipart/mixed; boundary={names[0]}", served(things, *names)) == things


def test_what_follows_the_end_is_ignored() -> None:
    things: list[Response | list[Response]] = [Response(200, {}, b"{}")]
    body = served(things, "b", "c")
    assert batch.parse("multipart/mixed; boundary=b", body + b"epilogue\r\n" + body) == things


@given(replies, st.integers(min_value=0, max_value=400))
def test_an_answer_cut_short_keeps_whole_replies_only(things: list[Response | list[Response]], lost: int) -> None:
    whole = served(things, "outer", "inner")
    try:
        found = batch.parse("multipart/mixed; boundary=outer", whole[: max(0, len(whole) - lost)])
    except batch.MalformedBatch:
        return
    assert found == things[: len(found)]


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda t: f"--b\r\n{t}\r\n--b--".encode()), st.text(max_size=40)
)
@settings(max_examples=300)
def test_anything_else_is_malformed_or_read(body: bytes, content: str) -> None:
    for kind in (content, "multipart/mixed; boundary=b"):
        try:
            found = batch.parse(kind, body)
        except batch.MalformedBatch:
            continue
        assert all(isinstance(reply, Response | list) for reply in found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error":{"code":"0x80048d19","message":"no"}}',
        b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n",
        b"--b\r\nContent-Type: application/http\r\n\r\nNONSENSE\r\n\r\n--b--\r\n",
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(batch.MalformedBatch):
        batch.parse("multipart/mixed; boundary=b", body)
