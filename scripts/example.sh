#!/usr/bin/env bash
# Sets up and runs an example on a PostgreSQL of its own; leaves nothing running.
#
# usage: scripts/example.sh dictionary|retriever [ARGUMENT…]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
dictionary | retriever) ;;
*) die "there is no example '${1:-}'" "usage: scripts/example.sh dictionary|retriever [ARGUMENT…]" ;;
esac
export S3VECTOR_DEMO_DIR=$S3VECTOR_CACHE/demo/$1

cleanup() {
    end_step
    stop_servers_below "$S3VECTOR_DEMO_DIR"
}

heading "Setup"
lock_cache
trap cleanup EXIT
"$ROOT/scripts/setup.sh" postgres pgrx examples
"$ROOT/scripts/install.sh"
export_tools
heading "${1^}"
# Ctrl-C belongs to the example, which ends as if all was well.
trap : INT
"$S3VECTOR_PYTHON" "$ROOT/examples/start.py" "$@" 9>&-
