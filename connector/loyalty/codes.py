"""Transaction codes: short enough to read out at a counter, with a check character.

Nine characters of an alphabet of 31 that leaves out what looks alike (0 O 1 I L), written `K3Q-F7H-2MX`. 31 is a prime: the last
character, a weighted sum of the first eight modulo 31, finds every single wrong character and every swap of two.
"""

import hashlib

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_PAYLOAD = 8


def transaction_code(subject: str, attempt: int = 0) -> str:
    """The code of a redemption. The same subject and attempt always give the same code, so a retry cannot make two."""
    number = int.from_bytes(hashlib.sha256(f"{subject}#{attempt}".encode()).digest()[:16])
    characters = []
    for _ in range(_PAYLOAD):
        number, value = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[value])
    text = "".join(characters)
    return _written(text + _check(text))


def parse_code(text: str) -> str:
    """A code as typed (any case, with or without hyphens and blanks) in its written form; ValueError says what is wrong."""
    plain = "".join(text.upper().replace("-", " ").split())
    if len(plain) != _PAYLOAD + 1:
        raise ValueError(f"a transaction code has {_PAYLOAD + 1} letters and digits, not {len(plain)}")
    for character in plain:
        if character not in _VALUE:
            raise ValueError(f"{character!r} does not occur in transaction codes")
    if _check(plain[:_PAYLOAD]) != plain[-1]:
        raise ValueError("the transaction code is mistyped: its check character does not fit")
    return _written(plain)


def _check(text: str) -> str:
    return ALPHABET[sum(place * _VALUE[character] for place, character in enumerate(text, 2)) % len(ALPHABET)]


def _written(plain: str) -> str:
    return "-".join((plain[:3], plain[3:6], plain[6:]))
