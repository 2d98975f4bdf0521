from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.errors import JournalError
from melt.telemetry.journal import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Event,
    JournalReader,
    JournalWriter,
    Line,
    Meta,
    Record,
    Tick,
    read_journal,
)

NONCE = b"\x01\x02\x03\x04\x05\x06\x07\x08"

contents = st.lists(st.one_of(st.binary(max_size=20), st.integers(1, 133)), min_size=3, max_size=3)
times = st.integers(0, 2**63)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(0, 2), times, st.integers(0, 2**32 - 1), contents),
        st.tuples(st.just("line"), st.integers(0, 9), times, st.binary(max_size=40), st.booleans()),
        st.tuples(st.just("event"), st.text(max_size=9), times),
    ),
    max_size=25,
)


def write(script: list[tuple], nonce: bytes = NONCE) -> tuple[bytes, list[Record], list[int]]:
    """Return a journal, the records in it and where each frame ends."""
    out = io.BytesIO()
    writer = JournalWriter(out, nonce)
    writer.meta({"run": "r"})
    records: list[Record] = [Meta({"run": "r"})]
    ends = [out.tell()]
    for kind, *args in script:
        if kind == "tick":
            gid, t_ns, duration_ns, files = args
            writer.tick(gid, t_ns, duration_ns, files)
            errnos = {i: c for i, c in enumerate(files) if isinstance(c, int)}
            records.append(
                Tick(gid, t_ns, duration_ns, tuple(c if isinstance(c, bytes) else None for c in files), errnos)
            )
        elif kind == "line":
            source, t_ns, data, cut = args
            writer.line(source, t_ns, data, cut=cut)
            records.append(Line(source, t_ns, cut, data))
        else:
            writer.event(args[0], args[1], x=[1, None])
            records.append(Event(args[0], args[1], {"x": [1, None]}))
        ends.append(out.tell())
    return out.getvalue(), records, ends


@given(steps)
def test_what_is_written_is_read(script: list[tuple]) -> None:
    data, records, _ = write(script)
    journal = read_journal(data)
    assert journal.records == records
    assert journal.meta == records[0]
    assert (journal.valid_bytes, journal.torn) == (len(data), False)


@given(steps, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_pieces_of_any_size_are_one_read(script: list[tuple], sizes: list[int]) -> None:
    data, records, _ = write(script)
    reader = JournalReader()
    seen: list[Record] = []
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        seen += reader.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert seen == records
    assert (reader.valid_bytes, reader.torn) == (len(data), False)


def whole_before(data: bytes, damaged: bytes, ends: list[int]) -> int:
    """Count the frames before the first byte that differs."""
    first = next(
        (i for i, (a, b) in enumerate(zip(data, damaged, strict=False)) if a != b), min(len(data), len(damaged))
    )
    return sum(end <= first for end in ends)


@settings(max_examples=3 * settings.default.max_examples // 2)
@given(steps, st.data())
def test_a_damaged_tail_loses_no_whole_record_and_invents_none(script: list[tuple], draw: st.DataObject) -> None:
    data, records, ends = write(script)
    at = draw.draw(st.integers(HEADER_BYTES, len(data)), "damage begins")
    old_block, _, _ = write(script, bytes(reversed(NONCE)))
    damaged = draw.draw(
        st.one_of(
            st.just(data[:at]),
            st.just(data[:at] + bytes(512)),
            st.binary(max_size=200).map(lambda tail: data[:at] + tail),
            st.just(data[:at] + old_block[at:]),
            st.just(data[:at] + data[HEADER_BYTES:]),
            st.just(data + data[HEADER_BYTES:at]),
            st.integers(0, 7).map(
                lambda bit: data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if at < len(data) else data
            ),
        ),
        "damaged",
    )
    journal = read_journal(damaged)
    whole = whole_before(data, damaged, ends)
    assert journal.records == records[:whole]
    assert journal.valid_bytes == ([HEADER_BYTES, *ends][whole])
    assert journal.torn == (len(damaged) > journal.valid_bytes)


def frame(sequence: int, payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(NONCE + struct.pack("<I", sequence) + payload)) + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"T" + struct.pack("<HQIH", 1, 5, 5, 1) + b"\xfe\xff",
        b"T" + struct.pack("<HQIH", 1, 5, 5, 2) + b"\x00\x00",
        b"T" + struct.pack("<HQIH", 1, 5, 5, 1) + b"\x09\x00abc",
        b"T" + struct.pack("<HQIH", 1, 5, 5, 1) + b"\x01\x00abc",
        b"L\x00",
        b"E{}",
        b"E[1]",
        b"E\xff",
    ],
    ids=[
        "same-as-nothing",
        "too-few-files",
        "content-cut",
        "bytes-left",
        "line",
        "event-no-name",
        "no-object",
        "no-json",
    ],
)
def test_a_record_that_makes_no_sense_ends_the_journal(payload: bytes) -> None:
    good = b"MELTJRN1" + NONCE + frame(0, b"M{}")
    journal = read_journal(good + frame(1, payload) + frame(2, b"M{}"))
    assert (journal.records, journal.valid_bytes, journal.torn) == ([Meta({})], len(good), True)


def test_records_of_a_later_agent_are_passed_over() -> None:
    journal = read_journal(b"MELTJRN1" + NONCE + frame(0, b"M{}") + frame(1, b"Znew") + frame(2, b"M{}"))
    assert (len(journal.records), journal.torn) == (2, False)


@pytest.mark.parametrize("length", [0, MAX_PAYLOAD_BYTES + 1, 2**32 - 1])
def test_a_length_that_cannot_be_stops_a_tail_at_once(length: int) -> None:
    reader = JournalReader()
    reader.feed(b"MELTJRN1" + NONCE + struct.pack("<II", length, 0))
    assert reader.stopped


def test_contents_that_did_not_change_are_one_object() -> None:
    data, _, _ = write([("tick", 1, t, 0, [b"frequency", b"%d" % t, 2]) for t in (1, 2)])
    first, second = (r for r in read_journal(data).records if isinstance(r, Tick))
    assert first.contents[0] is second.contents[0]


@pytest.mark.parametrize("data", [b"", b"MELTJRN1", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_journal_is_refused_in_one_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(data)
    with pytest.raises(JournalError, match="not a journal") as caught:
        read_journal(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
