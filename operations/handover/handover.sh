#!/usr/bin/env bash
# Brings the cluster to the regions that are to serve it: drains a region, or restores it. It reads the cluster, does the
# least that is missing, and proves each step by a gate: an SQL file named after what it proves, whose rows are what is
# missing. Killed at any moment and started again, it goes on; on a cluster that is there already it changes nothing.
#
#   handover.sh run      does it; the last line it prints is the receipt of the last handover, as JSON
#   handover.sh check    changes nothing; prints one JSON document: {"serving", "number", "target", "outstanding", "obstacles"}
#
# Environment:
#   CLUSTER         Restate's cluster name
#   NODES           JSON list of {"name", "region", "address"}: every node of both regions
#   TARGET          both, region1 or region2
#   AFTER, BEFORE   number of the last handover that the one who asks knows, and who served then; empty: whatever it is
#   LOG_BOTH, PARTITION_BOTH, LOG_ONE, PARTITION_ONE    replication with both regions serving, and with one
#   ASKED           JSON: who asked
#   TIMEOUT         seconds that a run may take, in all
#   MAX_UNSAVED     records that a partition may have since its last snapshot
#   BUCKET, BUCKET_REGION    where the receipt goes
#   NEXT            the command to type to start this again
# Uses what the Restate image has: bash, coreutils, curl (7.86 or newer), jq, restatectl.
set -euo pipefail
: "${CLUSTER:?}" "${NODES:?}" "${TARGET:?}" "${LOG_BOTH:?}" "${PARTITION_BOTH:?}" "${LOG_ONE:?}" "${PARTITION_ONE:?}"
: "${ASKED:?}" "${TIMEOUT:?}" "${MAX_UNSAVED:?}" "${BUCKET:?}" "${BUCKET_REGION:?}" "${NEXT:?}"

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
: >"$work/restatectl.log"
# shellcheck source=cluster.sh
. "$here/cluster.sh"
# shellcheck source=record.sh
. "$here/record.sh"
# shellcheck source=drain.sh
. "$here/drain.sh"
# shellcheck source=restore.sh
. "$here/restore.sh"
# shellcheck source=../aws.sh
. "$here/aws.sh"
# shellcheck source=receipt.sh
. "$here/receipt.sh"

