"""Tar archives from untrusted bytes: every form that writers use, every cut, and headers that lie."""

from __future__ import annotations

import io
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from fastfeed.convert.streams import open_stream
from fastfeed.convert.tar import EXTENSION_BYTES_MAX, Member, TarReader, octal, pax_records
from fastfeed.errors import CorruptDataError
from tests.helpers.sources import compressed, tar_of_files

FILES = [("a/1.txt", b"one"), ("a/2.txt", b""), ("a/3.bin", bytes(range(256)) * 3)]


def read_all(content: bytes, tmp_path: Path, suffix: str = ".tar") -> list[tuple[Member, bytes]]:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    codec = {".gz": "gzip", ".zst": "zstd"}.get(Path(suffix).suffix, "")
    with closing(open_stream(path, codec, 0)) as stream:
        reader = TarReader(stream)
        return [(member, reader.read()) for member in reader]


def header(**changes: bytes) -> bytes:
    """A header with the right checksum, whatever stands in it. Changes: offset as `at_<n>`."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    for where, value in changes.items():
        at = int(where.removeprefix("at_"))
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class TestForms:
    @pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst"])
    def test_members_of_each_form_come_as_tarfile_wrote_them(self, tmp_path: Path, form: int, suffix: str) -> None:
        content = compressed(tar_of_files(FILES, form), suffix)
        assert [(member.name, data) for member, data in read_all(content, tmp_path, suffix)] == FILES

    @pytest.mark.parametrize(
        ("form", "name"),
        [
            (tarfile.USTAR_FORMAT, "d" * 120 + "/" + "e" * 90 + ".txt"),
            (tarfile.GNU_FORMAT, "d" * 300 + "/x.txt"),
            (tarfile.PAX_FORMAT, "d" * 300 + "/x.txt"),
            (tarfile.PAX_FORMAT, "ä/日本.txt"),
            (tarfile.GNU_FORMAT, "ä.txt"),
        ],
    )
    def test_long_and_foreign_names_arrive_whole(self, tmp_path: Path, form: int, name: str) -> None:
        found = read_all(tar_of_files([(name, b"1"), ("b.txt", b"2")], form), tmp_path)
        assert [(member.name, data) for member, data in found] == [(name, b"1"), ("b.txt", b"2")]

    def test_links_and_folders_are_no_files(self, tmp_path: Path) -> None:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
                member = tarfile.TarInfo(f"x{kind.decode()}.txt")
                member.type, member.linkname = kind, "elsewhere"
                archive.addfile(member)
        assert [member.is_file for member, _ in read_all(file.getvalue(), tmp_path)] == [False] * 4

    def test_a_part_of_an_archive_is_read_by_its_offsets(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tar"
        path.write_bytes(tar_of_files(FILES))
        begins = [member.begin for member, _ in read_all(path.read_bytes(), tmp_path)]
        with closing(open_stream(path, "", begins[1])) as stream:
            reader = TarReader(stream, begins[1], begins[2])
            assert [member.name for member in reader] == ["a/2.txt"]
            assert reader.end == begins[2]

    def test_what_is_not_read_is_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tar"
        path.write_bytes(tar_of_files(FILES))
        with closing(open_stream(path, "", 0)) as stream:
            reader = TarReader(stream)
            assert [reader.read(2) for _ in reader] == [b"on", b"", b"\0\1"]


class TestDamage:
    def test_every_cut_is_found(self, tmp_path: Path) -> None:
        """Up to the end mark, which a whole archive must have."""
        content = tar_of_files(FILES)
        end = content.rstrip(b"\0").__len__()
        mark = -(-end // 512) * 512
        for cut in [*range(0, mark, 97), mark - 1, mark, mark + 511]:
            with pytest.raises(CorruptDataError, match=r"is cut off|no valid header"):
                read_all(content[:cut], tmp_path)
        assert len(read_all(content[: mark + 512], tmp_path)) == 3

    def test_a_cut_names_the_member(self, tmp_path: Path) -> None:
        content = tar_of_files(FILES)
        with pytest.raises(CorruptDataError, match=r"is cut off in member a/3\.bin \(it ends at byte 2,100\)"):
            read_all(content[:2100], tmp_path)

    @pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
    @pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
    def test_a_compressed_archive_that_is_cut_off_is_found(self, tmp_path: Path, suffix: str, left: float) -> None:
        whole = compressed(tar_of_files(FILES), suffix)
        with pytest.raises(CorruptDataError):
            read_all(whole[: int(len(whole) * left)], tmp_path, suffix)

    def test_any_flipped_byte_of_a_header_is_found(self, tmp_path: Path) -> None:
        content = tar_of_files(FILES, tarfile.USTAR_FORMAT)
        for at in range(512):
            broken = bytearray(content)
            broken[at] ^= 0x41
            if octal(bytes(broken[148:156])) == octal(content[148:156]):
                continue  # the same number in other digits: what pads it
            with pytest.raises(CorruptDataError, match="no valid header at its beginning"):
                read_all(bytes(broken), tmp_path)

    def test_a_second_archive_behind_the_first_is_not_lost_silently(self, tmp_path: Path) -> None:
        with pytest.raises(CorruptDataError, match="has more after its end mark"):
            read_all(tar_of_files(FILES) * 2, tmp_path)

    @pytest.mark.parametrize(
        ("block", "says"),
        [
            (header(at_124=b"\x80" + b"\0" * 3 + b"\x7f" * 8), "is cut off in member x"),
            (header(at_124=b"\xff" * 12), "impossible size"),
            (header(at_124=b"-0000000001\0"), "impossible size"),
            (header(at_124=b"77777777777\0"), "is cut off in member x"),
            (header(at_156=b"L", at_124=b"77777777777\0"), f"at most {EXTENSION_BYTES_MAX:,}"),
            (header(at_156=b"x", at_124=b"77777777777\0"), f"at most {EXTENSION_BYTES_MAX:,}"),
            (header(at_156=b"x", at_124=b"00000000020\0"), "is cut off in member an extended header"),
            (header(at_156=b"S"), "sparse"),
            (b"\0" * 148 + b"not octal" + b"\0" * 355, "no valid header"),
        ],
    )
    def test_headers_that_lie_are_errors_before_anything_is_allocated(
        self, tmp_path: Path, block: bytes, says: str
    ) -> None:
        with pytest.raises(CorruptDataError, match=says):
            read_all(block, tmp_path)

    @pytest.mark.parametrize(
        "content", [b"x", b"4 a=\n", b"99 path=x\n", b"0 path=x\n", b"9 path=xx", b"8 path x\n", b"-1 path=x\n"]
    )
    def test_damaged_extended_headers_are_errors(self, content: bytes) -> None:
        with pytest.raises(CorruptDataError, match="damaged extended header"):
            pax_records(content)

    def test_an_extended_size_that_is_none_is_an_error(self, tmp_path: Path) -> None:
        extension = b"16 size=1000000\n" + b"17 size=-1000000\n"
        block = header(at_156=b"x", at_124=b"%011o\0" % len(extension)) + extension.ljust(512, b"\0") + header()
        with pytest.raises(CorruptDataError, match="extended header with the size"):
            read_all(block, tmp_path)
