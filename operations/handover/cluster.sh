# shellcheck shell=bash
# Reading and changing the cluster, for handover.sh, which sources this. restatectl's exit codes are not believed: what
# was done is read from the cluster afterwards.

say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }

# fail MESSAGE [LINE…]: says what is wrong, one line each, and ends.
fail() {
  say "FAILED: $1"
  [ $# -lt 2 ] || printf '       %s\n' "${@:2}"
  exit 1
}

# The nodes' addresses, those of the region that is to carry the cluster first; the one that answered last is kept in
# $at, since restatectl reads through the first address alone.
at=""
find_address() {
  local address
  for address in $at "${addresses[@]}"; do
    if curl --fail --silent --output /dev/null --max-time 3 "$address/health"; then
      at=$address
      return 0
    fi
  done
  return 1
}

# ctl ARGUMENTS…: one command of restatectl, which may take so many seconds and no longer.
ctl() { timeout 20 restatectl --address "$at" "$@" </dev/null; }

# query SQL: the rows, one JSON object a line. Fails if the cluster gives no answer that is a list.
query() {
  local rows
  if ! rows=$(ctl sql --json "$1" 2>/dev/null | sed -n '/^\[/,$p' | jq -c 'arrays' 2>/dev/null) || [ -z "$rows" ]; then
    find_address || true
    return 1
  fi
  jq -c '.[]' <<<"$rows"
}

# statement FILE [NAME=VALUE…]: the SQL in a file with its :names replaced.
statement() {
  local text pair
  text=$(grep -v '^--' "$here/$1.sql")
  for pair in "${@:2}"; do text=${text//":${pair%%=*}"/"${pair#*=}"}; done
  printf '%s' "$text"
}

# missing FILE [NAME=VALUE…]: what still keeps a gate from holding, one line each; empty if it holds.
missing() {
  local rows
  rows=$(query "$(statement "$@")") || {
    echo "the cluster does not answer the question whether $1"
    return 0
  }
  [ -z "$rows" ] || jq -r .missing <<<"$rows"
}

# wait_until WHAT COMMAND…: repeats a command that prints what is missing until it prints nothing. The deadline is that of
# the whole run; what is still missing then is said in full.
wait_until() {
  local what=$1 last="" now count
  shift
  while :; do
    now=$("$@")
    [ -n "$now" ] || return 0
    if [ "$SECONDS" -ge "$TIMEOUT" ]; then
      mapfile -t lines <<<"$now"
      fail "after $TIMEOUT s, and while waiting that $what, this is still missing:" "${lines[@]}" \
        "Nothing that was done is lost: mend that and start again, it goes on where it stopped. Next: $NEXT"
    fi
    count=$(wc -l <<<"$now")
    if [ "$count" != "$last" ]; then
      say "  waiting that $what: $(head -n 1 <<<"$now")$([ "$count" -le 1 ] || echo ", and $((count - 1)) more")"
      last=$count
    fi
    keep_lock
    sleep 0.2
  done
}

# changes: how many commands that change the cluster were given in this run.
changes=0

# change ARGUMENTS…: a command of restatectl that changes the cluster. What it printed is shown if the gate that follows
# does not hold.
change() {
  keep_lock
  changes=$((changes + 1))
  ctl "$@" --yes >>"$work/restatectl.log" 2>&1 || true
}

# change_all LINES: as change, for each line of arguments, several at a time.
change_all() {
  local line running=0
  keep_lock
  while IFS= read -r line; do
    [ -n "$line" ] || continue
    changes=$((changes + 1))
    # shellcheck disable=SC2086 # a line is several arguments
    ctl $line --yes >>"$work/restatectl.log" 2>&1 &
    running=$((running + 1))
    if [ "$running" -ge 4 ]; then
      wait -n || true
      running=$((running - 1))
    fi
  done <<<"$1"
  wait || true
}

# nodes_in REGION: its nodes' ids, separated by commas, in the order of their numbers.
nodes_in() { jq -r --arg region "$1" 'select(.location == $region) | .id' "$work/nodes" | sort -V | paste -sd,; }

# Reads all that decisions are made from, at once: $work/nodes, partitions, replicas, logs, and the configuration.
observe() {
  query "select plain_node_id as id, name, location, address, state, storage_state, worker_state, metadata_server_state as metadata from nodes" >"$work/nodes" &&
    query "select partition_id as id, leader_plain_node_id as leader, log_id as log from partitions order by partition_id" >"$work/partitions" &&
    query "select partition_id as partition, plain_node_id as node, membership from partition_replica_set" >"$work/replicas" &&
    query "select log_id as log, segment_index as segment, base_lsn as base, replication, nodeset, sequencer from logs_tail_segments order by log_id" >"$work/logs" &&
    query "select partition_id as partition, max(applied_log_lsn) as applied, max(archived_log_lsn) as archived from partition_state group by partition_id order by partition_id" >"$work/progress" &&
    ctl config get >"$work/config" 2>/dev/null
}

# configured log|partition: the replication that the cluster is configured with.
configured() { sed -n "s/^[^A-Z]*${1^} replication: //p" "$work/config" | head -n 1; }
