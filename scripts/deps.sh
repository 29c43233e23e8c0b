#!/usr/bin/env bash
# Installs what is missing on this machine, and says what. Arguments: `build` (compilers, Rust),
# `test` (Java, Maven, Python, OpenSSL, Kafka's jars, a schema registry). What is there already is left
# alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

say() { echo "deps: $*"; }
die() {
    echo "deps: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "that needs root, and there is no sudo here: run this command as root once"
    fi
}

# apt_install PACKAGE...: one call for all that is missing.
apt_install() {
    command -v apt-get >/dev/null \
        || die "missing here, and there is no apt-get: install the equivalent of: $*"
    say "installing with apt-get: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq \
        || say "apt-get update failed; trying with the lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null >/dev/null || die "apt-get could not install: $*"
}

has_pc() { command -v pkg-config >/dev/null && pkg-config --exists "$1"; }
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || ldconfig -p | grep -q 'libclang.*\.so'; }
has_java() {
    local major
    major="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')" || return 1
    [ "${major:-0}" -ge 17 ]
}

build_packages() {
    { command -v g++ && command -v make; } >/dev/null || echo build-essential
    command -v clang >/dev/null || echo clang
    has_libclang || echo libclang-dev
    command -v cmake >/dev/null || echo cmake
    command -v pkg-config >/dev/null || echo pkg-config
    has_pc openssl || echo libssl-dev
    has_pc zlib || echo zlib1g-dev
    # librdkafka's CMake build includes curl's header even when it is told to leave curl out.
    has_pc libcurl || echo libcurl4-openssl-dev
}

test_packages() {
    has_java || echo openjdk-17-jdk-headless
    command -v mvn >/dev/null || echo maven
    command -v python3 >/dev/null || echo python3
    command -v openssl >/dev/null || echo openssl
}

install_missing() {
    local missing
    mapfile -t missing < <("$1")
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}"
}

# The toolchain that rust-toolchain.toml pins, with clippy and rustfmt.
install_rust() {
    if ! command -v rustup >/dev/null; then
        if command -v apt-get >/dev/null && as_root apt-get update -qq \
            && [ -n "$(apt-cache madison rustup 2>/dev/null)" ]; then
            apt_install rustup
        elif command -v cargo >/dev/null && [ "$(rustc --version | awk '{print $2}')" = "$pinned" ]; then
            return 0 # The pinned release without rustup will do.
        else
            die "rustup is not installed and this distribution has no package of it;" \
                "install it as rust-lang.org describes, then run this command again"
        fi
        . scripts/env.sh
    fi
    if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && ! rustup run "$pinned" rustc --version >/dev/null 2>&1; then
        say "installing Rust $pinned with rustup"
        rustup toolchain install "$pinned" --profile minimal -c clippy -c rustfmt \
            || die "rustup could not install Rust $pinned (pinned in rust-toolchain.toml)"
    fi
    local component
    for component in clippy rustfmt; do
        rustup component list --installed --toolchain "${RUSTUP_TOOLCHAIN:-$pinned}" 2>/dev/null \
            | grep -q "^$component" \
            || rustup component add --toolchain "${RUSTUP_TOOLCHAIN:-$pinned}" "$component" \
            || die "rustup could not add $component to Rust $pinned"
    done
}

for what in "$@"; do
    case "$what" in
    build)
        install_missing build_packages
        install_rust
        ;;
    test)
        install_missing test_packages
        scripts/kafka-jars.sh
        scripts/registry-jars.sh
        ;;
    *) die "unknown group '$what': build or test" ;;
    esac
done
