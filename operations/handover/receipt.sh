# shellcheck shell=bash
# The receipt of a handover: kept with the record in the cluster, and as an object in the bucket of the region where it ran.
# Sourced by handover.sh.

# problem STEP BUCKET CODE MESSAGE: what aws.sh could not do.
problem() { say "  the bucket: $1: $3: $4"; }

# write_receipt NUMBER: completes the handover in the record, and gives the lock back.
write_receipt() {
  local next
  next=$(jq -c --arg noted "$(printf '%s\n' "${steps[@]}")" --argjson number "$1" --arg began "$began" --arg ended "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" --arg to "$TARGET" \
    --argjson asked "$ASKED" --arg unsaved "$unsaved_note" --arg where "${REGION:-}" \
    --slurpfile before "$work/logs.before" --slurpfile after "$work/logs" --slurpfile nodes "$work/nodes" \
    --slurpfile progressed "$work/progress.before" --slurpfile progress "$work/progress" '
    def tails($logs; $progress): [$logs[] | . as $log | {log, segment, base, replication, nodeset,
      applied: (first($progress[] | select(.partition == $log.log) | .applied) // null)}];
    [$noted | split("\n")[] | split("\t")
      | {step: .[0], seconds: (((.[2] | tonumber) - (.[1] | tonumber)) * 1000 | round / 1000), changes: (.[3] | tonumber)}] as $steps
    | {number: $number, from: .serving, to: $to, began: $began, ended: $ended,
     seconds: ($steps | map(.seconds) | add * 1000 | round / 1000),
     askedBy: $asked, ranIn: $where, steps: $steps,
     changes: ($steps | map(.changes) | add),
     nodes: [$nodes[] | {id, name, region: .location, storage: .storage_state, worker: .worker_state, metadata}],
     logsBefore: tails($before; $progressed), logsAfter: tails($after; $progress),
     saved: ($unsaved == "")} as $receipt
    | .number = $number | .serving = $to | .receipt = $receipt | .unfinished = null | .lock = null' <<<"$record")
  write_record "$next" || fail "the handover is done, and its receipt could not be written down: the metadata store does not answer" "Next: $NEXT"
  locked=false
}

# keep_receipt: sees to it that the bucket has the receipt of the last handover. What fails is said, and made good by the
# next run.
keep_receipt() {
  local body url name
  { read -r name && read -r body; } < <(jq -rc 'select(.receipt != null)
    | (.number | tostring | "handovers/" + ("0" * (6 - length)) + . + ".json"), .receipt' <<<"$record") || return 0
  url=$(bucket_url "$BUCKET" "$BUCKET_REGION")/$name
  if take_role "$BUCKET_REGION" restate-handover && put "$BUCKET" "$BUCKET_REGION" "$url" "$body"; then
    say "receipt: s3://$BUCKET/$name"
  else
    say "  the receipt is in the cluster's record and not yet in s3://$BUCKET; the next run puts it there"
  fi
}
