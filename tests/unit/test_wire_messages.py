"""What the protocol's bodies refuse, ignore and agree on."""

from __future__ import annotations

import json
import pickle
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed.errors import (
    CacheFullError,
    ConfigError,
    CorruptDataError,
    DaemonUnavailableError,
    DatasetNotFoundError,
    FastfeedError,
    FormatVersionError,
    OriginChangedError,
    OriginError,
)
from fastfeed.wire import hot
from fastfeed.wire import messages as m
from fastfeed.wire.answers import answer_to, exception_of
from fastfeed.wire.framing import (
    BODY_BYTES_MAX,
    HEADER_BYTES,
    MESSAGE_BYTES_MAX,
    ErrorCode,
    ProtocolError,
    pack_frame,
    unpack_frame,
)
from fastfeed.wire.listing import ListedFile, pack_listing, unpack_listing
from fastfeed.wire.recipe import Recipe
from tests.helpers.wire_samples import HOT, golden_lines

PING = m.pack(m.Ping(), 1)
RECIPE = Recipe(kind="order", url="s3://b/d", snapshot=3, content="ab" * 16, rows=100, order={"shuffle": "window"},
                view=({"range": [0, 100, 1]},), epoch=2, position=50, rank=1, world_size=4, fingerprint=((50, 7),))


def field(tag: int, data: bytes) -> bytes:
    return struct.pack("<HHI", tag, 0, len(data)) + data


def unpacked(message_type: int, body: bytes) -> m.Message:
    return m.unpack(unpack_frame(pack_frame(message_type, 1, body)))


class TestFrames:
    @pytest.mark.parametrize("packet", [b"", PING[:-1], PING + b"x", b"\0" * (MESSAGE_BYTES_MAX + 1)])
    def test_a_packet_whose_length_is_wrong_is_malformed(self, packet: bytes) -> None:
        with pytest.raises(ProtocolError, match="packet") as caught:
            unpack_frame(packet)
        assert caught.value.code == ErrorCode.MALFORMED

    def test_a_message_fills_a_packet_and_no_more(self) -> None:
        assert len(pack_frame(1, 2, bytes(BODY_BYTES_MAX))) == MESSAGE_BYTES_MAX
        with pytest.raises(ProtocolError, match="packet"):
            pack_frame(1, 2, bytes(BODY_BYTES_MAX + 1))

    def test_flags_that_are_not_known_are_ignored(self) -> None:
        packet = bytearray(PING)
        packet[2:4] = b"\xff\xff"
        assert m.unpack(unpack_frame(packet)) == m.Ping()

    def test_an_error_of_the_protocol_pickles(self) -> None:
        error = pickle.loads(pickle.dumps(ProtocolError("what", ErrorCode.DENIED)))
        assert (str(error), error.code) == ("what", ErrorCode.DENIED)


