import pytest

from tasks.core.errors import UserError
from tasks.core.store.fingerprint import _BUILD_LABEL, canonical_json, fingerprint_of


def test_canonical_json_sorts_keys_and_is_ascii():
    assert canonical_json({"b": [True, None, "é"], "a": 0.1}) == '{"a":0.1,"b":[true,null,"\\u00e9"]}'


def test_canonical_json_numbers_of_one_value_are_one_text():
    assert canonical_json([1, 1.0, 1e0, -0.0, 5e-7, 1e16]) == "[1,1,1,0,5e-07,10000000000000000]"


def test_canonical_json_true_and_text_stay_distinct_from_one():
    assert len({canonical_json(value) for value in (1, True, "1", [1], None)}) == 5


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_canonical_json_nan_and_infinity_are_refused_by_path(number):
    with pytest.raises(UserError, match=r"^config\.rates\[1\] is -?(nan|inf): an identity takes finite numbers"):
        canonical_json({"config": {"rates": [0.5, number]}})


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2, 3}}, {"a": b"x"}])
def test_canonical_json_other_than_plain_json_is_a_bug(value):
    with pytest.raises(TypeError):
        canonical_json(value)


def test_fingerprint_is_20_digits_of_the_known_sha256():
    assert fingerprint_of({}) == "44136fa355b3678a1146"  # sha256 of the two bytes {}


@pytest.mark.parametrize(
    ("version", "public"),
    [
        ("2.13.0+cpu", "2.13.0"),
        ("2.13.0+cu130", "2.13.0"),
        ("2.13.0+rocm6.4", "2.13.0"),
        ("1.0+git1a2b", "1.0+git1a2b"),
    ],
)
def test_library_build_label_is_hardware_and_a_fork_is_not(version, public):
    assert _BUILD_LABEL.sub("", version) == public
