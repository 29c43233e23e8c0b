#!/usr/bin/env bash
# Cargo with the project's cache and toolchain. `--nocxx` first: in the directory of the build
# without C++ (always with --no-default-features, so that the two never mix).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
if [ "${1:-}" = --nocxx ]; then
    shift
    export CARGO_TARGET_DIR="$NOCXX_TARGET_DIR"
fi
exec cargo "$@"
