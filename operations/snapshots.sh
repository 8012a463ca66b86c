#!/usr/bin/env bash
# Tells of the snapshots in one region's bucket, and of their replication to the peer's bucket, as one JSON document on
# standard output. Reads only. Exit code 0 if it could print the document; what it could not read is told under "problems".
#
#   cat aws.sh snapshots.sh | bash -s -- BUCKET AWS_REGION [PEER_BUCKET PEER_AWS_REGION]      (in a Restate pod)
#
# Uses what the Restate image has: bash, coreutils, curl (7.86 or newer), jq; and aws.sh.
#
# {
#   "bucket", "peerBucket",
#   "objects": number of objects in the bucket,
#   "complete": false if there are more than this looked at,
#   "partitions": [{"partition", "lsn" (last record that the newest snapshot holds), "ageSeconds" (of the newest)}],
#   "replication": null without a peer or if either bucket cannot be listed; else objects that the peer's bucket lacks,
#     but for those of snapshots older than one that it has:
#     {"waiting" (S3 has yet to copy them), "oldestWaitingSeconds", "failed" (S3 gave up), "neverCopied" (written before
#      the buckets were replicated), "gone" (copied, then deleted in the peer's bucket), "notLookedAt" (too many)},
#   "problems": [{"step": "credentials" | "list" | "read", "bucket", "code", "message"}]
# }
set -euo pipefail

prefix=snapshots   # of the snapshots' objects in a bucket
most_pages=10      # of 1000 objects, in each bucket
most_heads=100     # objects whose replication status is asked
budget=6           # seconds after which no further page is asked for

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# problem STEP BUCKET CODE MESSAGE
problem() { problem_line "$@" >>"$work/problems"; }

