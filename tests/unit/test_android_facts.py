"""What melt calls a phone by its properties, each list a file in tests/data/getprop."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from melt.records import DeviceFacts
from melt.targets.android import parse_facts, properties

FOLDER = Path(__file__).parents[1] / "data" / "getprop"
FACTS = ("name", "os_build", "soc", "virtualization", "accelerators")


def facts_of(raw: bytes, hint: str = "shelf-3") -> DeviceFacts:
    return parse_facts({"$ getprop": raw}, device_id_hint=hint, kind="adb")


def render() -> str:
    """Everything that melt makes of the lists, a line each."""
    lines = []
    for path in sorted(FOLDER.glob("*.txt")):
        if path.stem != "expected":
            found = facts_of(path.read_bytes())
            lines += [path.stem, *(f"    {fact}: {getattr(found, fact)}" for fact in FACTS)]
    return "\n".join(lines) + "\n"


def test_phones_are_called_as_expected() -> None:
    assert render() == (FOLDER / "expected.txt").read_text(encoding="utf-8")


def test_a_value_may_have_lines_and_brackets() -> None:
    props = properties({"$ getprop": (FOLDER / "several-lines.txt").read_bytes()})
    assert props["persist.sys.note"] == "one line\n[ro.product.model]: and another"
    assert props["ro.product.model"] == "Phone [5G]"


def test_a_serial_number_tells_phones_apart_and_stays_on_the_phone() -> None:
    one, other = facts_of(b"[ro.serialno]: [AAA111]\n"), facts_of(b"[ro.serialno]: [BBB222]\n")
    assert one.device_id != other.device_id
    assert "AAA111" not in str(one)
    assert facts_of(b"[ro.serialno]: [AAA111]\n", hint="elsewhere").device_id == one.device_id
    assert facts_of(b"").device_id != facts_of(b"", hint="shelf-4").device_id, "the hint tells those that hide theirs"


@given(st.binary(), st.lists(st.sampled_from([b"[", b"]: [", b"]\n", b"\r", b"ro.product.model"])).map(b"".join))
def test_no_list_is_too_odd(raw: bytes, pieces: bytes) -> None:
    facts_of(raw + pieces)


if __name__ == "__main__":
    sys.stdout.write(render())
