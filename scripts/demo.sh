#!/usr/bin/env bash
# Sets up and runs the demo.
#
# usage: scripts/demo.sh run file|s3 ROWS      build, load, index, ask; leaves nothing running
#        scripts/demo.sh shell file|s3         psql inside the cluster the last run left
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERB=${1:-} STORAGE=${2:-}
case $STORAGE in
file) PARTS=(postgres pgrx) ;;
s3) PARTS=(postgres pgrx garage) ;;
*) die "STORAGE is '$STORAGE'" "it can be file or s3" ;;
esac
# Each kind of storage keeps a cluster of its own to come back to.
export S3VECTOR_DEMO_DIR=$S3VECTOR_CACHE/demo/$STORAGE

cleanup() {
    end_step
    stop_servers_below "$S3VECTOR_DEMO_DIR"
}

case $VERB in
run)
    heading "Setup"
    lock_cache
    trap cleanup EXIT
    "$ROOT/scripts/setup.sh" "${PARTS[@]}"
    "$ROOT/scripts/install.sh"
    export_tools
    "$S3VECTOR_PYTHON" "$ROOT/demo/demo.py" --storage "$STORAGE" --rows "${3:-10000}" 9>&-
    ;;
shell)
    [ -d "$S3VECTOR_DEMO_DIR/data" ] || die "there is no cluster to open" "run first: make demo STORAGE=$STORAGE"
    export_tools
    trap cleanup EXIT
    # Ctrl-C belongs to psql, where it cancels a query.
    trap : INT
    "$S3VECTOR_PYTHON" "$ROOT/demo/shell.py" --storage "$STORAGE"
    ;;
*) die "unknown verb '$VERB'" "usage: scripts/demo.sh run|shell file|s3 [ROWS]" ;;
esac
