#!/usr/bin/env bash
# Prints the receipts of handovers in one region's bucket, newest first, as one JSON document on standard output. Reads only.
# Exit code 0 if it could print the document; what it could not read is told under "problems".
#
#   cat aws.sh history.sh | bash -s -- BUCKET AWS_REGION MOST [NUMBER]      (in a Restate pod)
#
# Uses what the Restate image has: bash, coreutils, curl (7.86 or newer), jq; and aws.sh.
#
# {
#   "bucket",
#   "count": number of receipts in the bucket; null if it cannot be listed,
#   "receipts": the newest MOST of them, or the one of handover NUMBER alone, as operations/handover/receipt.sh wrote them,
#   "problems": [{"step": "credentials" | "list" | "read", "bucket", "code", "message"}]
# }
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# problem STEP BUCKET CODE MESSAGE
problem() { problem_line "$@" >>"$work/problems"; }

# list: the receipts' names in $work/names, oldest first, as S3 lists them. Fails, with a problem, if it cannot.
list() {
  local page token=""
  while :; do
    page=$(list_page "$bucket" "$region" handovers/ "$token") || return 1
    grep -o '<Key>handovers/[0-9]*\.json</Key>' <<<"$page" | sed 's:<Key>\(.*\)</Key>:\1:' >>"$work/names" || true
    token=$(next_token <<<"$page")
    [ -n "$token" ] || return 0
  done
}

main() {
  local name count=null only=${4:-}
  bucket=$1 region=$2 url=$(bucket_url "$1" "$2")
  : >"$work/problems" && : >"$work/names" && : >"$work/receipts"
  if take_role "${AWS_REGION:-$region}" restate-history && list; then
    count=$(wc -l <"$work/names")
    while IFS= read -r name; do
      ask read "$bucket" --config <(signed "$region") "$url/$name" >"$work/one" || continue
      jq -c objects "$work/one" >>"$work/receipts" 2>/dev/null || problem read "$bucket" "no receipt" "$name is no JSON"
    done < <(grep -E "^handovers/0*${only:-[0-9]+}\.json\$" "$work/names" | tail -n "$3" | sort -r)
  fi
  jq -nc --arg bucket "$bucket" --argjson count "$count" --slurpfile receipts "$work/receipts" --slurpfile problems "$work/problems" \
    '{bucket: $bucket, count: $count, receipts: $receipts, problems: $problems}'
}

if [ $# -ne 3 ] && [ $# -ne 4 ]; then
  echo "usage: cat aws.sh history.sh | bash -s -- BUCKET AWS_REGION MOST [NUMBER]" >&2
  exit 2
fi
main "$@" </dev/null
# Said here, since the one who sends this through bash -s need not end its input.
exit 0
