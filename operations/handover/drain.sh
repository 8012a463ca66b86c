# shellcheck shell=bash
# Drains $from: the order of steps, and why it is this one, is in docs/decisions.md. Sourced by handover.sh.

# What keeps $from from being drained, one line each.
outstanding_drain() { together "at_once told metadata_left leaders_left processors_left nodes_left logs_left" configuration_left; }
metadata_left() { missing metadata-is-only-in-region region="$to"; }
leaders_left() { missing partitions-are-led-in-region region="$to"; }
sequencers_left() { missing logs-are-sequenced-in-region region="$to"; }
processors_left() { missing partitions-live-only-in-region region="$to"; }
nodes_left() { missing nodes-are-withdrawn region="$from" but=""; }
configuration_left() { missing_configuration "$LOG_ONE" "$PARTITION_ONE"; }
logs_left() { missing records-go-only-to-region region="$to" replication="$LOG_ONE"; }

# What speaks against beginning, one line each. With a handover to the same region under way, $from may be gone.
obstacles_to_drain() {
  local able quorum members
  if $resumed && lost "$from"; then
    # Its processors wait for logs that take records again: what this run is for.
    at_once carrying_nodes
  else
    at_once carrying_nodes carrying_processors carrying_heads
    unsaved
  fi
  if ! $resumed; then
    jq -r --arg from "$from" 'select(.location == $from and .state != "alive")
      | "\(.name) is \(.state): a region that is lost is not handed over by plan"' "$work/nodes"
  fi
  able=$(jq -s --arg to "$to" 'map(select(.location == $to and .state == "alive" and .storage_state == "read-write")) | length' "$work/nodes")
  [ "$able" -ge "$copies_one" ] ||
    echo "$to has $able nodes that take records, and $copies_one are needed for $LOG_ONE"
  members=$(nodes_in "$to" | tr , '\n' | wc -l) quorum=$((members / 2 + 1))
  able=$(jq -s --arg to "$to" 'map(select(.location == $to and .state == "alive" and .metadata != "provisioning")) | length' "$work/nodes")
  [ "$able" -ge "$quorum" ] ||
    echo "$to has $able nodes for the metadata store, and its majority would be $quorum of $members"
}
carrying_nodes() { missing nodes-carry-the-cluster region="$to"; }
# A run that was killed may have left a partition's one processor in $from: with one node a region, and configured for one copy, the
# cluster may keep that one. The next run brings it back to $to first.
carrying_processors() { "${unfinished:?}" || processors_missing; }
processors_missing() { missing partitions-have-a-processor-in-region region="$to"; }
carrying_heads() { behind "$to"; }

drain() {
  local spare

  if $unfinished && ! lost "$from" && [ -n "$(processors_missing)" ]; then
    step "every partition has a processor in $to"
    insist "every partition has a processor in $to" 5 processors_missing both_again
    note_heads || true
    wait_until "the processors in $to have caught up" behind "$to"
  fi

  # First, while nothing was taken from $from yet: a leader that is asked to move hands over in a blink, and callers notice one
  # that loses its node. Those in $to are kept where they are too, also afterwards: with nothing asked of it the cluster leads from
  # the last of a partition's nodes, and would move each leader when its partition gets another node, and once more when that goes.
  # If the node is lost another one leads all the same.
  if $can_pin; then
    step "every partition is led from $to"
    insist "every partition is led from $to" 2 leaders_to_move pins
  fi

  # Then what knows how far each log is written, so that no log needs $from for that once the metadata store has left it.
  step "every log is sequenced in $to"
  insist "every log is sequenced in $to" 3 sequencers_to_move sequencers_there

  # Then the store, so that from here on the loss of $from takes no majority with it.
  step "the metadata store is in $to alone"
  # One by one: each is proved before the next is asked for.
  insist "the metadata store is in $to alone" 3 metadata_left next_to_leave

  # All but one node first: any two of those that are left then include one of $to, so that there is no moment at which a
  # record could be written in $from alone. Without force restatectl refuses what the configuration does not allow. Each is
  # proved before the next is asked for: a command that was lost must not leave two of $from under what one region needs.
  step "no node of $from is chosen any more"
  spare=$(nodes_in "$from") spare=${spare##*,}
  insist "no node of $from but $spare is chosen" 5 others_left withdrawals_of_others
  insist "the configuration keeps to one region" 5 configuration_left configuration_for_one
  insist "no node of $from is chosen any more" 5 nodes_left withdrawals

  step "every log is written in $to alone"
  insist "every log is written in $to alone" 5 logs_left renewals_in_one

  step "every partition lives in $to alone, and is led from there"
  wait_until "every partition lives in $to alone" processors_left
  wait_until "every partition is led from $to" leaders_left
  note_heads || true
  wait_until "the processors in $to have caught up" behind "$to"
}

# The command that asks for both regions once more, as far as nodes of $from are still chosen for it; without them the cluster
# makes processors in $to by itself.
both_again() {
  if [ -z "$(nodes_in "$from" '.worker_state == "active"')" ]; then return; fi
  if [ -n "$(nodes_in "$from" '.storage_state == "read-write"')" ]; then configuration_for_both; else partitions_for_both; fi
}
next_to_leave() {
  jq -rs --arg from "$from" 'map(select(.location == $from and .metadata == "member") | .id) | sort_by(.[1:] | tonumber) | .[:1][]
    | "metadata-server remove-node \(.)"' "$work/nodes"
}
pins() { pins_to "$to"; }
# Leaders that can still be asked to move. If $from is lost meanwhile, its partitions get others once their logs are written in
# $to alone: until then no record can be written at all.
leaders_to_move() {
  local left
  ! lost "$from" || return 0
  left=$(leaders_left)
  if [ -n "$left" ]; then
    printf '%s\n' "$left"
  elif [ "$changes" -eq "${step_changes:?}" ]; then
    echo "the leaders in $to are not kept there"
  fi
}
# Sequencers that can still be moved, which takes nodes in both regions.
sequencers_to_move() { lost "$from" || sequencers_left; }
sequencers_there() { moves_of_sequencers sequencers_left "$(nodes_in "$to")"; }
renewals_in_one() { renewals logs_left "$(nodes_in "$to")" "$LOG_ONE"; }

others_left() { missing nodes-are-withdrawn region="$from" but="$spare"; }
withdrawals_of_others() { withdrawals "$spare"; }
configuration_for_one() { echo "config set --log-replication ${LOG_ONE// /} --partition-replication ${PARTITION_ONE// /}"; }

# withdrawals [BUT]: the commands that withdraw the nodes of $from that are still chosen, but the one.
withdrawals() {
  put_into storage read-only ".storage_state == \"read-write\" and .id != \"${1:-}\""
  put_into worker draining ".worker_state == \"active\" and .id != \"${1:-}\""
}
