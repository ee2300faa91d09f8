#!/usr/bin/env bash
# What `make` needs before it can do anything. Each step does nothing when its work is already done.
#
#   tools   a compiler and headers, the virtual environment, torch, then every other package under a constraint
#           that keeps that torch (another package would pull in a newer one, with gigabytes of GPU libraries)
#   build   fastfeed, installed editable, its extensions in place; FASTFEED_DEBUG=1: with assertions
#   node    Azurite, Microsoft's emulator of its storage, for the tests of origins; it comes from npm only
#   cross   an aarch64 compiler and emulator, for the test of the ARM code
#   browser a headless Chromium, for the test of the daemon's page, and systemd-analyze, for that of its unit
#
# Missing system packages are installed with apt when we are root and apt is there; else a message names them.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${VENV:=.venv}" "${PYTHON:=python3}" "${TORCH_PIP:=torch==2.13.0}"
CONSTRAINTS="$VENV/constraints.txt"
# A user's defaults for pip that make no sense inside a virtual environment.
unset PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# need_packages WHAT PACKAGE...: installs them, or says what to install.
need_packages() {
    local what=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        say "$what: apt-get install $*"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq < /dev/null > /dev/null || say "apt-get update failed; trying with the lists that are there"
        apt-get install -y -qq --no-install-recommends "$@" < /dev/null > /dev/null ||
            fail "apt-get could not install: $*"
    else
        fail "$what: not found. Install what is missing and run make again. On Debian or Ubuntu: sudo apt-get install $*"
    fi
}

has_header() { printf '#include <cstdio>\n#include <%s>\n' "$1" | ${CXX:-g++} -x c++ -fsyntax-only - 2> /dev/null; }

system() {
    command -v "${CXX:-g++}" > /dev/null || need_packages "a C++ compiler" g++
    local packages=()
    has_header jpeglib.h || packages+=(libjpeg62-turbo-dev)
    has_header png.h || packages+=(libpng-dev)
    has_header webp/decode.h || packages+=(libwebp-dev)
    has_header zstd.h || packages+=(libzstd-dev)
    [ ${#packages[@]} = 0 ] || need_packages "headers" "${packages[@]}"

    command -v "$PYTHON" > /dev/null || need_packages "$PYTHON" python3 python3-venv python3-dev
    command -v "$PYTHON" > /dev/null || fail "there is no $PYTHON. Name a Python that is there: make PYTHON=/usr/bin/python3"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$PYTHON is $("$PYTHON" -V 2>&1); fastfeed needs Python 3.11 or newer. Name one: make PYTHON=python3.12"
    if ! python_is_whole; then
        need_packages "venv or Python.h of $PYTHON" python3-venv python3-dev
        python_is_whole || fail "$PYTHON still has no venv, ensurepip or Python.h. Name another one: make PYTHON=/usr/bin/python3"
    fi
}

python_is_whole() {
    "$PYTHON" -c 'import ensurepip, os, sys, sysconfig, venv
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' 2> /dev/null
}

# The requirements of pyproject.toml, one a line: to build, to run, and every extra but torch, which is there already.
requirements() {
    "$VENV/bin/python" - << 'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    pyproject = tomllib.load(file)
project = pyproject["project"]
extras = [line for name, lines in project["optional-dependencies"].items() if name != "torch" for line in lines]
print("\n".join([*pyproject["build-system"]["requires"], *project["dependencies"], *extras]))
PY
}

tools() {
    system
    local pip="$VENV/bin/python -m pip"
    if ! $pip --version > /dev/null 2>&1; then
        say "a virtual environment in $VENV"
        "$PYTHON" -m venv --clear "$VENV"
    fi
    if ! grep -qxF "# $TORCH_PIP" "$CONSTRAINTS" 2> /dev/null; then
        say "$TORCH_PIP"
        # Unquoted on purpose: it may carry options, such as an index.
        $pip install -qq $TORCH_PIP
        { echo "# $TORCH_PIP"; "$VENV/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))'; } > "$CONSTRAINTS"
    fi
    say "packages to build, test and check"
    requirements > "$VENV/requirements.txt"
    $pip install -qq -c "$CONSTRAINTS" -r "$VENV/requirements.txt"
    touch "$VENV/.tools"
}

build() {
    local mode=release was
    [ "${FASTFEED_DEBUG:-0}" = 1 ] && mode=debug
    was=$(cat "$VENV/.mode" 2> /dev/null || echo none)
    # The generated C++ depends on the mode too (bounds checks), and timestamps cannot tell.
    if [ "$was" != "$mode" ]; then
        rm -f fastfeed/_native/*.so fastfeed/_native/*.cpp "$VENV/.mode"
    fi
    if [ "$VENV/.editable" -nt pyproject.toml ] && "$VENV/bin/python" -m pip show -qq fastfeed 2> /dev/null; then
        say "fastfeed's native parts ($mode)"
        "$VENV/bin/python" setup.py -q build_ext --inplace
    else
        say "fastfeed, built in place ($mode)"
        "$VENV/bin/python" -m pip install -qq --no-build-isolation --no-deps -e .
        touch "$VENV/.editable"
    fi
    echo "$mode" > "$VENV/.mode"
    touch "$VENV/.built"
}

node() {
    local azurite=azurite@3.35.0
    if [ "$(cat "$VENV/.node" 2> /dev/null)" != "$azurite" ]; then
        if ! command -v npm > /dev/null; then
            if [ "$(id -u)" != 0 ]; then
                say "no npm: the tests of Azure's storage will be skipped (Debian: nodejs npm)"
                return
            fi
            need_packages "npm, for the emulator of Azure's storage" nodejs npm
        fi
        say "$azurite"
        npm install --silent --no-audit --no-fund --no-save --prefix "$VENV/node" "$azurite" < /dev/null > /dev/null ||
            fail "npm could not install $azurite, which the tests of origins need"
        echo "$azurite" > "$VENV/.node"
    fi
}

cross() {
    if ! command -v aarch64-linux-gnu-g++ > /dev/null || ! command -v qemu-aarch64 > /dev/null; then
        if [ "$(id -u)" = 0 ]; then
            need_packages "a cross compiler for the test of the ARM code" g++-aarch64-linux-gnu qemu-user
        else
            say "no aarch64 compiler or qemu-aarch64: the test of the ARM code will be skipped" \
                "(Debian: g++-aarch64-linux-gnu qemu-user)"
        fi
    fi
    touch "$VENV/.cross"
}

browser() {
    if ! command -v chromium > /dev/null || ! command -v systemd-analyze > /dev/null; then
        if [ "$(id -u)" = 0 ]; then
            need_packages "what the tests of the daemon's page and unit need" chromium systemd
        else
            say "no chromium or systemd-analyze: the tests of the daemon's page and unit will be skipped" \
                "(Debian: chromium systemd)"
        fi
    fi
    touch "$VENV/.browser"
}

case "${1:-}" in
    tools | build | node | cross | browser) "$1" ;;
    *) fail "usage: .ci/setup.sh tools|build|node|cross|browser" ;;
esac