class TestFields:
    def test_a_field_of_a_newer_version_is_ignored(self) -> None:
        body = field(999, b"new") + field(1, struct.pack("<Q", 7))
        assert unpacked(m.Unregister.TYPE, body) == m.Unregister(registration=7)

    def test_a_field_that_is_left_out_has_its_default(self) -> None:
        assert unpacked(m.Leaving.TYPE, b"") == m.Leaving(again_ms=0)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"", "Unregister: lacks registration"),
            (b"\1\0", "are no field"),
            (struct.pack("<HHI", 1, 0, 9) + bytes(8), "has 9 bytes"),
            (field(1, bytes(4)), "a number of 4 bytes"),
            (field(1, bytes(8)) * 2, "comes twice"),
        ],
    )
    def test_a_body_that_is_none_is_malformed(self, body: bytes, said: str) -> None:
        with pytest.raises(ProtocolError, match=said) as caught:
            unpacked(m.Unregister.TYPE, body)
        assert caught.value.code == ErrorCode.MALFORMED

    @pytest.mark.parametrize(
        "message",
        [
            m.CloseSet(set=m.SETS_MAX),
            m.Head(url="x" * (m.URL_BYTES_MAX + 1), deadline_ms=1),
            m.Head(url="x", deadline_ms=-1),
            m.OpenDataset(set=0, url="x", snapshot=1, manifest_hash=b"short", deadline_ms=1),
            m.Register(set=0, recipe=bytes(m.JSON_BYTES_MAX + 1)),
        ],
    )
    def test_a_value_beyond_its_limit_is_not_sent(self, message: m.Message) -> None:
        with pytest.raises(ProtocolError, match=type(message).__name__):
            m.pack(message, 1)

    def test_a_value_beyond_its_limit_is_not_read(self) -> None:
        with pytest.raises(ProtocolError, match=r"CloseSet\.set: the number 4096"):
            unpacked(m.CloseSet.TYPE, field(1, struct.pack("<Q", m.SETS_MAX)))

    def test_more_slabs_than_there_may_be_are_malformed(self) -> None:
        with pytest.raises(ProtocolError, match=r"Welcome\.slabs: comes more than 64 times"):
            unpacked(m.Welcome.TYPE, field(18, bytes(16)) * (m.SLABS_MAX + 1))

    def test_a_message_that_nobody_knows_is_unsupported(self) -> None:
        with pytest.raises(ProtocolError, match="0x7777") as caught:
            unpacked(0x7777, b"")
        assert caught.value.code == ErrorCode.UNSUPPORTED

    def test_names_that_are_no_utf8_survive(self) -> None:
        name = b"s3://b/\xff\xfe".decode("utf-8", "surrogateescape")
        message = m.Head(url=name, deadline_ms=1)
        assert m.unpack(unpack_frame(m.pack(message, 1))) == message

    @given(st.binary(max_size=200), st.sampled_from([each.split()[1] for each in golden_lines()]), st.integers(0, 4000))
    def test_whatever_comes_is_a_message_or_a_protocol_error(self, noise: bytes, golden: str, at: int) -> None:
        """Noise over the bytes of a real message, and noise alone under its type."""
        packet = bytes.fromhex(golden)
        at %= len(packet)
        damaged = packet[:at] + noise + packet[at + len(noise) :]
        for each in (damaged, pack_frame(unpack_frame(packet).type, 1, noise)):
            for read in (m.unpack, hot.unpack_hot):
                with suppress(ProtocolError):
                    read(unpack_frame(each))


class TestHotMessages:
    @pytest.mark.parametrize("name", HOT)
    def test_a_body_that_is_longer_is_of_a_newer_version(self, name: str) -> None:
        frame = unpack_frame(hot.pack_hot(HOT[name], 9))
        longer = unpack_frame(pack_frame(frame.type, 9, bytes(frame.body) + b"new"))
        assert hot.unpack_hot(longer) == HOT[name]

    @pytest.mark.parametrize("name", [name for name in HOT if name != "release"])
    def test_a_body_that_is_shorter_is_malformed(self, name: str) -> None:
        frame = unpack_frame(hot.pack_hot(HOT[name], 9))
        with pytest.raises(ProtocolError) as caught:
            hot.unpack_hot(unpack_frame(pack_frame(frame.type, 9, bytes(frame.body)[:-1])))
        assert caught.value.code == ErrorCode.MALFORMED

    @pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, (1 << 20) + 1), ((1 << 20) - 1, 2)])
    def test_a_get_beyond_one_chunk_is_malformed(self, offset: int, length: int) -> None:
        get = hot.Get(set=0, object=0, offset=offset, length=length, deadline_ms=1)
        with pytest.raises(ProtocolError, match="one chunk"):
            hot.unpack_hot(unpack_frame(hot.pack_hot(get, 1)))

    def test_sizes_are_those_that_the_native_reader_knows(self) -> None:
        sizes = {name: len(hot.pack_hot(message, 1)) - HEADER_BYTES for name, message in HOT.items() if name != "error"}
        assert sizes == {"get": 36, "in_slot": 8, "in_ring": 12, "release": 0}

    def test_a_control_message_is_none_of_the_data_connection(self) -> None:
        with pytest.raises(ProtocolError, match="0x5") as caught:
            hot.unpack_hot(unpack_frame(PING))
        assert caught.value.code == ErrorCode.UNSUPPORTED

    def test_a_long_text_is_cut(self) -> None:
        packet = hot.pack_hot(hot.Error(code=5, text="é" * 5000), 1)
        error = hot.unpack_hot(unpack_frame(packet))
        assert isinstance(error, hot.Error)
        assert error.text == "é" * (hot.ERROR_TEXT_BYTES_MAX // 2)


class TestVersions:
    @pytest.mark.parametrize(
        ("least", "most", "agreed"), [(1, 1, 1), (1, 9, m.VERSION), (m.VERSION + 1, m.VERSION + 3, None), (0, 0, None)]
    )
    def test_the_newest_that_both_speak_is_taken(self, least: int, most: int, agreed: int | None) -> None:
        assert m.agreed_version(least, most) == agreed


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (ErrorCode.UNSUPPORTED, FormatVersionError),
            (ErrorCode.DENIED, ConfigError),
            (ErrorCode.NOT_FOUND, DatasetNotFoundError),
            (ErrorCode.ORIGIN, OriginError),
            (ErrorCode.ORIGIN_CHANGED, OriginChangedError),
            (ErrorCode.CORRUPT, CorruptDataError),
            (ErrorCode.CACHE_FULL, CacheFullError),
            (ErrorCode.TIMEOUT, DaemonUnavailableError),
            (ErrorCode.CONFIG, ConfigError),
            (ErrorCode.INTERNAL, FastfeedError),
            (999, FastfeedError),
        ],
    )
    def test_a_code_is_an_exception_with_the_daemons_text(self, code: int, kind: type[FastfeedError]) -> None:
        error = exception_of(hot.Error(code=code, text="the text"))
        assert type(error) is kind
        assert "the text" in str(error)

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (OriginError("x"), ErrorCode.ORIGIN),
            (OriginChangedError("x"), ErrorCode.ORIGIN_CHANGED),
            (FileNotFoundError("x"), ErrorCode.NOT_FOUND),
            (PermissionError("x"), ErrorCode.DENIED),
            (TimeoutError("x"), ErrorCode.TIMEOUT),
            (ConfigError("x"), ErrorCode.CONFIG),
            (ProtocolError("x", ErrorCode.ORIGIN_CHANGED), ErrorCode.ORIGIN_CHANGED),
            (ZeroDivisionError("x"), ErrorCode.INTERNAL),
        ],
    )
    def test_an_exception_is_a_code(self, error: BaseException, code: ErrorCode) -> None:
        assert answer_to(error).code == code
        assert "x" in answer_to(error).text

    def test_an_unknown_code_has_its_number_in_the_message(self) -> None:
        assert "code 999" in str(exception_of(hot.Error(code=999, text="new")))


