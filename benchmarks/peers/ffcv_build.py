"""Building FFCV, which comes as source and asks pkg-config for OpenCV and libturbojpeg.

Debian splits OpenCV into many packages, and FFCV's one include of all its headers needs every one of them. Of these it
uses two, so it is given a header that includes these two, and descriptions for pkg-config that name their libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("libopencv-core-dev", "libopencv-imgproc-dev", "libturbojpeg0-dev", "pkg-config")
HEADER = "#pragma once\n#include <opencv2/core.hpp>\n#include <opencv2/imgproc.hpp>\n"
DESCRIPTION = """Name: opencv
Description: the two libraries of OpenCV that FFCV uses
Version: 4
Cflags: -I{folder} -I/usr/include/opencv4
Libs: -lopencv_core -lopencv_imgproc
"""


def build(python: Path, folder: Path) -> bool:
    """Install FFCV into the environment of `python`; False, and why is told, where it cannot be built."""
    if not Path("/usr/include/opencv4").is_dir() or not Path("/usr/include/turbojpeg.h").exists():
        if os.geteuid() != 0:
            print(f"FFCV is left out: it needs {' '.join(PACKAGES)}", file=sys.stderr)
            return False
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    (folder / "opencv2").mkdir(parents=True, exist_ok=True)
    (folder / "opencv2" / "opencv.hpp").write_text(HEADER)
    for name in ("opencv", "opencv4"):
        (folder / f"{name}.pc").write_text(DESCRIPTION.format(folder=folder))
    done = subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", "ffcv"], check=False,
                          env={**os.environ, "PKG_CONFIG_PATH": str(folder)})
    if done.returncode:
        print("FFCV is left out: it could not be built", file=sys.stderr)
    return done.returncode == 0
