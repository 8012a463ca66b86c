#!/usr/bin/env bash
# Provisions the cluster once every node of both regions answers, or finds that it is provisioned; then reads the
# cluster to see that it is so, since restatectl exits 0 even when it failed. Changes nothing on a second run. Nodes that a
# handover has withdrawn need not be there.
#
# Environment:
#   CLUSTER                Restate's cluster name
#   NODES                  JSON list of {"name", "address"}, every node of both regions
#   LOG_REPLICATION        e.g. {node: 3, region: 2}
#   PARTITION_REPLICATION  e.g. {region: 2}
#   PARTITIONS             number of partitions
#   TIMEOUT                seconds until this gives up, in all
# Uses what the Restate image has: bash, coreutils, curl, jq, restatectl.
set -euo pipefail
: "${CLUSTER:?}" "${NODES:?}" "${LOG_REPLICATION:?}" "${PARTITION_REPLICATION:?}" "${PARTITIONS:?}" "${TIMEOUT:?}"

say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }
fail() {
  say "FAILED: $1"
  [ $# -lt 2 ] || printf '       %s\n' "${@:2}"
  exit 1
}
expired() { [ "$SECONDS" -ge "$TIMEOUT" ]; }

mapfile -t names < <(jq -r '.[].name' <<<"$NODES")
mapfile -t addresses < <(jq -r '.[].address' <<<"$NODES")
first=${addresses[0]} # the one that restatectl asks

answers=$(mktemp -d) # of each node, by its place in the list: what is wrong with it, and its health as it told it

# fault_of ADDRESS FILE: what is wrong with the node behind an address; empty if it answers and is the right one. Its health is
# kept in the file.
fault_of() {
  local address=$1 health
  if ! health=$(curl --fail --silent --show-error --max-time 5 "$address/health" 2>&1); then
    printf 'does not answer: %s' "${health##*curl: }"
    return
  fi
  printf '%s' "$health" >"$2"
  jq -r --arg cluster "$CLUSTER" --arg address "$address" '
    [.advertised_addresses[]? | select(.name == "message-fabric-server") | .address | rtrimstr("/")] as $own
    | if .cluster_name != $cluster then "belongs to cluster \(.cluster_name), not \($cluster)"
      elif ($own | length) > 0 and ($own | index($address)) == null then "is the node of \($own[0]): its load balancer leads to the wrong pod"
      else "" end' <<<"$health" 2>/dev/null || printf 'gives an answer that is not that of a Restate node'
}

# Rows of a query as JSON; fails if the cluster gives no list. (jq alone is content with an empty answer.)
query() {
  local rows
  rows=$(timeout 20 restatectl --address "$first" sql --json "$1" 2>/dev/null | jq -c 'arrays' 2>/dev/null) || return 1
  [ -n "$rows" ] && printf '%s\n' "$rows"
}

# shellcheck disable=SC2016 # this is jq's
is_withdrawn='def is_withdrawn: .storage_state == "read-only" and .worker_state == "draining" and .metadata_server_state == "standby";'

node_states() { query "select name, state, storage_state, worker_state, metadata_server_state from nodes"; }

# Names of the nodes that hold nothing since a handover: their region may run fewer nodes, or none.
withdrawn() { node_states | jq -r "$is_withdrawn"' .[] | select(is_withdrawn) | .name' 2>/dev/null || true; }

wait_for_nodes() {
  local last="" faults waiting i fault idle=""
  while :; do
    rm -f "$answers"/*
    # All at once: one that does not answer costs seconds.
    for i in "${!names[@]}"; do fault_of "${addresses[$i]}" "$answers/$i.health" >"$answers/$i.fault" & done
    wait
    for i in "${!names[@]}"; do
      [ -s "$answers/$i.fault" ] || { first=${addresses[$i]} && break; }
    done
    if [ -n "$(cat "$answers"/*.fault)" ] && provisioned; then idle=$(withdrawn); fi
    faults=() waiting=""
    for i in "${!names[@]}"; do
      fault=$(<"$answers/$i.fault")
      if [ -n "$fault" ] && grep -qxF -e "${names[$i]}" <<<"$idle"; then continue; fi
      [ -z "$fault" ] || { faults+=("${names[$i]} (${addresses[$i]}) $fault") && waiting+=" ${names[$i]}"; }
    done
    [ ${#faults[@]} -gt 0 ] || break
    if [ "$waiting" != "$last" ]; then
      say "waiting for ${#faults[@]} of ${#names[@]} nodes:"
      printf '       %s\n' "${faults[@]}"
      last=$waiting
    fi
    if expired; then
      fail "after ${TIMEOUT} s these nodes do not answer:" "${faults[@]}" \
        "Look at their load balancers (kubectl get services), names (external-dns) and pods; then run pulumi up again."
    fi
    sleep 2
  done
  say "all ${#names[@]} nodes answer${idle:+, but for those that a handover has withdrawn}"
}

# Whether any node belongs to the cluster already, by what they told last.
provisioned() {
  local health
  for health in "$answers"/*.health; do
    jq -e --arg cluster "$CLUSTER" '.cluster_name == $cluster and .node_id != null' "$health" >/dev/null 2>&1 && return 0
  done
  return 1
}

# What is still missing from the cluster as it should be; empty if nothing is. With "new", replication and metadata
# membership must be those of a cluster that was provisioned just now; an older one may have been handed over since.
missing() {
  local nodes logs partitions
  nodes=$(node_states) || { echo "the cluster's nodes cannot be read"; return; }
  jq -r --argjson expected "$NODES" --arg kind "$1" "$is_withdrawn"'
    . as $rows | $expected[].name as $name | [$rows[] | select(.name == $name)] as $found
    | if ($found | length) == 0 then "node \($name) has not joined"
      elif $kind == "old" and ($found[0] | is_withdrawn) then empty
      elif $found[0].state != "alive" then "node \($name) is \($found[0].state)"
      elif $kind == "new" and $found[0].metadata_server_state != "member" then "node \($name) is no metadata member yet (\($found[0].metadata_server_state))"
      else empty end' <<<"$nodes"
  [ "$1" = new ] || return 0
  logs=$(query "select log_id, replication from logs_tail_segments") || { echo "the cluster's logs cannot be read"; return; }
  partitions=$(query "select p.partition_id, s.effective_mode from partitions p left join partition_state s on p.partition_id = s.partition_id and lower(s.effective_mode) = 'leader'") ||
    { echo "the cluster's partitions cannot be read"; return; }
  jq -r --arg want "$LOG_REPLICATION" --argjson count "$PARTITIONS" '
    def plain: gsub("[ {}]"; "") | split(",") | sort | join(",");
    if length < $count then "\(length) of \($count) logs exist" else empty end,
    (.[] | select((.replication // "" | plain) != ($want | plain)) | "log \(.log_id) is replicated \(.replication // "nowhere"), not \($want)")' <<<"$logs"
  jq -r '.[] | select(.effective_mode == null) | "partition \(.partition_id) has no leader"' <<<"$partitions"
}

wait_for_cluster() {
  local last="" now
  while :; do
    now=$(missing "$1")
    [ -n "$now" ] || break
    if [ "$now" != "$last" ]; then
      say "not yet complete:"
      head -n 12 <<<"$now" | sed 's/^/       /'
      last=$now
    fi
    if expired; then
      fail "after ${TIMEOUT} s the cluster is not as it should be:" "$(head -n 12 <<<"$now")" \
        "Look with restatectl --address $first status; then run pulumi up again."
    fi
    sleep 1
  done
}

wait_for_nodes
if provisioned; then
  say "the cluster is provisioned already"
  wait_for_cluster old
else
  say "provisioning: logs $LOG_REPLICATION, partitions $PARTITION_REPLICATION, $PARTITIONS partitions"
  restatectl --address "$first" provision --yes --num-partitions "$PARTITIONS" --log-provider replicated \
    --log-replication "$LOG_REPLICATION" --partition-replication "$PARTITION_REPLICATION" || true
  wait_for_cluster new
fi
say "done: ${#names[@]} nodes in cluster $CLUSTER"
