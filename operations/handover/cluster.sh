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

# ctl ARGUMENTS…: one command of restatectl, which may take so many seconds and no longer. If the first argument is an address, the
# node there is asked, and no other.
ctl() {
  local to_whom=(--address "$at")
  if [[ $1 == http* ]]; then
    to_whom=(--single-address "$1")
    shift
  fi
  timeout 20 restatectl "${to_whom[@]}" "$@" </dev/null
}

# query SQL [FILTER]: the rows, one JSON object a line, or what the jq filter makes of each. Fails if the cluster gives no answer
# that is a list. (One jq, not one to check and one to print: its start is most of what a question costs here.)
query() {
  local rows
  rows=$(ctl sql --json "$1" 2>/dev/null | sed -n '/^\[/,$p' | jq -rc "arrays | \"rows:\", (.[] | ${2:-.})" 2>/dev/null) && [ -n "$rows" ] || return 1
  rows=${rows#*$'\n'}
  [ "$rows" = 'rows:' ] || printf '%s\n' "$rows"
}

# statement FILE [NAME=VALUE…]: the SQL in a file, without the comment that it begins with, with its :names replaced.
statement() {
  local text pair
  text=$(<"$here/$1.sql")
  while [[ $text == --* ]]; do text=${text#*$'\n'}; done
  for pair in "${@:2}"; do text=${text//":${pair%%=*}"/"${pair#*=}"}; done
  printf '%s' "$text"
}

# missing FILE [NAME=VALUE…]: what still keeps a gate from holding, one line each; empty if it holds. Under at_once the gate is
# only noted.
missing() {
  if ${noting:-false}; then
    gates+=("$(statement "$@")")
  else
    query "$(statement "$@")" .missing || echo "the cluster does not answer the question whether $1"
  fi
}

# at_once COMMAND…: what keeps the gates of these commands from holding, in their order. One question for all: what a question
# costs is hardly what it asks.
at_once() {
  local noting=true gates=() command number sql=""
  for command; do $command; done
  noting=false
  for number in "${!gates[@]}"; do
    sql+="${sql:+ union all }select $number as gate, missing from (${gates[$number]}) gate_$number"
  done
  [ -z "$sql" ] || query "select gate, missing from ($sql) gates order by gate, length(missing), missing" .missing ||
    echo "the cluster does not answer the question what is missing"
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
    [[ $now != *"does not answer"* ]] || find_address || true
    [ -n "$heads" ] || note_heads || true
    sleep 0.1
  done
}

# give_until SECOND COMMAND…: repeats a command that prints what is missing until it prints nothing, or until that second of the run.
give_until() {
  while [ -n "$("${@:2}")" ] && [ "$SECONDS" -lt "$1" ]; do sleep 0.1; done
}

# insist WHAT SECONDS GATE MAKE: gives the commands that MAKE prints until GATE holds: again once something has changed, or
# after so many seconds in which nothing has. (The cluster now and then misses one, and looks by itself twice a minute.)
insist() {
  local what=$1 patience=$2 gate=$3 make=$4 before now until
  now=$("$gate")
  while [ -n "$now" ] && [ "$SECONDS" -lt "$TIMEOUT" ]; do
    if observe; then change_all "$("$make")"; fi
    before=$now until=$((SECONDS + patience))
    # As long as something happens there is nothing to repeat; what is done one by one goes on with the next.
    while now=$("$gate") && [ "$now" = "$before" ] && [ "$SECONDS" -lt "$until" ]; do
      keep_lock
      sleep 0.05
    done
  done
  # It held once, and that is enough: what the cluster takes back by itself is not waited for here.
  [ -z "$now" ] || wait_until "$what" "$gate"
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

# change_all LINES: as change, for each line of arguments for ctl, several at a time.
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

# note_heads: observes, and notes how far each partition is now, for `behind`. Fails if the cluster does not answer; asked again
# where something waits.
heads=""
note_heads() {
  heads=""
  observe || return 1
  heads=$(jq -sr 'map("(\(.partition), \(.applied // 0))") | join(", ")' "$work/progress")
}

# behind REGION: processors there that have not applied what there was when the heads were noted.
behind() {
  if [ -z "$heads" ]; then
    echo "how far the partitions are cannot be read"
  else
    missing replicas-have-applied region="$1" asked="$heads"
  fi
}

# nodes_in REGION [FILTER]: the ids of its nodes, or of those that the jq filter selects, separated by commas, in the order of
# their numbers.
nodes_in() { jq -r --arg region "$1" "select(.location == \$region and (${2:-true})) | .id" "$work/nodes" | sort -V | paste -sd,; }

# lost REGION: whether none of its nodes is alive, as far as was last seen.
lost() { [ -z "$(nodes_in "$1" '.state == "alive"')" ]; }

# together COMMAND…: runs commands, each with its arguments in one word, at the same time and prints what they print, in their
# order. Each question takes a while to be answered, most of which is waiting.
together() {
  local number folder
  folder=$(mktemp -d "$work/together.XXXXXX")
  # shellcheck disable=SC2086 # a command and its arguments
  for ((number = 1; number <= $#; number++)); do ${!number} >"$folder/$number" & done
  wait
  for ((number = 1; number <= $#; number++)); do cat "$folder/$number"; done
  rm -rf "$folder"
}

# Reads all that decisions are made from: $work/nodes, partitions, replicas, logs and progress, a JSON object a line. Fails if
# the cluster does not answer.
observe() {
  local rows name script=""
  rows=$(query "$(statement the-cluster)" '
    def number: if . == null then . else tonumber end;
    if .kind == "node" then "nodes", {id: .a, name: .b, location: .c, state: .d, storage_state: .e, worker_state: .f, metadata: .g, version: .h}
    elif .kind == "partition" then "partitions", {id: (.a | number), leader: .b}
    elif .kind == "replica" then "replicas", {partition: (.a | number), node: .b, membership: .c}
    elif .kind == "log" then "logs", {log: (.a | number), segment: (.b | number), base: (.c | number), replication: .d, nodeset: .e, sequencer: .f}
    else "progress", {partition: (.a | number), applied: (.b | number), archived: (.c | number)} end') || {
    find_address
    return 1
  }
  for name in nodes partitions replicas logs progress; do script+="/^$name\$/{n;w $work/$name"$'\n}\n'; done
  sed -n "$script" <<<"$rows"
}

# missing_configuration LOG PARTITION: how the cluster's configuration differs, in words; what is empty may be anything.
missing_configuration() {
  local text log partition
  text=$(ctl config get 2>/dev/null) || { echo "the cluster's configuration cannot be read"; return; }
  log=$(sed -n 's/^[^A-Z]*Log replication: //p' <<<"$text") partition=$(sed -n 's/^[^A-Z]*Partition replication: //p' <<<"$text")
  [ -z "$1" ] || [ "$log" = "$1" ] || echo "the cluster is configured to replicate logs ${log:-not at all}, not $1"
  [ -z "$2" ] || [ "$partition" = "$2" ] || echo "the cluster is configured to replicate partitions ${partition:-not at all}, not $2"
}
