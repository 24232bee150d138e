#!/usr/bin/env bash
# Removes what builds and the demo left in the cache folder; with the word `cache`, all of it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -d "$S3VECTOR_CACHE" ] || exit 0
lock_cache
stop_servers_below "$S3VECTOR_CACHE/demo"
if [ "${1:-}" = cache ]; then
    # The folder is named by a variable: only remove one that looks like ours.
    [ -d "$S3VECTOR_CACHE/stamps" ] || die "$S3VECTOR_CACHE holds no stamps: is it our cache folder?"
    rm -rf "$S3VECTOR_CACHE"
else
    rm -rf "$S3VECTOR_CACHE/target" "$S3VECTOR_CACHE/demo" "$S3VECTOR_CACHE/build"
fi
