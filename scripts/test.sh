#!/usr/bin/env bash
# Every proof of the project, in stages. Each stage has a limit in seconds, which stops it; the
# table at the end says where the time went. Without arguments: all stages, as CI runs them.
# With arguments: those stages. `--stage NAME` runs one in this process (used by the table below).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

total_limit=4500 # seconds: the whole on a fresh two-core machine with an empty cache
# Stages and their limits. A suite of tests/tests/ with a line in scripts/proofs.txt is a stage of
# its own; all other suites run in `suites`.
stages=(deps:420 build:2700 lint:420 unit:300 doctests:180 suites:300)
while read -r suite limit _; do
    [ "$limit" = 0 ] || stages+=("$suite:$limit")
done < <(grep -v '^#' scripts/proofs.txt)
stages+=(planted:1200 commands:180 rustdoc:180 fresh:10)

built="$CARGO_TARGET_DIR/.headwater-built"

# Suites without a stage of their own, as `--test NAME` arguments.
plain_suites() {
    local file name
    for file in tests/tests/*.rs; do
        name="$(basename "$file" .rs)"
        grep -q "^$name " scripts/proofs.txt || printf -- '--test\n%s\n' "$name"
    done
}

run_stage() {
    case "$1" in
    deps) scripts/deps.sh build test ;;
    build)
        cargo build --release --workspace --all-targets
        CARGO_TARGET_DIR="$NOCXX_TARGET_DIR" cargo build --release --workspace \
            --exclude headwater-benches --no-default-features
        ;;
    lint)
        cargo fmt --all -- --check
        cargo clippy --release --workspace --all-targets -- -D warnings
        # From here on no stage may compile what is not ours.
        touch "$built"
        ;;
    unit) cargo test --release --workspace --lib --bins --no-fail-fast ;;
    doctests) cargo test --release --workspace --doc --no-fail-fast ;;
    suites)
        local suites
        mapfile -t suites < <(plain_suites)
        cargo test --release --workspace --no-fail-fast "${suites[@]}"
        ;;
    commands) commands_answer ;;
    planted)
        CARGO_TARGET_DIR="$NOCXX_TARGET_DIR" cargo run --release -p headwater-tests \
            --no-default-features --bin planted
        ;;
    rustdoc) RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps ;;
    fresh) nothing_foreign_was_compiled ;;
    *) cargo test --release --workspace --no-fail-fast --test "$1" ;;
    esac
}

# The commands that others call, as they call them.
commands_answer() {
    local scenario
    for scenario in tests/conformance/aggregate-{sum,null-result}-01.json; do
        cargo run -q --release -p headwater-tests --bin conformance -- "$scenario" >/dev/null
        echo "conformance answers $scenario"
    done
    HTTP_ADDR=127.0.0.1:0 DEMO_SECONDS=5 scripts/demo.sh
    DEMO=analytics HTTP_ADDR=127.0.0.1:0 DEMO_SECONDS=5 scripts/demo.sh
}

# Cargo stamps a unit's directory whenever it compiles it. A crate of others stamped after the build
# stages means that some command selects other features than the build did.
nothing_foreign_was_compiled() {
    local foreign
    foreign="$(find "$CARGO_TARGET_DIR/release/.fingerprint" -name invoked.timestamp -newer "$built" \
        ! -path '*/.fingerprint/headwater*' -printf '%h\n' | sed 's|.*/||')"
    if [ -n "$foreign" ]; then
        echo "compiled after the build stage, though not ours:"
        echo "$foreign"
        echo "a later command selects other features; use --workspace, or -p headwater-tests"
        return 1
    fi
    echo "no crate of others was compiled after the build stage"
}

if [ "${1:-}" = --stage ]; then
    run_stage "$2"
    exit
fi

report=()
started=$SECONDS
failed=""
child=""
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 130' INT TERM
for entry in "${stages[@]}"; do
    name="${entry%:*}" limit="${entry#*:}"
    if [ "$#" -gt 0 ] && ! printf '%s\n' "$@" | grep -qx "$name"; then
        continue
    fi
    echo "==> $name"
    at=$SECONDS
    timeout --kill-after=20 "$limit" bash "$0" --stage "$name" </dev/null &
    child=$!
    code=0
    wait "$child" || code=$?
    child=""
    took=$((SECONDS - at))
    report+=("$(printf '%-20s %8d %8d' "$name" "$took" "$limit")")
    if [ "$code" != 0 ]; then
        [ "$code" != 124 ] || echo "stage $name was stopped at its limit of $limit s"
        failed="$name"
        break
    fi
done

total=$((SECONDS - started))
echo
printf '%-20s %8s %8s\n' stage seconds limit
printf '%s\n' "${report[@]}"
printf '%-20s %8d %8d\n' total "$total" "$total_limit"
if [ -n "$failed" ]; then
    echo "make test: stage $failed failed"
    exit 1
fi
if [ "$total" -gt "$total_limit" ]; then
    echo "make test: all stages passed, but together they took longer than $total_limit s"
    exit 1
fi
echo "make test: every stage passed"
