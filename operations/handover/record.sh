# shellcheck shell=bash
# The record of handovers, and the lock: one document in the cluster's own metadata store, which both regions see alike and
# which is written only if nobody else has written it meanwhile. Sourced by handover.sh.
#
#   {"number": of the last handover that was completed, 0 if there was none,
#    "serving": what it led to,
#    "receipt": of the last one,
#    "unfinished": what the one that has begun since leads to; null if it came to its end,
#    "lock": null, or {"holder", "number", "to", "step"} of the one that runs}

key=restate-two-regions/handover
lease=${LEASE:-30} # seconds without a sign of life after which a lock is taken over

no_record='{"version":0,"number":0,"serving":"both","receipt":null,"unfinished":null,"lock":null}'
record=$no_record
holder=${HOSTNAME:-handover}-$(head -c 6 /dev/urandom | od -An -tx1 | tr -d ' \n')
locked=false
renewed=0

# read_record: fails if the store does not answer.
read_record() {
  local text
  text=$(ctl metadata get --key "$key" 2>/dev/null | jq -c "$no_record + (if . == null then {} else objects end)" 2>/dev/null) || return 1
  [ -n "$text" ] || return 1
  record=$text
}

# write_record DOCUMENT: fails if somebody else has written since it was read, or the store does not answer. A write
# may arrive and its answer not, so it is read back.
write_record() {
  local version wanted token=$holder.$RANDOM$RANDOM
  { read -r version && read -r wanted; } < <(jq -c --arg token "$token" --argjson record "$record" '$record.version, (.token = $token | .version = 1)' <<<"$1")
  timeout 20 restatectl --address "$at" metadata put --key "$key" --version "$version" --yes - <<<"$wanted" \
    >/dev/null 2>>"$work/restatectl.log" || true
  read_record || { find_address && read_record; } || return 1
  [[ $record == *"\"token\":\"$token\""* ]]
}

# take_lock TO NUMBER LAST: waits for a run that shows no sign of life, and no longer; another that lives is an error, and so is
# one that has ended meanwhile, after the one numbered LAST.
take_lock() {
  local seen since asked
  read_record || fail "the record of handovers cannot be read: the metadata store does not answer" "Next: $NEXT"
  if [ "$(jq '.lock != null' <<<"$record")" = true ]; then
    seen=$(jq .version <<<"$record") since=$SECONDS
    say "another run holds the lock ($(jq -r '.lock | "\(.holder), to \(.to), at \(.step)"' <<<"$record")): is it alive?"
    while [ $((SECONDS - since)) -lt "$lease" ]; do
      sleep 1
      read_record || continue
      [ "$(jq '.lock != null' <<<"$record")" = true ] || break
      if [ "$(jq .version <<<"$record")" != "$seen" ]; then
        fail "another handover runs: $(jq -r '.lock | "\(.holder), to \(.to), at \(.step)"' <<<"$record")" \
          "Nothing was changed. Wait until it has ended. Next: kubectl get jobs -A -l app.kubernetes.io/component=handover"
      fi
    done
    [ "$(jq '.lock != null' <<<"$record")" = false ] || say "no sign of life for $lease s: it is taken over"
  fi
  if [ "$(jq .number <<<"$record")" != "$3" ]; then
    fail "another handover has ended meanwhile: $(jq -r '"\(.number), to \(.serving)"' <<<"$record")" "Nothing was changed. Next: $NEXT"
  fi
  asked=$(jq -c --arg holder "$holder" --arg to "$1" --argjson number "$2" \
    '.lock = {holder: $holder, number: $number, to: $to, step: "begun"} | .unfinished = $to' <<<"$record")
  write_record "$asked" || fail "another handover has begun at the same moment" "Nothing was changed. Next: $NEXT"
  locked=true renewed=$SECONDS
}

# keep_lock: a sign of life, every few seconds; ends the run if somebody else has the lock.
keep_lock() {
  $locked || return 0
  [ $((SECONDS - renewed)) -ge $((lease / 6)) ] || return 0
  local next
  next=$(jq -c --arg step "$step_name" '.lock.step = $step' <<<"$record")
  if write_record "$next"; then
    renewed=$SECONDS
    return 0
  fi
  if [ "$(jq -r '.lock.holder // ""' <<<"$record")" != "$holder" ]; then
    locked=false
    fail "another run has taken this handover over: $(jq -r '.lock.holder // "none"' <<<"$record")" \
      "It goes on from here; this one stops."
  fi
  # The store does not answer: work that is under way goes on for as long as nobody can take the lock over.
  [ $((SECONDS - renewed)) -lt $((lease * 2 / 3)) ] || {
    locked=false
    fail "the metadata store does not answer, and the lock runs out" "Next: $NEXT"
  }
}

# drop_lock: gives the lock back if this run has it.
drop_lock() {
  $locked || return 0
  locked=false
  write_record "$(jq -c '.lock = null' <<<"$record")" || true
}
