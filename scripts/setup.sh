#!/bin/sh
# Install what the Makefile needs and is missing.
#
#   scripts/setup.sh env EXTRAS   virtual environment .venv with napari-sslseg[EXTRAS]
#   scripts/setup.sh window       system packages for a napari window on a virtual screen (Linux)
set -eu
cd "$(dirname "$0")/.." && VENV=.venv
# On Debian and Ubuntu; every other library comes along with these.
WINDOW_PACKAGES="xvfb xauth libgl1-mesa-dri libegl1 libglib2.0-0 libdbus-1-3 \
libfontconfig1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0"

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
step() { # step WHAT COMMAND...
    what=$1
    shift
    say "$what"
    "$@" || fail "this step failed: $what. See the lines above for the reason."
}
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

can_apt() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}
apt_install() {
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq >&2 &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" >/dev/null
}

find_python() { # $PYTHON, else a name on the PATH; that may be a shim of nothing, so run it
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        echo "$python"
        return
    done
    fail "Python 3.11 or newer is needed and none was found; install it from https://www.python.org or with your package manager."
}

make_venv() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        can_apt || fail "$python cannot make virtual environments; run: sudo apt-get install $package"
        step "Installing $package" apt_install "$package"
    fi
    step "Making $VENV with $("$python" --version)" "$python" -m venv --clear "$VENV"
}

install_torch() { # without an NVIDIA GPU on Linux the CPU build saves gigabytes
    version=$(sed -n 's/^torch==//p' constraints.txt)
    # Elsewhere the usual build comes with the other packages.
    if [ "$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null; then return; fi
    say "Installing PyTorch $version for the CPU"
    pip install -qq --no-deps "torch==$version+cpu" 2>/dev/null ||
        pip install -qq --no-deps --retries 1 --timeout 20 "torch==$version" \
            --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
        say "The CPU build is not available; installing the much larger CUDA build, which also runs on a CPU."
}

setup_env() {
    stamp="$VENV/.installed-$1"
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    pip --version >/dev/null 2>&1 || make_venv
    install_torch
    step "Installing napari-sslseg[$1]; the first time takes a few minutes" \
        pip install -qq -c constraints.txt -e ".[$1]"
    echo "$wanted" >"$stamp"
}

window_opens() {
    command -v xvfb-run >/dev/null || return 1
    QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a "$VENV/bin/python" -c '
import sys
from PySide6.QtGui import QGuiApplication, QOpenGLContext
app = QGuiApplication([])
sys.exit(not QOpenGLContext().create())' >/dev/null 2>&1
}

setup_window() {
    if [ -e "$VENV/.window" ] || [ "$(uname -s)" != Linux ]; then return; fi
    if ! window_opens && can_apt; then
        say "Installing system packages for a virtual screen"
        # shellcheck disable=SC2086  # a list of words
        apt_install $WINDOW_PACKAGES || true # whether it helped is tried next
    fi
    if window_opens; then touch "$VENV/.window" && return; fi
    missing="no napari window opens on a virtual screen here; on Debian or Ubuntu run: sudo apt-get install $WINDOW_PACKAGES"
    if [ "${CI:-}" = true ]; then fail "$missing"; fi
    say "Tests that open a window are skipped: $missing"
}

case "${1:-}" in
    env) setup_env "${2:?which extras?}" ;;
    window) setup_window ;;
    *) fail "usage: scripts/setup.sh env EXTRAS | window" ;;
esac
