# shellcheck shell=bash
# Brings the cluster to both regions: $from is the one that comes back, $to the one that has carried it. Sourced by
# handover.sh.

# What keeps the cluster from being served by both regions, one line each.
outstanding_restore() {
  missing nodes-carry-the-cluster region="$to"
  missing nodes-carry-the-cluster region="$from"
  missing_configuration "$LOG_BOTH" "$PARTITION_BOTH"
  missing records-go-to-both-regions replication="$LOG_BOTH"
  missing partitions-live-in-both-regions
  if $can_place; then missing leaders-are-spread; fi
  missing metadata-is-in-both-regions
}

# What speaks against beginning, one line each.
obstacles_to_restore() {
  missing nodes-carry-the-cluster region="$to"
  jq -r --arg from "$from" 'select(.location == $from and .state != "alive") | "\(.name) is \(.state)"' "$work/nodes"
  unreachable
  missing partitions-have-a-processor-in-region region="$to"
  behind "$to"
  unsaved
}

restore() {
  local first rest ids order partition node other i target

  step "nodes of $from are chosen again"
  if $can_place && [ -n "$(missing nodes-are-withdrawn region="$from")$(missing partitions-live-in-both-regions)" ]; then freeze; fi
  ids=$(among "$(nodes_in "$from")" '.worker_state != "active"')
  [ -z "$ids" ] || change nodes set-worker-state --nodes "$ids" --worker-state active
  # One node, the configuration, then the others: with one, no two nodes that are chosen are both in $from.
  first=$(nodes_in "$from") rest=""
  [[ $first != *,* ]] || rest=${first#*,} first=${first%%,*}
  if [ -n "$rest" ]; then admit "$first"; fi
  if [ -n "$(missing_configuration "$LOG_BOTH" "$PARTITION_BOTH")" ]; then
    change config set --log-replication "$LOG_BOTH" --partition-replication "$PARTITION_BOTH"
  fi
  admit "${rest:-$first}"
  wait_until "nodes of $from are chosen again" missing nodes-carry-the-cluster region="$from"
  wait_until "the configuration asks for both regions" missing_configuration "$LOG_BOTH" "$PARTITION_BOTH"

  step "every log is written in both regions"
  renew_logs records-go-to-both-regions replication="$LOG_BOTH"

  step "every partition lives in both regions"
  if $can_place; then
    observe || fail "the cluster does not answer" "Next: $NEXT"
    mapfile -t others < <(nodes_in "$from" | tr , '\n')
    order="" i=0
    while read -r partition node; do
      # Its processor in $from: the one it has, else the next node in turn. Every second partition will be led there,
      # and the leader comes last.
      other=$(replica_in "$from" "$partition")
      if [ -n "$other" ] && [ -n "$(replica_in "$to" "$partition")" ]; then continue; fi
      other=${other:-${others[i % ${#others[@]}]}}
      i=$((i + 1))
      target="$node,$other"
      [ $((partition % 2)) -eq 0 ] || target="$other,$node"
      order+="partitions placement set $partition --replicas $target"$'\n'
    done < <(jq -r '"\(.id) \(.leader)"' "$work/partitions")
    change_all "$order"
  fi
  wait_until "every partition lives in both regions" missing partitions-live-in-both-regions
  wait_until "the processors in $from have caught up" behind "$from"

  if $can_place; then
    step "each region leads half of the partitions"
    if [ -n "$(missing leaders-are-spread)" ]; then
      observe || fail "the cluster does not answer" "Next: $NEXT"
      change_all "$(pins_to "$from" half)"
    fi
    wait_until "each region leads half of the partitions" missing leaders-are-spread
  fi

  # Last, so that until here the loss of $from takes no majority with it.
  step "the metadata store is in both regions"
  for node in $(jq -r 'select(.metadata != "member") | .id' "$work/nodes" | sort -V); do
    change metadata-server add-node "$node"
    wait_until "$node has joined the metadata store" member_not_yet "$node"
  done
  wait_until "the metadata store is in both regions" missing metadata-is-in-both-regions
}

# admit IDS: those of the nodes that take no records yet, separated by commas.
admit() {
  local ids
  ids=$(among "$1" '.storage_state != "read-write"')
  [ -z "$ids" ] || change nodes set-storage-state --nodes "$ids" --storage-state read-write
}

# replica_in REGION PARTITION: the node there that has a processor of it, if any.
replica_in() {
  jq -nr --arg region "$1" --argjson partition "$2" --slurpfile nodes "$work/nodes" --slurpfile replicas "$work/replicas" '
    [$nodes[] | select(.location == $region) | .id] as $there
    | first($replicas[] | select(.partition == $partition and .membership == "current" and (.node | IN($there[]))) | .node) // ""'
}

# Whether a node is not yet a member of the metadata store, in words.
member_not_yet() {
  local rows
  rows=$(query "select metadata_server_state as state from nodes where plain_node_id = '$1'") || { echo "the cluster does not answer"; return; }
  jq -r 'select(.state != "member") | "it is \(.state)"' <<<"$rows"
}

# The expected nodes that do not answer on their advertised addresses, or are others: what the peers will dial.
unreachable() {
  local i
  for i in "${!names[@]}"; do
    curl --fail --silent --max-time 5 "${all_addresses[$i]}/health" 2>/dev/null | jq -r --arg address "${all_addresses[$i]}" --arg name "${names[$i]}" '
      [.advertised_addresses[]? | select(.name == "message-fabric-server") | .address | rtrimstr("/")] as $own
      | if ($own | length) > 0 and ($own | index($address)) == null
        then "\($name): \($address) leads to the node of \($own[0])" else empty end' 2>/dev/null ||
      echo "${names[$i]} does not answer on ${all_addresses[$i]}"
  done
}
