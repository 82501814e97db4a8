#!/bin/sh
# Run a command where napari can open real windows: on a virtual screen with Mesa's software
# rendering once `scripts/setup.sh window` found that this works, else without any screen.
#
#   scripts/with-screen.sh COMMAND...
set -eu
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
export NAPARI_CONFIG="$settings/settings.yaml" # leave the user's napari settings alone
export LIBGL_ALWAYS_SOFTWARE=1

if [ -e "$(dirname "$0")/../.venv/.window" ]; then
    QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1920x1200x24" "$@"
else
    unset DISPLAY WAYLAND_DISPLAY
    QT_QPA_PLATFORM=offscreen "$@"
fi
