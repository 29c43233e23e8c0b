#!/usr/bin/env bash
# Builds the platform and shows it at work: tasks for simulated agents, some of which fail.
# DEMO=analytics shows the rollups alone, under heavier and dirtier traffic.
# DEMO_SECONDS=n ends it by itself with a summary; otherwise it runs until Ctrl-C.
# Without KAFKA_BROKERS it runs on the embedded log, without a broker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
demo="${DEMO:-platform}"
case "$demo" in
platform)
    # Agents that hang are given up soon enough to be seen.
    export WORKFLOW_ANALYSIS_MS="${WORKFLOW_ANALYSIS_MS:-5000}"
    export WORKFLOW_ITEM_MS="${WORKFLOW_ITEM_MS:-5000}"
    export WORKFLOW_REVIEW_MS="${WORKFLOW_REVIEW_MS:-5000}"
    export WORKFLOW_BACKOFF_MS="${WORKFLOW_BACKOFF_MS:-250}"
    # Work that no agent ever takes is a dead letter within seconds.
    export RETRY_DELAY_MS="${RETRY_DELAY_MS:-100}"
    ;;
analytics)
    # Its event time runs ahead of the clock, and it shows the embedded log's topics.
    unset KAFKA_BROKERS
    ;;
*)
    echo "DEMO=$demo is neither platform nor analytics" >&2
    exit 2
    ;;
esac
# The whole workspace is selected, so that features are those of every other command.
cargo build --release --workspace --bin "$demo"
# The rollups' traffic holds bad records on purpose; the progress line counts them.
export RUST_LOG="${RUST_LOG:-info,headwater::task=error}"
if [ -z "${STATE_DIR:-}" ]; then
    export STATE_DIR="$HEADWATER_CACHE/demo"
    rm -rf "$STATE_DIR"
fi
exec "$CARGO_TARGET_DIR/release/$demo" demo