mode=${1:-run}
finish() {
  local code=$?
  drop_lock 2>/dev/null || true
  if [ "$code" -ne 0 ] && [ "$mode" = run ] && [ -s "$work/restatectl.log" ]; then
    echo "       restatectl said last:"
    grep -v '^ *$' "$work/restatectl.log" | tail -n 6 | sed 's/^/         /'
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# step WHAT: begins a step; the last one's name, begin, end and changes are noted for the receipt. The first one begins with the
# script, so that the steps' seconds are all that a run took.
began=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
steps=() step_name="looking at what speaks against it" step_began=$EPOCHREALTIME step_changes=0
step() {
  steps+=("$step_name"$'\t'"$step_began"$'\t'"$EPOCHREALTIME"$'\t'$((changes - step_changes)))
  step_name=$1 step_began=$EPOCHREALTIME step_changes=$changes
  [ -z "$1" ] || say "$1"
}

# copies REPLICATION: on how many nodes.
copies() { sed -n 's/.*node: \([0-9]*\).*/\1/p' <<<"$1"; }

# put_into KIND STATE FILTER: the command that puts the storage or the worker of those nodes of $from that the jq filter selects
# into a state; none if there are none.
put_into() {
  local ids
  ids=$(nodes_in "$from" "$3")
  [ -z "$ids" ] || echo "nodes set-$1-state --nodes $ids --$1-state $2"
}

# unsaved: partitions with more records since their last snapshot than are allowed.
unsaved() {
  jq -r --argjson most "$MAX_UNSAVED" '((.applied // 0) - (.archived // 0)) as $records | select($records > $most)
    | "partition \(.partition): \($records) records since its last snapshot\(if .archived == null then " (none is known of)" else "" end), and \($most) are allowed"' "$work/progress"
}

# pins_to REGION [half]: the commands that ask for each partition's leader in the region: the one it has, if it is there, or its
# processor there. With half: only for so many that are led elsewhere that the region leads half of all.
pins_to() {
  jq -nr --arg region "$1" --arg half "${2:-}" --slurpfile nodes "$work/nodes" --slurpfile partitions "$work/partitions" --slurpfile replicas "$work/replicas" '
    [$nodes[] | select(.location == $region) | .id] as $there
    | [$partitions[] | select(.leader | IN($there[]) | not)] as $elsewhere
    | ((($partitions | length) / 2 | floor) - (($partitions | length) - ($elsewhere | length))) as $wanted
    # Those whose order of processors has the leader to be last come first.
    | (if $half == "" then $partitions else ($elsewhere | sort_by([.id % 2, .id]))[:([$wanted, 0] | max)] end)
    | map(.id as $id | {id: $id, node: first((.leader | select(IN($there[]))),
        ($replicas[] | select(.partition == $id and .membership == "current" and (.node | IN($there[]))) | .node))})
    | group_by(.node)[]
    | "partitions leadership pin --node \(.[0].node) \(map(.id | tostring) | join(" "))"'
}
# The command that leaves all leaders to the cluster.
unpinning() { echo "partitions leadership unpin $partition_range"; }

# renewals GATE NODES REPLICATION [SEQUENCERS]: for each log for which the gate does not hold, the command that seals its newest
# segment and begins one on some of the given nodes, sequenced by one of the nodes SEQUENCERS, or by any of them. The segment is on as
# many nodes as the cluster would choose, by turns of both regions: in place of a larger set it never chooses another, also if one
# of the nodes has lost its volume.
renewals() {
  # shellcheck disable=SC2016 # a jq program
  each_log "$1" "${4:-$2}" '
    def from($start): if length == 0 then . else .[$start % length:] + .[:$start % length] end;
    [$alive[] | select(.id | IN($nodes | split(",")[]))] as $able
    | first($able[] | select(.id == $sequencer) | .location) as $home
    | ([$able[] | select(.location != $home) | .id] | from($id)) as $away
    | ([$able[] | select(.location == $home and .id != $sequencer) | .id] | from($id)) as $near
    | [$sequencer, ([$away, $near] | transpose | flatten[] | values)][:$size]
    | "--replication \($replication) --nodeset \(join(","))"' \
    --arg nodes "$2" --arg replication "${3// /}" --argjson size $((2 * $(copies "$3") - 1))
}

# moves_of_sequencers GATE SEQUENCERS: the same, with nothing changed but the sequencer.
moves_of_sequencers() { each_log "$1" "$2" '""'; }

# each_log GATE SEQUENCERS PROGRAM [OPTION…]: `logs reconfigure` for each log for which the gate does not hold, with what a jq program,
# which may need options, says of its partition besides its sequencer. That is, of those of the nodes that are alive, the partition's
# leader or else another of its processors: without one that lives, a partition whose log was lost with a region never gets a leader.
# The command is given to the old sequencer, if it is alive: it alone knows for certain what was written, also where so
# many nodes are lost that the others cannot tell.
each_log() {
  local ids
  ids=$("$1" | sed -n 's/^log \([0-9]*\) .*/\1/p' | jq -sc .)
  jq -r --argjson ids "$ids" --arg sequencers "$2" --argjson known "$NODES" "${@:4}" \
    --slurpfile all "$work/nodes" --slurpfile replicas "$work/replicas" --slurpfile logs "$work/logs" '
    [$all[] | select(.state == "alive")] as $alive
    | [$alive[].id | select(IN($sequencers | split(",")[]))] as $candidates
    | select(.id | IN($ids[])) | .id as $id
    | first((.leader, ($replicas[] | select(.partition == $id) | .node)) | select(IN($candidates[]))) as $sequencer
    | first($logs[] | select(.log == $id) | .sequencer // "" | split(":")[0]) as $old
    | (first($alive[] | select(.id == $old) | .name as $name | $known[] | select(.name == $name) | "\(.address) ") // "")
      + "logs reconfigure --log-id \($id) --provider replicated " + ('"$3"') + " --sequencer \($sequencer)"' "$work/partitions"
}

# unexpected: how the cluster's nodes differ from those that the stack knows.
unexpected() {
  jq -nr --argjson expected "$NODES" --slurpfile nodes "$work/nodes" '
    ($expected[] | . as $one | [$nodes[] | select(.name == $one.name)] as $found
      | if ($found | length) == 0 then "\(.name) has not joined the cluster"
        elif ($found | length) > 1 then "\(.name) is there \($found | length) times"
        elif $found[0].location != .region then "\(.name) is in \($found[0].location), not in \(.region)"
        else empty end),
    ($nodes[] | select(.location | IN($expected[].region) | not) | "\(.name) is in \(.location), a region that nobody expects"),
    ($nodes[] | select(.location | IN($expected[].region)) | select(.name | IN($expected[].name) | not) | "\(.name) is not known to the stack")'
}

# Which region is drained or comes back, $from, and which carries the cluster, $to.
resolve() {
  mapfile -t regions < <(jq -r 'map(.region) | unique[]' <<<"$NODES")
  [ ${#regions[@]} -eq 2 ] || fail "the nodes are in ${#regions[@]} regions (${regions[*]}), and a handover needs two" "Next: $NEXT"
  case $TARGET in
    "${regions[0]}") to=${regions[0]} from=${regions[1]} ;;
    "${regions[1]}") to=${regions[1]} from=${regions[0]} ;;
    both) to="" ;;
    *) fail "there is no region $TARGET: there are ${regions[*]}" "Set restate:serving to both, ${regions[0]} or ${regions[1]} in Pulumi.yaml." ;;
  esac
  mapfile -t names < <(jq -r '.[].name' <<<"$NODES")
  mapfile -t all_addresses < <(jq -r '.[].address' <<<"$NODES")
  mapfile -t addresses < <(jq -r --arg to "${to:-${REGION:-}}" 'sort_by(.region != $to)[].address' <<<"$NODES")
  copies_one=$(copies "$LOG_ONE")
}

# knows_pins: whether leaders can be asked for, which is so since 1.7. One older node is enough that they cannot: whoever controls the
# cluster moves leaders, and may be that one.
knows_pins() {
  [ "$(printf '%s\n' 1.7 "${versions[0]:-}" | sort -V | head -n 1)" = 1.7 ] &&
    restatectl partitions leadership pin --help >/dev/null 2>&1
}

look() {
  local i
  for i in 1 2 3 4 5; do
    if find_address && note_heads && read_record; then break; fi
    [ "$i" -lt 5 ] || fail "the cluster does not answer: none of ${addresses[*]}" \
      "Nothing was changed. Look at the pods (kubectl get pods) and their load balancers (kubectl get services). Next: $NEXT"
    sleep 1
  done
  # Each once, the oldest first, as far as they are told.
  mapfile -t versions < <(jq -r '.version | values' "$work/nodes" | sort -uV)
  can_pin=false
  if knows_pins; then can_pin=true; fi
  partition_count=$(jq -s length "$work/partitions")
  [ "$partition_count" -gt 0 ] || fail "the cluster has no partitions: it is not provisioned" "Nothing was changed. Next: npm run up"
  partition_range=$(jq -s '"\(map(.id) | min)-\(map(.id) | max)"' -r "$work/partitions")
  if [ -z "$to" ]; then
    # The one that is not whole comes back; if both are, or neither, the order does not matter.
    from=$(jq -rs --arg first "${regions[1]}" 'map(select(.storage_state != "read-write" or .worker_state != "active" or .metadata != "member"))
      | (map(.location) | unique) as $all | if ($all | length) == 1 then $all[0] else $first end' "$work/nodes")
    to=${regions[0]}
    [ "$from" != "$to" ] || to=${regions[1]}
  fi
  # Also whether a run did not come to its end, and whether that was to the same regions.
  read -r number serving unfinished resumed < <(jq -r --arg to "$TARGET" '"\(.number) \(.serving) \(.unfinished != null) \(.unfinished == $to)"' <<<"$record")
}

leaders_moved_meanwhile() { if $can_pin && [ "$TARGET" = both ]; then pins_for_half; fi; }
told() { missing everything-is-told nodes="${#names[@]}" partitions="$partition_count"; }
outstanding() {
  if [ "$TARGET" = both ]; then outstanding_restore; else outstanding_drain; fi
}
obstacles() {
  unexpected
  if [ "$TARGET" = both ]; then obstacles_to_restore; else obstacles_to_drain; fi
}

# What keeps this run from being the next handover, in words: someone else was there since the stack looked last, and what was asked for
# would undo it. Handovers there and back in between change nothing about what was asked.
stale() {
  [ -n "${AFTER:-}" ] && [ "$number" -gt "$AFTER" ] || return 0
  [ "$serving" != "$TARGET" ] && [ "$serving" != "${BEFORE:-}" ] || return 0
  jq -r --argjson after "$AFTER" '"handover \(.number) to \(.serving) came after handover \($after), the last that this stack knew"' <<<"$record"
}

check() {
  local open against
  open=$(outstanding) against=""
  [ -z "$open" ] || against=$(stale; obstacles_settled)
  jq -nc --argjson record "$record" --arg target "$TARGET" --arg open "$open" --arg against "$against" \
    'def lines: split("\n") | map(select(. != ""));
     {serving: $record.serving, number: $record.number, target: $target, outstanding: ($open | lines), obstacles: ($against | lines)}'
}

# obstacles_settled: those that are still there after so many seconds: a processor is always a little behind one that writes. In a run,
# nine times as many if nothing is missing but snapshots that nobody knows of: a node that has started anew looks within a minute which
# there are.
settle=${SETTLE:-8}
obstacles_settled() {
  local lines until began=$SECONDS
  while :; do
    lines=$(obstacles) until=$((began + settle))
    if [ "$mode" = run ] && [ "$SECONDS" -lt "$TIMEOUT" ] && ! grep -qvF "(none is known of)" <<<"$lines"; then
      until=$((began + 9 * settle))
    fi
    [ -n "$lines" ] && [ "$SECONDS" -lt "$until" ] || break
    if [[ $lines == *" has applied "* ]]; then
      give_until "$until" behind "$to"
    else
      sleep 0.5
    fi
    if [ -n "$heads" ]; then observe || true; else note_heads || true; fi
  done
  [ -z "$lines" ] || printf '%s\n' "$lines"
}

run() {
  local open against order
  against=$(stale)
  [ -z "$against" ] || fail "$against" "Nothing was changed. The stacks have to take note of it: set restate:serving to $serving in Pulumi.yaml, and npm run up." \
    "If $TARGET is still wanted, ask for it then. Next: npm run history"
  open=$(outstanding)
  if [ -z "$open" ] && [ "$serving" = "$TARGET" ] && ! $unfinished; then
    say "the cluster is served by $TARGET already (handover $number): nothing to change"
    keep_receipt
    jq -c .receipt <<<"$record"
    return 0
  fi
  order=$number
  [ "$serving" = "$TARGET" ] || order=$((number + 1))
  say "handover $order: $serving -> $TARGET; $(grep -c . <<<"$open" || true) things to do"
  [ ${#versions[@]} -le 1 ] || say "  nodes run $(printf '%s\n' "${versions[@]}" | paste -sd, | sed 's/,/ and /g')$($can_pin || echo ": leaders cannot be asked to move")"
  say "$step_name"
  # In full, and before anything is changed.
  if [ -n "$open" ]; then
    against=$(obstacles_settled)
    if [ -n "$against" ]; then
      mapfile -t lines <<<"$against"
      fail "the cluster cannot be handed over to $TARGET; nothing was changed:" "${lines[@]}" "Next: npm run status, then $NEXT"
    fi
  fi
  take_lock "$TARGET" "$order" "$number"
  observe || fail "the cluster does not answer" "Next: $NEXT"
  cp "$work/logs" "$work/logs.before"
  cp "$work/progress" "$work/progress.before"
  if [ "$TARGET" = both ]; then
    [ -z "$open" ] || restore
    # Also where nothing else is left to do: a run that was killed may have left some pinned.
    ! $can_pin || spread_leaders
  elif [ -n "$open" ]; then
    drain
  fi
  step "all of it still holds"
  insist "all that was done still holds" 3 outstanding leaders_moved_meanwhile
  step "a snapshot holds what was written before"
  save
  step ""
  observe || fail "the cluster does not answer" "Next: $NEXT"
  write_receipt "$order"
  keep_receipt
  say "done: the cluster is served by $TARGET (handover $order)"
  jq -c .receipt <<<"$record"
}

# save: has snapshots made, so that nothing depends on records that the drained nodes hold; once more if the cluster has
# begun further segments meanwhile. What cannot be saved now is noted in the receipt and does not undo the handover.
unsaved_note=""
save() {
  local until=$((SECONDS + 60)) asked="" lines
  while :; do
    lines=$(missing snapshots-cover-older-records)
    [ -n "$lines" ] || return 0
    [ "$SECONDS" -lt "$until" ] && [ "$SECONDS" -lt "$TIMEOUT" ] || break
    if [ -z "$asked" ] || [ $((SECONDS - asked)) -ge 5 ]; then
      asked=$SECONDS
      change snapshots create
    else
      keep_lock
      sleep 0.3
    fi
  done
  unsaved_note=$lines
  say "  not saved yet: $(head -n 1 <<<"$lines")"
}

case $mode in
  run | check) ;;
  *) echo "usage: handover.sh run|check" >&2 && exit 2 ;;
esac
resolve
look
$mode