# list NAME BUCKET REGION: the bucket's snapshots as lines of JSON in $work/NAME.objects; $work/NAME.cut exists if there
# are more. Fails, with a problem, if the bucket cannot be listed.
list() {
  local name=$1 bucket=$2 region=$3 page token="" pages=0
  while :; do
    if [ "$pages" -ge "$most_pages" ] || [ "$SECONDS" -ge "$budget" ]; then
      : >"$work/$name.cut"
      return 0
    fi
    page=$(list_page "$bucket" "$region" "$prefix/" "$token") || return 1
    jq -Rsc '
      def element($name): (split("<\($name)>")[1] // "") | split("</\($name)>")[0] // "";
      def text: gsub("&lt;"; "<") | gsub("&gt;"; ">") | gsub("&quot;"; "\"") | gsub("&#34;"; "\"") | gsub("&apos;"; "\u0027") | gsub("&amp;"; "&");
      split("<Contents>")[1:][]
      | {key: (element("Key") | text), etag: (element("ETag") | text),
         modified: (element("LastModified") | sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601)}' <<<"$page" >>"$work/$name.objects"
    token=$(next_token <<<"$page")
    [ -n "$token" ] || return 0
    pages=$((pages + 1))
  done
}

# heads FILE BUCKET REGION: for the keys in the file (lines of JSON texts), lines of "<number> <status> <replication
# status>", in any order, the first key being number 0. All at once.
heads() {
  local url
  url=$(bucket_url "$2" "$3")
  # shellcheck disable=SC2154 # of aws.sh
  curl --silent "${patience[@]}" --parallel --head --write-out '%{urlnum} %{http_code} %header{x-amz-replication-status}\n' \
    --config <(
      signed "$3"
      jq -r --arg url "$url" '"url = \"\($url)/\(split("/") | map(@uri) | join("/"))\"\noutput = \"/dev/null\""' "$1"
    ) 2>/dev/null || true
}

# What the jq programs share: a key's place among the snapshots, and the newest complete snapshot of each partition.
# shellcheck disable=SC2016 # these are jq's variables
places='
  def place: (.key | split("/")) as [$top, $partition, $folder, $file]
    | {partition: ($partition | tonumber? // null), lsn: (if ($folder // "" | startswith("lsn_")) then $folder[4:24] else null end), file: ($file // $folder)};
  def newest: reduce (.[] | place | select(.partition != null and .lsn != null and .file == "metadata.json")) as $p
    ({}; ($p.partition | tostring) as $id | .[$id] = ([.[$id] // "", $p.lsn] | max));'

# compare: what the peer's bucket lacks, or has in another form, oldest first; lines of {key, modified, lacking}.
compare() {
  local bound
  # Beyond the end of a list that was cut nothing is known.
  bound=$(for name in own peer; do [ ! -e "$work/$name.cut" ] || tail -n 1 "$work/$name.objects"; done | jq -sc 'map(.key) | min')
  jq -nc --slurpfile own "$work/own.objects" --slurpfile peer "$work/peer.objects" --argjson bound "$bound" "$places"'
    ($peer | map({key: .key, value: .}) | from_entries) as $there
    | ($peer | newest) as $newest
    | [$own[] | select($bound == null or .key <= $bound) | . as $one | $there[.key] as $copy
       | select($copy == null or ($copy.etag != .etag and $copy.modified <= .modified))
       | place as $place
       | select($place.lsn == null or $place.lsn >= ($newest[$place.partition | tostring] // ""))
       | {key, modified, lacking: ($copy == null)}]
    | sort_by(.modified)[]'
}

# replication PEER_BUCKET PEER_REGION: what became of what the peer lacks.
replication() {
  local refused
  compare >"$work/candidates"
  head -n "$most_heads" "$work/candidates" >"$work/asked"
  : >"$work/heads" && : >"$work/peer.heads"
  if [ -s "$work/asked" ]; then
    jq -c .key "$work/asked" >"$work/keys"
    heads "$work/keys" "$bucket" "$region" >"$work/heads"
    refused=$(awk '$2 != 200 && $2 != 404 { print $2; exit }' "$work/heads")
    [ -z "$refused" ] || problem read "$bucket" "HTTP $refused" "the replication status of objects cannot be read"
    # Copied, and yet it was not there: it came after the list was made, or was deleted.
    jq -Rsc --slurpfile asked "$work/asked" '
      split("\n")[] | select(. != "") | split(" ") | select(.[1] == "200" and (.[2] | IN("COMPLETED", "COMPLETE", "REPLICA")))
      | $asked[.[0] | tonumber] | select(.lacking) | .key' "$work/heads" >"$work/copied"
    [ ! -s "$work/copied" ] || heads "$work/copied" "$1" "$2" >"$work/peer.heads"
  fi
  jq -nc --slurpfile asked "$work/asked" --rawfile heads "$work/heads" --rawfile there "$work/peer.heads" \
    --argjson now "$(date +%s)" --argjson candidates "$(wc -l <"$work/candidates")" '
    def rows: split("\n") | map(select(. != "") | split(" "));
    ($heads | rows) as $rows
    | [$rows[] | select(.[1] == "200") | {status: .[2], at: $asked[.[0] | tonumber].modified}] as $found
    | [$found[] | select(.status == "PENDING")] as $waiting
    | {waiting: ($waiting | length),
       oldestWaitingSeconds: ($waiting | map($now - .at) | max),
       failed: ([$found[] | select(.status == "FAILED")] | length),
       neverCopied: ([$found[] | select(.status == "")] | length),
       gone: ([$there | rows[] | select(.[1] == "404")] | length),
       notLookedAt: ($candidates - ([$rows[] | select(.[1] == "200" or .[1] == "404")] | length))}'
}

main() {
  local peer=${3:-} peer_region=${4:-} own_listed=true peer_listed=false replicated=null waiting
  bucket=$1 region=$2
  : >"$work/problems" && : >"$work/own.objects" && : >"$work/peer.objects"
  if take_role "${AWS_REGION:-$region}" restate-status; then
    if [ -n "$peer" ]; then
      list peer "$peer" "$peer_region" &
      waiting=$!
    fi
    list own "$bucket" "$region" || own_listed=false
    if [ -n "$peer" ] && wait "$waiting"; then peer_listed=true; fi
    if $own_listed && $peer_listed; then replicated=$(replication "$peer" "$peer_region"); fi
  else
    own_listed=false
  fi
  jq -nc --arg bucket "$bucket" --arg peer "$peer" --slurpfile own "$work/own.objects" --slurpfile problems "$work/problems" \
    --argjson now "$(date +%s)" --argjson listed "$own_listed" --argjson replication "$replicated" \
    --argjson cut "$(if [ -e "$work/own.cut" ] || [ -e "$work/peer.cut" ]; then echo true; else echo false; fi)" "$places"'
    ($own | newest) as $newest
    | {bucket: $bucket, peerBucket: (if $peer == "" then null else $peer end),
       objects: (if $listed then $own | length else null end),
       complete: ($listed and ($cut | not)),
       partitions: [$own[] | . as $one | place | select(.partition != null and .file == "latest.json")
         | {partition, lsn: (($newest[.partition | tostring] // null) | if . then tonumber else null end), ageSeconds: ([0, $now - $one.modified] | max)}]
         | sort_by(.partition),
       replication: $replication, problems: $problems}'
}

if [ $# -ne 2 ] && [ $# -ne 4 ]; then
  echo "usage: cat aws.sh snapshots.sh | bash -s -- BUCKET AWS_REGION [PEER_BUCKET PEER_AWS_REGION]" >&2
  exit 2
fi
main "$@" </dev/null
# Said here, since the one who sends this through bash -s need not end its input.
exit 0
