"""--image-size: what becomes smaller, and what stays as it is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfeed.convert.detect import source_of
from fastfeed.convert.shrink import shrunken
from fastfeed.convert.wanted import Wanted
from fastfeed.convert.webdataset import WebDataset
from fastfeed.errors import CorruptDataError
from tests.helpers.image_folders import class_files, command_environment, write_files
from tests.helpers.photographs import encode, photograph
from tests.helpers.sources import tar_of, written

PHOTO = photograph("chelsea").resize((90, 60))


def opened(encoded: bytes | None) -> Image.Image:
    assert encoded is not None
    return Image.open(io.BytesIO(encoded))


class TestShrunken:
    @pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(("size", "result"), [((90, 60), (30, 20)), ((60, 90), (20, 30)), ((61, 60), (20, 20))])
    def test_the_shorter_side_gets_the_size_and_the_format_stays(
        self, encoding: str, size: tuple[int, int], result: tuple[int, int]
    ) -> None:
        image = opened(shrunken(encode(PHOTO.resize(size), format=encoding), 20))
        assert (image.size, image.format) == (result, encoding)

    @pytest.mark.parametrize("size", [60, 61, 1000])
    def test_what_is_no_larger_is_kept(self, size: int) -> None:
        assert shrunken(encode(PHOTO, format="JPEG"), size) is None

    def test_the_same_image_gives_the_same_bytes(self) -> None:
        encoded = encode(PHOTO, format="JPEG")
        assert shrunken(encoded, 20) == shrunken(encoded, 20)

    @pytest.mark.parametrize(
        ("mode", "encoding", "result"),
        [
            ("L", "JPEG", "L"),
            ("CMYK", "JPEG", "RGB"),
            ("RGBA", "PNG", "RGBA"),
            ("LA", "PNG", "LA"),
            ("RGBA", "WEBP", "RGBA"),
            ("L", "PNG", "L"),
        ],
    )
    def test_colours_and_transparency_stay(self, mode: str, encoding: str, result: str) -> None:
        image = (PHOTO.convert("L") if mode == "LA" else PHOTO).convert(mode)
        if "A" in mode:
            image.putalpha(PHOTO.convert("L"))
        assert opened(shrunken(encode(image, format=encoding), 20)).mode == result

    def test_palettes_and_masks_keep_their_values(self) -> None:
        """Classes 3 and 7 side by side: an average of them would be a class that is not there."""
        mask = Image.fromarray(np.repeat(np.array([[3, 7]], np.uint8), 45, axis=1).repeat(60, axis=0))
        mask.putpalette([value for number in range(256) for value in (number, 0, 0)])
        image = opened(shrunken(encode(mask, format="PNG"), 20))
        assert image.mode == "P"
        assert set(np.asarray(image).ravel().tolist()) == {3, 7}

    def test_the_rotation_of_exif_is_carried_out(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        image = opened(shrunken(encode(PHOTO, format="JPEG", exif=exif), 20))
        assert image.size == (20, 30)
        assert 0x0112 not in image.getexif()

    def test_colour_profiles_are_kept(self) -> None:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert opened(shrunken(encode(PHOTO, format="JPEG", icc_profile=profile), 20)).info["icc_profile"] == profile

    def test_what_cannot_be_decoded_is_an_error(self) -> None:
        encoded = encode(PHOTO, format="JPEG")
        with pytest.raises(CorruptDataError, match="cannot be decoded to make it smaller"):
            shrunken(encoded[: len(encoded) // 2], 20)

    def test_pixels_are_counted_before_they_are_decoded(self) -> None:
        png = bytearray(encode(PHOTO, format="PNG"))
        png[16:24] = (30_000).to_bytes(4, "big") * 2
        with pytest.raises(CorruptDataError, match="30000 x 30000 pixels"):
            shrunken(bytes(png), 20)


class TestSources:
    def sizes(self, samples: list[dict[str, Any]], name: str) -> list[tuple[int, int]]:
        return [opened(sample[name]).size for sample in samples]

    def test_images_of_a_folder_become_smaller(self, tmp_path: Path) -> None:
        root = write_files(tmp_path / "in", class_files(2))
        source = source_of("auto", root, wanted=Wanted(image_size=36))
        assert self.sizes(written(source, tmp_path).samples, "image") == [(48, 36)] * 6

    def test_larger_ones_of_a_tar_become_smaller_and_the_others_stay(self, tmp_path: Path) -> None:
        small = encode(PHOTO.resize((30, 20)), format="JPEG")
        samples = [
            {"__key__": "1", "jpg": encode(PHOTO, format="JPEG")},
            {"__key__": "2", "jpg": small},
            {"__key__": "3", "txt": "none"},
        ]
        write_files(tmp_path, {"x.tar": tar_of(samples)})
        found = written(WebDataset(root=tmp_path / "x.tar", wanted=Wanted(image_size=20)), tmp_path).samples
        assert self.sizes(found[:2], "jpg") == [(30, 20)] * 2
        assert found[1]["jpg"] == small
        assert found[2]["jpg"] is None

    def test_without_pillow_it_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        root = write_files(tmp_path / "in", class_files(1))
        program = (
            "import sys; sys.modules['PIL'] = None\n"
            "from fastfeed.cli.main import main\n"
            f"sys.exit(main(['convert', {str(root)!r}, {str(tmp_path / 'out')!r}, *sys.argv[1:]]))"
        )
        command = [sys.executable, "-c", program, "--workers", "1"]
        done = subprocess.run(
            [*command, "--image-size", "20"], env=command_environment(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert "--image-size needs Pillow" in done.stderr
        assert subprocess.run(command, env=command_environment(), capture_output=True, timeout=60).returncode == 0
