# shellcheck shell=bash
# Drains $from: the order of steps, and why it is this one, is in docs/decisions.md. Sourced by handover.sh.

# What keeps $from from being drained, one line each.
outstanding_drain() {
  missing metadata-is-only-in-region region="$to"
  missing partitions-are-led-in-region region="$to"
  missing partitions-live-only-in-region region="$to"
  missing nodes-are-withdrawn region="$from"
  missing_configuration "$LOG_ONE" "$PARTITION_ONE"
  missing records-go-only-to-region region="$to" replication="$LOG_ONE"
}

# What speaks against beginning, one line each. With a handover to the same region under way, $from may be gone.
obstacles_to_drain() {
  missing nodes-carry-the-cluster region="$to"
  if ! $resumed; then
    jq -r --arg from "$from" 'select(.location == $from and .state != "alive")
      | "\(.name) is \(.state): a region that is lost is not handed over by plan"' "$work/nodes"
  fi
  local able quorum members
  able=$(jq -s --arg to "$to" 'map(select(.location == $to and .state == "alive" and .storage_state == "read-write")) | length' "$work/nodes")
  [ "$able" -ge "$copies_one" ] ||
    echo "$to has $able nodes that take records, and $copies_one are needed for $LOG_ONE"
  members=$(nodes_in "$to" | tr , '\n' | wc -l) quorum=$((members / 2 + 1))
  able=$(jq -s --arg to "$to" 'map(select(.location == $to and .state == "alive" and .metadata != "provisioning")) | length' "$work/nodes")
  [ "$able" -ge "$quorum" ] ||
    echo "$to has $able nodes for the metadata store, and its majority would be $quorum of $members"
  missing partitions-have-a-processor-in-region region="$to"
  behind "$to"
  unsaved
}

drain() {
  local id lines order last but node partition other i

  # First, so that from here on the loss of $from takes no majority with it.
  step "the metadata store is in $to alone"
  # shellcheck disable=SC2013 # ids have no spaces
  for id in $(jq -r --arg from "$from" 'select(.location == $from and .metadata == "member") | .id' "$work/nodes" | sort -V); do
    change metadata-server remove-node "$id"
    wait_until "$id has left the metadata store" member_still "$id"
  done
  wait_until "the metadata store is in $to alone" missing metadata-is-only-in-region region="$to"

  if $can_place; then
    # Before anything is taken from $from: a leader that moves by itself moves without warning.
    step "every partition is led from $to"
    lines=$(pins_to "$to")
    change_all "$lines"
    wait_until "every partition is led from $to" missing partitions-are-led-in-region region="$to"

    step "every partition lives in $to alone"
    observe || fail "the cluster does not answer" "Next: $NEXT"
    if [ -n "$(missing partitions-live-only-in-region region="$to")" ]; then
      freeze
      # The leader comes last: that is the one that stays leader when the pins go.
      order="" i=0
      mapfile -t others < <(nodes_in "$to" | tr , '\n')
      while read -r partition node; do
        other=""
        if [ "$partition_copies_one" -gt 1 ]; then
          [ "${others[i % ${#others[@]}]}" != "$node" ] || i=$((i + 1))
          other=${others[i % ${#others[@]}]},
          i=$((i + 1))
        fi
        order+="partitions placement set $partition --replicas $other$node"$'\n'
      done < <(jq -r '"\(.id) \(.leader)"' "$work/partitions")
      change_all "$order"
    fi
    wait_until "every partition lives in $to alone" missing partitions-live-only-in-region region="$to"
    wait_until "the processors in $to have caught up" behind "$to"
  fi

  # All but one node first: any two of those that are left then include one of $to, so that there is no moment at which a
  # record could be written in $from alone. Without force restatectl refuses what the configuration does not allow.
  step "no node of $from is chosen any more"
  last=$(nodes_in "$from") but=""
  [[ $last != *,* ]] || but=${last%,*} last=${last##*,}
  if [ -n "$but" ]; then withdraw "$but"; fi
  if [ -n "$(missing_configuration "$LOG_ONE" "$PARTITION_ONE")" ]; then
    change config set --log-replication "$LOG_ONE" --partition-replication "$PARTITION_ONE"
  fi
  withdraw "$last"
  wait_until "no node of $from is chosen any more" missing nodes-are-withdrawn region="$from"
  wait_until "the configuration keeps to one region" missing_configuration "$LOG_ONE" "$PARTITION_ONE"

  if ! $can_place; then
    step "every partition lives in $to alone, and is led from there"
    wait_until "every partition lives in $to alone" missing partitions-live-only-in-region region="$to"
    wait_until "every partition is led from $to" missing partitions-are-led-in-region region="$to"
    wait_until "the processors in $to have caught up" behind "$to"
  fi

  # A log whose segment is sealed gets a new one from its partition's leader, on nodes that are chosen: those of $to.
  step "every log is written in $to alone"
  renew_logs records-go-only-to-region region="$to" replication="$LOG_ONE"
}

# withdraw IDS: those of the nodes that are not withdrawn yet, separated by commas.
withdraw() {
  local ids
  ids=$(among "$1" '.storage_state == "read-write"')
  [ -z "$ids" ] || change nodes set-storage-state --nodes "$ids" --storage-state read-only
  ids=$(among "$1" '.worker_state == "active"')
  [ -z "$ids" ] || change nodes set-worker-state --nodes "$ids" --worker-state draining
}

# Whether a node is still a member of the metadata store, in words.
member_still() {
  local rows
  rows=$(query "select metadata_server_state as state from nodes where plain_node_id = '$1'") || { echo "the cluster does not answer"; return; }
  jq -r 'select(.state == "member") | "it is still a member"' <<<"$rows"
}
