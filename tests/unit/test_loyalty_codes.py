"""Transaction codes: what a person may do wrong when typing one is found."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.codes import ALPHABET, parse_code, transaction_code

SUBJECTS = [f"redemption-{n}" for n in range(40)]


def refused(code: str) -> bool:
    try:
        parse_code(code)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("subject", SUBJECTS[:8])
def test_every_single_wrong_character_is_found(subject: str) -> None:
    plain = transaction_code(subject).replace("-", "")
    for place, right in enumerate(plain):
        for wrong in ALPHABET.replace(right, ""):
            assert refused(plain[:place] + wrong + plain[place + 1 :])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_swap_of_two_characters_is_found(subject: str) -> None:
    plain = transaction_code(subject).replace("-", "")
    for one, two in combinations(range(len(plain)), 2):
        swapped = list(plain)
        swapped[one], swapped[two] = swapped[two], swapped[one]
        assert plain[one] == plain[two] or refused("".join(swapped))


@given(st.text(), st.integers(0, 10), st.data())
def test_a_code_reads_back_as_typed(subject: str, attempt: int, data: st.DataObject) -> None:
    code = transaction_code(subject, attempt)
    assert len(code) == 11
    assert set(code) <= {*ALPHABET, "-"}
    assert parse_code(code) == code
    typed = "".join(data.draw(st.sampled_from(["", " ", "-", " - "])) + c for c in code.replace("-", ""))
    assert parse_code(typed.lower()) == parse_code(f" {typed}\n") == code


def test_the_same_subject_and_attempt_give_the_same_code_and_others_another() -> None:
    codes = [transaction_code(f"redemption-{n}", attempt) for n in range(500) for attempt in (0, 1)]
    assert len(set(codes)) == 1000
    assert codes == [transaction_code(f"redemption-{n}", attempt) for n in range(500) for attempt in (0, 1)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a transaction code has 9 letters and digits, not 0"),
        ("K3Q-F7H-2M", "a transaction code has 9 letters and digits, not 8"),
        ("K3Q-F7H-2MXX", "a transaction code has 9 letters and digits, not 10"),
        ("K0Q-F7H-2MX", "'0' does not occur in transaction codes"),
        ("K3Q-F7H-2M🙂", "'🙂' does not occur in transaction codes"),
        ("K3Q-F7H-2M2", "the transaction code is mistyped: its check character does not fit"),
    ],
)
def test_a_wrong_code_is_refused_with_a_reason(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse_code(text)
    assert str(refusal.value) == sentence
