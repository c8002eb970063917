#!/bin/sh
# A few mutants that some dozen clusters find; ops/simulate --mutations tries them all.
set -eu
mutations=$1
"$mutations" --only=none --seeds=50 >/dev/null 2>&1 && { echo "an unknown mutant was accepted"; exit 1; }
exec "$mutations" --seeds=500 \
  --only=flush-forgets-a-member --only=requeued-flush-is-done --only=empty-flush-from-memory \
  --only=barrier-writes-after-a-failed-pre-flush --only=ack-from-one-member \
  --only=fua-from-one-member --only=unknown-commit-taken-for-done --only=last-good-member-leaves \
  --only=flush-without-a-sync --only=lane-with-gaps --only=reclaim-takes-zeros-off-older-data
