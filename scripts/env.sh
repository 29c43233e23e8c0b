# Sourced by every script: where things lie, and which toolchain runs.
export HEADWATER_CACHE="${HEADWATER_CACHE:-$HOME/.cache/headwater}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HEADWATER_CACHE/target}"
export NOCXX_TARGET_DIR="$HEADWATER_CACHE/target-nocxx"
export KAFKA_JARS="$HEADWATER_CACHE/jars/kafka-4.3.1"
export REGISTRY_HOME="$HEADWATER_CACHE/jars/apicurio-registry-2.6.13"
case ":$PATH:" in
*":$HOME/.cargo/bin:"*) ;;
*) export PATH="$HOME/.cargo/bin:$PATH" ;;
esac
pinned="$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"
# A machine may hold the pinned release under another name (stable, say) and be unable to
# download it again: then that toolchain is the one.
if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null \
    && ! rustup run "$pinned" rustc --version >/dev/null 2>&1; then
    for name in $(rustup toolchain list 2>/dev/null | awk '{print $1}'); do
        if [ "$(rustup run "$name" rustc --version 2>/dev/null | awk '{print $2}')" = "$pinned" ]; then
            export RUSTUP_TOOLCHAIN="$name"
            break
        fi
    done
fi
# Cargo tells by the times of files what must be compiled again, and a file of this checkout may be
# older than what another one left in the cache: our crates are newer than that after a change.
for target in "$CARGO_TARGET_DIR" "$NOCXX_TARGET_DIR"; do
    if [ -d "$target/release" ] && [ "$(cat "$target/.headwater-checkout" 2>/dev/null)" != "$PWD" ]; then
        touch ./*/src/lib.rs tests/simulation/src/lib.rs
        printf '%s\n' "$PWD" >"$target/.headwater-checkout"
    fi
done
