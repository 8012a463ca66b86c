#!/usr/bin/env bash
# The order of steps in which the original project drains and restores a region, to be measured against ours: metadata
# members first, then states by force, then the configuration, then waiting. It asks nothing beforehand and heeds no exit
# code. What is not the original's: it waits until the conditions hold that end ours, and gives up after CAP seconds.
#
#   original.sh both|region1|region2     which regions are to serve
#
# The last line it prints is {"began", "seconds", "held", "missing", "steps"}: began in UTC, to the millisecond; seconds from
# its first command to the moment when all conditions held.
# Environment: NODES, LOG_BOTH, PARTITION_BOTH, LOG_ONE, PARTITION_ONE as for handover.sh; CAP in seconds.
set -euo pipefail
: "${NODES:?}" "${LOG_BOTH:?}" "${PARTITION_BOTH:?}" "${LOG_ONE:?}" "${PARTITION_ONE:?}" "${CAP:?}"

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
# What the parts below read. The original does not spread leaders, and waiting until they are is no part of what is compared.
# shellcheck disable=SC2034
can_pin=false resumed=false copies_one=0 names=() all_addresses=()
trap 'rm -rf "$work"' EXIT
# shellcheck source=../../operations/handover/cluster.sh
. "$here/cluster.sh"
# shellcheck source=../../operations/handover/drain.sh
. "$here/drain.sh"
# shellcheck source=../../operations/handover/restore.sh
. "$here/restore.sh"

target=$1
# The region that is drained or comes back, and the one that carries the cluster, whose first node is asked.
case $target in
  both) from=${RETURNING:?} ;;
  *) from=$(jq -r --arg to "$target" 'map(.region) | unique | map(select(. != $to))[0]' <<<"$NODES") ;;
esac
to=$(jq -r --arg from "$from" 'map(.region) | unique | map(select(. != $from))[0]' <<<"$NODES")
mapfile -t addresses < <(jq -r --arg to "$to" 'map(select(.region == $to))[].address' <<<"$NODES")
find_address
ids=$(query "select plain_node_id as id from nodes where location = '$from'" | jq -r .id | sort -V | paste -sd,)

began=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
first=$EPOCHREALTIME steps="[]"
passed() { jq -n --arg from "$1" --arg to "$EPOCHREALTIME" '(($to | tonumber) - ($from | tonumber)) * 1000 | round / 1000'; }
step() { steps=$(jq -c --arg step "$1" --argjson at "$(passed "$first")" '. + [{step: $step, at: $at}]' <<<"$steps"); }
order() { ctl "$@" --yes >>"$work/log" 2>&1 || true; }
late() { [ "$(passed "$first" | cut -d. -f1)" -ge "$CAP" ]; }

if [ "$target" = both ]; then
  order metadata-server add-node "$ids"
  order nodes set-storage-state --nodes "$ids" --storage-state read-write --force
  order nodes set-worker-state --nodes "$ids" --worker-state active --force
  order config set --log-replication "$LOG_BOTH" --partition-replication "$PARTITION_BOTH"
  replication=$LOG_BOTH
else
  order metadata-server remove-node "$ids"
  order nodes set-storage-state --nodes "$ids" --storage-state read-only --force
  order nodes set-worker-state --nodes "$ids" --worker-state draining --force
  order config set --log-replication "$LOG_ONE" --partition-replication "$PARTITION_ONE"
  replication=$LOG_ONE
fi
step "commands given"
logs() { query "select log_id from logs_tail_segments where replication is distinct from '$replication'" || echo unanswered; }
until [ -z "$(logs)" ] || late; do sleep 0.2; done
step "logs replicated $replication"

conditions() {
  if [ "$target" = both ]; then
    outstanding_restore
    behind "$from"
  else
    outstanding_drain
    behind "$to"
  fi
}
note_heads
missing=$(conditions)
until [ -z "$missing" ] || late; do
  sleep 0.1
  [ -n "$heads" ] || note_heads
  missing=$(conditions)
done
step "conditions hold"
seconds=$(passed "$first")
order snapshots create
step "snapshots asked for"
jq -nc --arg began "$began" --argjson seconds "$seconds" --arg missing "$missing" --argjson steps "$steps" \
  '{began: $began, seconds: $seconds, held: ($missing == ""), missing: ($missing | split("\n") | map(select(. != ""))), steps: $steps}'
