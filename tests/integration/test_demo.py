"""The demo: its training and test data do not meet, its files are the same every time, and it runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.helpers.repository import ROOT

DEMO = ROOT / "examples" / "demo"


@pytest.fixture(scope="module")
def make_photos() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_photos", DEMO / "make_photos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_photos"] = module  # its functions go to worker processes by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_photos"]


class TestThePhotographs:
    def test_training_and_test_regions_of_every_photograph_are_apart(self, make_photos: ModuleType) -> None:
        for name, file in make_photos.PHOTOGRAPHS.items():
            with Image.open(file) as photograph:
                size = photograph.size
            regions = make_photos.regions(*size)
            assert regions["train"].apart_from(regions["test"]), name
            for split, box in regions.items():
                assert make_photos.region_of(name, split).size == (box.right - box.left, box.bottom - box.top)
                assert 0 <= box.left < box.right <= size[0]
                assert 0 <= box.top < box.bottom <= size[1]

    def test_regions_that_would_meet_are_refused(self, make_photos: ModuleType) -> None:
        with pytest.raises(ValueError, match="meet in a photograph of 10 x 10"):
            make_photos.regions(10, 10)

    def test_a_crop_is_a_function_of_its_name_and_number(self, make_photos: ModuleType) -> None:
        assert make_photos.crop("cat", "train", 3) == make_photos.crop("cat", "train", 3)
        assert make_photos.crop("cat", "train", 3) != make_photos.crop("cat", "train", 4)
        assert make_photos.crop("cat", "train", 3) != make_photos.crop("cat", "test", 3)

    def test_crops_have_the_size_of_pictures_in_pixels_and_bytes(self, make_photos: ModuleType) -> None:
        crops = [make_photos.crop(name, "train", 0) for name in make_photos.PHOTOGRAPHS]
        assert 50_000 < sum(map(len, crops)) / len(crops) < 110_000

    def test_making_them_again_does_nothing_until_the_recipe_changes(
        self, make_photos: ModuleType, tmp_path: Path
    ) -> None:
        assert make_photos.make(tmp_path, 1, 1)
        assert len(list(tmp_path.rglob("*.jpg"))) == 2 * len(make_photos.PHOTOGRAPHS)
        assert not make_photos.make(tmp_path, 1, 1)
        assert make_photos.make(tmp_path, 2, 1)


def test_the_demo_trains_a_network_that_is_three_times_as_good_as_chance(tmp_path: Path) -> None:
    """On a tenth of its data, so in more epochs."""
    counts = ["--train-per-class", "32", "--test-per-class", "8", "--epochs", "6"]
    done = subprocess.run(
        [sys.executable, DEMO / "run.py", "--dir", tmp_path, *counts],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for said in ("$ fastfeed convert", "$ fastfeed info", "$ fastfeed verify", "test accuracy", "images/s",
                 "exposed wait    p50", "compute", "decode", "1 (cold)", "2 (warm)", "$ fastfeed cache status",
                 "the origin sent", "total"):  # fmt: skip
        assert said in done.stdout
    cold, warm = (line.split() for line in done.stdout.splitlines() if line.startswith(("1 (cold)", "2 (warm)")))
    assert float(cold[-2]) > 0, "the first epoch's bytes came through memory, as they arrived"
    assert float(warm[-2]) == 0, "the second one's from the cache's disk"
    sent_mb = float(re.search(r"the origin sent ([\d.]+) MB", done.stdout)[1])
    shards_mb = sum(path.stat().st_size for path in (tmp_path / "shards").rglob("*.ffs")) / 1e6
    assert sent_mb < 1.05 * shards_mb + 0.1, "each byte once"
