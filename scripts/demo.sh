#!/usr/bin/env bash
# Builds the analytics topology and shows it at work on the embedded log, without a broker.
# DEMO_SECONDS=n ends it by itself with a summary; otherwise it runs until Ctrl-C.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
# The whole workspace is selected, so that features are those of every other command.
cargo build --release --workspace --bin analytics
# The traffic holds bad records on purpose; the progress line counts them.
export RUST_LOG="${RUST_LOG:-info,headwater::task=error}"
# Event time runs ahead of the clock, so each demonstration starts on an empty directory.
if [ -z "${STATE_DIR:-}" ]; then
    export STATE_DIR="$HEADWATER_CACHE/demo"
    rm -rf "$STATE_DIR"
fi
unset KAFKA_BROKERS
exec "$CARGO_TARGET_DIR/release/analytics" demo
