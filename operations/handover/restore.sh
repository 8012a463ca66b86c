# shellcheck shell=bash
# Brings the cluster to both regions: $from is the one that comes back, $to the one that has carried it. Sourced by
# handover.sh.

# What keeps the cluster from being served by both regions, one line each.
outstanding_restore() {
  together "at_once told carrying_nodes returning_nodes logs_apart processors_apart leaders_apart metadata_apart" configuration_apart
}
returning_nodes() { missing nodes-carry-the-cluster region="$from"; }
configuration_apart() { missing_configuration "$LOG_BOTH" "$PARTITION_BOTH"; }
logs_apart() { missing records-go-to-both-regions replication="$LOG_BOTH"; }
processors_apart() { missing partitions-live-in-both-regions; }
leaders_apart() { if $can_pin; then missing leaders-are-spread; fi; }
metadata_apart() { missing metadata-is-in-both-regions; }

# What speaks against beginning, one line each.
obstacles_to_restore() {
  together "at_once carrying_nodes carrying_processors carrying_heads" unreachable
  jq -r --arg from "$from" 'select(.location == $from and .state != "alive") | "\(.name) is \(.state)"' "$work/nodes"
  unsaved
}

restore() {
  # Processors first: until they have caught up, which may take long, every record is written in $to alone, the cluster has no reason
  # to begin a log anew, and leaders stay where the drain has pinned them.
  step "every partition lives in both regions"
  insist "the configuration asks for partitions in both regions" 5 partitions_alone partitions_for_both
  change_all "$(active_workers)"
  insist "every partition lives in both regions" 5 processors_apart active_workers
  note_heads || true
  # In $to too: a drain that was killed may have left a partition's one processor in $from.
  wait_until "the processors in both regions have caught up" together "behind $from" "behind $to"

  # One node that takes records, the configuration, then the others: with one, no two nodes that are chosen are both in $from.
  step "nodes of $from are chosen again"
  change_all "$(admission_of_one)"
  insist "the configuration asks for both regions" 5 configuration_apart configuration_for_both
  insist "nodes of $from are chosen again" 5 returning_nodes admissions

  step "every log is written in both regions"
  insist "every log is written in both regions" 5 logs_apart renewals_in_both

  # Only now, so that until here the loss of $from takes no majority with it.
  step "the metadata store is in both regions"
  insist "the metadata store is in both regions" 3 metadata_apart next_to_join
}

# The last step of a restore, since a log's sequencer follows its leader, and if it is lost with $from nobody can tell how far the log
# is written. A drain has pinned leaders; the cluster's own choice comes first, and where it does not spread them pins stay.
spread_leaders() {
  step "each region leads half of the partitions"
  change_all "$(unpinning)"
  sleep 0.5
  give_until $((SECONDS + ${settle:?} / 2)) leaders_apart
  insist "each region leads half of the partitions" 3 leaders_apart pins_for_half
}

next_to_join() {
  jq -rs 'map(select(.metadata != "member") | .id) | sort_by(.[1:] | tonumber) | .[:1][] | "metadata-server add-node \(.)"' "$work/nodes"
}
# Also towards the one that carried the cluster: a drain that was given up may have left it without leaders.
pins_for_half() { pins_to "$from" half; pins_to "$to" half; }
# Sequenced in $to, wherever a partition is led by now: until the store is in both regions no log may need $from to tell its end.
renewals_in_both() { renewals logs_apart "$(nodes_in "$to"),$(nodes_in "$from")" "$LOG_BOTH" "$(nodes_in "$to")"; }

partitions_alone() { missing_configuration "" "$PARTITION_BOTH"; }
partitions_for_both() { echo "config set --partition-replication ${PARTITION_BOTH// /}"; }
configuration_for_both() { echo "config set --log-replication ${LOG_BOTH// /} --partition-replication ${PARTITION_BOTH// /}"; }

# The command that lets the first node of $from take records, unless one does already (a drain that was given up leaves one)
# or it is the only one; and those that let all of them take records and partitions.
admission_of_one() {
  local all
  all=$(nodes_in "$from")
  if [[ $all = *,* ]] && [ -z "$(nodes_in "$from" '.storage_state == "read-write"')" ]; then
    echo "nodes set-storage-state --nodes ${all%%,*} --storage-state read-write"
  fi
}
admissions() {
  put_into storage read-write '.storage_state != "read-write"'
  active_workers
}
active_workers() { put_into worker active '.worker_state != "active"'; }

# The expected nodes that do not answer on their advertised addresses, or are others: what the peers will dial.
unreachable() {
  local i questions=()
  for i in "${!names[@]}"; do questions+=("answers_as ${names[$i]} ${all_addresses[$i]}"); done
  together "${questions[@]}"
}
answers_as() {
  curl --fail --silent --max-time 5 "$2/health" 2>/dev/null | jq -r --arg address "$2" --arg name "$1" '
    [.advertised_addresses[]? | select(.name == "message-fabric-server") | .address | rtrimstr("/")] as $own
    | if ($own | length) > 0 and ($own | index($address)) == null
      then "\($name): \($address) leads to the node of \($own[0])" else empty end' 2>/dev/null ||
    echo "$1 does not answer on $2"
}
