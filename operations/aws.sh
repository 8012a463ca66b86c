# shellcheck shell=bash
# What scripts in pods need of AWS: the node's own role, and signed requests to S3. Sourced, or sent before a script that
# needs it; that script defines `problem STEP BUCKET CODE MESSAGE`, which is told what failed.
#
# Takes the role in the way the node does: keys in the environment, web identity, EKS Pod Identity, or the instance
# metadata that kiam answers for. Honours AWS_ENDPOINT_URL (buckets are then addressed by path). Secrets are handed to
# curl through a pipe: never on a command line, in a file, or in what is printed.
# Uses what the Restate image has: bash, coreutils, curl (7.86 or newer), jq.

patience=(--connect-timeout 2 --max-time 4)
empty_hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
key_id="" secret="" session=""

# Text of the first element of that name in XML on standard input.
element() { sed -n "s:.*<$1>\\([^<]*\\)</$1>.*:\\1:p" | head -n 1; }

# A value within double quotes in a curl configuration.
quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# ask STEP BUCKET CURL-ARGUMENTS…: prints the answer's body; tells a problem and fails unless the status is 200.
ask() {
  local step=$1 bucket=$2 answer status
  shift 2
  if ! answer=$(curl --silent --show-error "${patience[@]}" --write-out '\n%{http_code}' "$@" 2>&1); then
    answer=$(grep -m 1 '^curl: ' <<<"$answer" || true)
    problem "$step" "$bucket" unreachable "${answer#curl: }"
    return 1
  fi
  status=${answer##*$'\n'} answer=${answer%$'\n'*}
  if [ "$status" != 200 ]; then
    local code message
    code=$(element Code <<<"$answer") message=$(element Message <<<"$answer")
    answer=${answer:0:200}
    problem "$step" "$bucket" "${code:-HTTP $status}" "${message:-${answer//$'\n'/ }}"
    return 1
  fi
  printf '%s' "$answer"
}

# problem_line STEP BUCKET CODE MESSAGE: a problem as a line of JSON, for scripts that print a document.
problem_line() {
  jq -nc --arg step "$1" --arg bucket "$2" --arg code "$3" --arg message "$4" \
    '{step: $step, bucket: (if $bucket == "" then null else $bucket end), code: $code, message: $message}'
}

# An AWS service's domain: amazonaws.com, or China's.
domain_of() { case $1 in cn-*) echo amazonaws.com.cn ;; *) echo amazonaws.com ;; esac; }

# Keys out of the JSON document that EKS Pod Identity and the instance metadata give.
keys_from_json() {
  key_id=$(jq -r '.AccessKeyId // empty' <<<"$1") secret=$(jq -r '.SecretAccessKey // empty' <<<"$1")
  session=$(jq -r '.Token // empty' <<<"$1")
}

# take_role REGION SESSION_NAME: takes the role, in the order in which AWS's SDKs look.
take_role() {
  local region=$1 answer role
  local metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
  metadata=${metadata%/}/latest/meta-data/iam/security-credentials/
  if [ -n "${AWS_ACCESS_KEY_ID:-}" ]; then
    key_id=$AWS_ACCESS_KEY_ID secret=${AWS_SECRET_ACCESS_KEY:-} session=${AWS_SESSION_TOKEN:-}
  elif [ -n "${AWS_WEB_IDENTITY_TOKEN_FILE:-}" ] && [ -n "${AWS_ROLE_ARN:-}" ]; then
    answer=$(ask credentials "" --data-urlencode "Action=AssumeRoleWithWebIdentity" --data-urlencode "Version=2011-06-15" \
      --data-urlencode "RoleArn=$AWS_ROLE_ARN" --data-urlencode "RoleSessionName=$2" \
      --data-urlencode "WebIdentityToken@$AWS_WEB_IDENTITY_TOKEN_FILE" \
      "${AWS_ENDPOINT_URL_STS:-${AWS_ENDPOINT_URL:-https://sts.$region.$(domain_of "$region")}}/") || return 1
    key_id=$(element AccessKeyId <<<"$answer") secret=$(element SecretAccessKey <<<"$answer")
    session=$(element SessionToken <<<"$answer")
  elif [ -n "${AWS_CONTAINER_CREDENTIALS_FULL_URI:-}" ]; then
    local token=""
    [ -z "${AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE:-}" ] || token=$(<"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    answer=$(ask credentials "" --config <(printf 'header = %s\n' "$(quoted "Authorization: $token")") \
      "$AWS_CONTAINER_CREDENTIALS_FULL_URI") || return 1
    keys_from_json "$answer"
  else
    role=$(ask credentials "" "$metadata") || return 1
    answer=$(ask credentials "" "$metadata${role%%$'\n'*}") || return 1
    keys_from_json "$answer"
  fi
  [ -n "$key_id" ] && [ -n "$secret" ] && return 0
  problem credentials "" "no keys" "the answer holds no access key"
  return 1
}

# signed REGION [HASH]: curl's configuration to sign a request to S3 with a body of that SHA-256; without one, an empty body.
signed() {
  printf 'user = %s\n' "$(quoted "$key_id:$secret")"
  printf 'aws-sigv4 = "aws:amz:%s:s3"\n' "$1"
  printf 'header = "x-amz-content-sha256: %s"\n' "${2:-$empty_hash}"
  [ -z "$session" ] || printf 'header = %s\n' "$(quoted "x-amz-security-token: $session")"
}

# URL of a bucket, without a slash at its end.
bucket_url() {
  local endpoint=${RESTATE_WORKER__SNAPSHOTS__AWS_ENDPOINT_URL:-${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-}}}
  if [ -n "$endpoint" ]; then
    printf '%s/%s' "${endpoint%/}" "$1"
  else
    printf 'https://%s.s3.%s.%s' "$1" "$2" "$(domain_of "$2")"
  fi
}

# list_page BUCKET REGION PREFIX TOKEN: a page of the list of those objects whose names begin so; the first one without a token.
# Without the token in its place the signature would not be right: parameters go by their names.
list_page() {
  ask list "$1" --config <(signed "$2") \
    "$(bucket_url "$1" "$2")?${4:+continuation-token=$4&}list-type=2&prefix=$(jq -rn --arg text "$3" '$text | @uri')"
}

# The token of the page that follows the one on standard input; empty if there is none.
next_token() { element NextContinuationToken | jq -Rr @uri; }

# put BUCKET REGION URL BODY: writes an object of JSON.
put() {
  local hash
  hash=$(printf '%s' "$4" | sha256sum)
  printf '%s' "$4" | ask write "$1" --config <(signed "$2" "${hash%% *}") --request PUT \
    --header "content-type: application/json" --data-binary @- "$3" >/dev/null
}