class TestListings:
    FILES = (ListedFile("00000000000000000001.arrow", 4096, 17), ListedFile("é", 0, 0), ListedFile("", 1, 2))

    def test_a_listing_comes_back(self) -> None:
        assert unpack_listing(pack_listing(self.FILES)) == list(self.FILES)
        assert unpack_listing(b"") == []

    @pytest.mark.parametrize("cut", [1, 19, 20, 21])
    def test_one_that_is_cut_is_an_error(self, cut: int) -> None:
        with pytest.raises(ProtocolError, match="listing"):
            unpack_listing(pack_listing(self.FILES[:1])[:cut])

    def test_a_name_that_no_store_has_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="4097 bytes"):
            pack_listing([ListedFile("x" * 4097, 0, 0)])


class TestRecipes:
    def test_a_recipe_comes_back(self) -> None:
        assert Recipe.of(RECIPE.to_json()) == RECIPE

    def test_what_a_newer_version_adds_is_ignored(self) -> None:
        values = {**json.loads(RECIPE.to_json()), "temperature": 3}
        assert Recipe.of(json.dumps(values).encode()) == RECIPE

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 99}, {"kind": "magic"}, {"rows": -1}, {"rows": 1 << 49}, {"rows": True}, {"position": 101},
            {"rank": 4}, {"epoch": "3"}, {"order": []}, {"view": [{"a": 1, "b": 2}]}, {"view": [{"a": 1}] * 65},
            {"fingerprint": [[0, 100]]}, {"fingerprint": [[0, 1]] * 9}, {"fingerprint": [[1]]}, {"nodes": [3]},
            {"url": 5}, {"content": "x" * 9000}, {"deal": 3}, {"fingerprint": 4},
        ],
        ids=str,
    )  # fmt: skip
    def test_one_that_cannot_be_is_refused(self, change: dict[str, object]) -> None:
        values = {**json.loads(RECIPE.to_json()), **change}
        with pytest.raises(ProtocolError):
            Recipe.of(json.dumps(values).encode())

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
    def test_bytes_that_are_none_are_refused(self, data: bytes) -> None:
        with pytest.raises(ProtocolError):
            Recipe.of(data)

    def test_one_that_is_too_long_for_a_message_is_not_made(self) -> None:
        with pytest.raises(ProtocolError, match="at most"):
            Recipe(kind="opaque", url="x" * 60_000, snapshot=1, content="", rows=1).to_json()
