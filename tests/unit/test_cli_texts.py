"""What commands decide and show, as functions of values: no datasets, no processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fastfeed.cli.doctor import examine, lacks, report_text, simd_flags
from fastfeed.cli.info import number_text, value_text
from fastfeed.cli.preview import image_text, value_json
from fastfeed.cli.preview import value_text as preview_text
from fastfeed.format.wording import few
from tests.helpers.image_folders import encoded


class TestDoctor:
    def test_a_machine_with_everything_lacks_nothing_and_one_without_gets_remedies(self) -> None:
        report = examine()
        report |= {"simd": ["avx2"], "io_uring": "this kernel has none", "torch": None}
        report["cores"] = {"present": 8, "affinity": 8, "cgroup_quota": 1.5, "usable": 2}
        report["limits"] = {"open_files": 256, "locked_memory_bytes": None}
        report["codecs"] = {"JPEG": "fails: no decoder"}
        report["memory"] = {"total_bytes": 1 << 34, "cgroup_limit_bytes": 1 << 30}
        report["disks"] = [
            {
                "role": "cache",
                "folder": "/home/x",
                "file_system": "nfs4",
                "free_bytes": 1,
                "total_bytes": 2,
                "writable": False,
            }
        ]
        report["cache"] = {
            "configuration": {"error": "there is no setting limts", "disks": [], "pools": []},
            "daemon": {
                "socket": "/run/x", "state": "serving", "error": None, "version": "0.0.9", "pid": 7, "page": "",
                "pools": [{"name": "ml", "used_bytes": 1, "limit_bytes": 2,
                           "disks": [{"name": "nvme0", "state": "out", "reason": "a write took 31 s"}]}],
            },
        }  # fmt: skip
        report["lacks"] = lacks(report)
        words = [
            "crc32c",
            "the cgroup allows 1.5 of 8",
            "io_uring",
            "256 files",
            "JPEG fails",
            "torch",
            "nfs4",
            "not writable",
            "there is no setting limts",
            "is version 0.0.9",
            "disk nvme0 of pool ml is out: a write took 31 s",
        ]
        assert len(report["lacks"]) == len(words)
        for word, lack in zip(words, report["lacks"], strict=True):
            assert word in lack["what"]
            assert lack["remedy"]
        text = report_text(report)
        assert "- only 256 files may be open at once\n  ulimit -n 4096" in text
        assert "(cgroup limit 1.0 GiB)" in text
        assert "lacks nothing" in report_text({**report, "lacks": []})

    @pytest.mark.parametrize(
        ("text", "flags"),
        [
            ("processor : 0\nflags\t\t: fpu sse4_2 avx2\n", ["sse4_2", "avx2"]),
            ("Features : asimd crc32\n", ["asimd", "crc32"]),
            ("", []),
        ],
    )
    def test_simd_flags_of_either_architecture(self, tmp_path: Path, text: str, flags: list[str]) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        assert simd_flags(tmp_path) == flags


class TestInfo:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(None, "-"), (1234567, "1,234,567"), (0.123456, "0.1235"), (True, "True")],
    )
    def test_numbers(self, value: Any, text: str) -> None:
        assert number_text(value) == text

    def test_long_values_are_cut(self) -> None:
        assert few([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
        assert value_text([]) == "none"
        assert value_text(["a", "b"]) == "2: a, b"
        assert len(value_text({"x": "y" * 500})) == 100


class TestPreview:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"),
            (b"\x01\x02", "2 B: 01 02"),
            (bytes(9), "9 B: 00 00 00 00 00 00 00 00 …"),
            (np.arange(10, dtype=np.int16).reshape(2, 5), "int16 [2x5]: 0, 1, 2, 3, 4, 5, 6, 7, …"),
            (np.array([0.5, 1 / 3], np.float32), "float32 [2]: 0.5, 0.3333"),
            ({"a": [1, "ä"]}, '{"a": [1, "ä"]}'),
            ("x" * 500, "x" * 400 + " …"),
            (3, "3"),
        ],
    )
    def test_values_in_short(self, value: Any, text: str) -> None:
        assert preview_text(value).plain == text

    def test_values_as_json(self) -> None:
        picture = encoded("coffee", 0, "PNG")
        assert value_json(picture, image=True) == {
            "encoding": "PNG",
            "width": 96,
            "height": 72,
            "channels": 3,
            "bytes": len(picture),
        }
        assert value_json(b"\x00\xff", image=False) == {"bytes": 2, "begins": "00ff"}
        assert value_json(np.ones((2, 2), np.uint8), image=False) == {
            "dtype": "uint8",
            "shape": [2, 2],
            "begins": [1, 1, 1, 1],
        }
        assert value_json("text", image=False) == "text"

    def test_a_picture_is_half_blocks_of_its_own_colours(self) -> None:
        """96 x 72 becomes 40 x 30 pixels: 15 lines of 40 characters below the line of facts."""
        console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
        with console.capture() as captured:
            console.print(image_text(encoded("coffee", 0, "PNG"), colours=True))
        lines = captured.get().splitlines()
        assert len(lines) == 16
        assert lines[0].startswith("PNG 96 x 72, ")
        assert all(line.count("▀") == 40 for line in lines[1:])
        assert "38;2;" in lines[1]

    def test_without_colours_a_picture_is_one_line(self) -> None:
        assert str(image_text(encoded("rocket", 0, "WEBP"), colours=False)).startswith("WebP 96 x 72, ")
