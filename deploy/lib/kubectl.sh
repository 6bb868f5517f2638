# shellcheck shell=sh
# A kubectl for scripts, wherever they run. Sourced by sh; needs nothing but what it falls back to.
#
#   kubectl_find CACHE      decides once: the kubectl on PATH; else Debian's, unpacked into CACHE (the package itself is
#                           not installed: it conflicts with kubectl of other origin); else curl. Sets KUBECTL to the
#                           program, or to "curl". Says on stderr what it chose when that is not the one on PATH.
#   kubectl_run WORDS…      kubectl WORDS with $KUBECONFIG; with curl the same requests for get, describe, label, annotate,
#                           create, apply (JSON) and delete, each shown on stderr before it is made (but for the look of
#                           apply whether the object is there).
#
# CCNODE_KUBECTL=PROGRAM or CCNODE_KUBECTL=curl overrides the choice.

kubectl_find() {
	if [ -n "${CCNODE_KUBECTL:-}" ]; then
		KUBECTL=$CCNODE_KUBECTL
	elif KUBECTL=$(command -v kubectl); then
		:
	elif kubectl_unpack "$1"; then
		KUBECTL=$1/kubectl/usr/bin/kubectl
		echo "kubectl: none on PATH; using Debian's, unpacked in $1/kubectl" >&2
	else
		KUBECTL=curl
		echo "kubectl: none on PATH and none to be had from Debian; the same requests are made by curl and shown" >&2
	fi
	if [ "$KUBECTL" = curl ]; then
		for kubectl_tool in curl jq; do
			command -v "$kubectl_tool" >/dev/null && continue
			echo "kubectl: neither kubectl nor $kubectl_tool is installed: apt-get install curl jq" >&2
			return 1
		done
	fi
}

# Debian's package without its maintainer scripts, once per cache.
kubectl_unpack() {
	[ -x "$1/kubectl/usr/bin/kubectl" ] && return 0
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
	# somebody else may be about the same: each in a folder of its own, and the first one's stays
	mkdir -p "$1" && kubectl_new=$(mktemp -d "$1/kubectl.XXXXXX") || return 1
	(mkdir "$kubectl_new/kubectl" && cd "$kubectl_new/kubectl" && apt-get -qq download kubernetes-client >/dev/null 2>&1 && dpkg-deb -x kubernetes-client_*.deb .) &&
		"$kubectl_new/kubectl/usr/bin/kubectl" version --client >/dev/null 2>&1 &&
		mv -T "$kubectl_new/kubectl" "$1/kubectl" 2>/dev/null
	rm -rf "$kubectl_new"
	[ -x "$1/kubectl/usr/bin/kubectl" ]
}

kubectl_run() {
	if [ "${KUBECTL:?kubectl_find has not been called}" != curl ]; then
		"$KUBECTL" "$@"
		return
	fi
	kubectl_verb=$1
	shift
	case $kubectl_verb in
	get) kubectl_get "$@" ;;
	describe) kubectl_describe "$@" ;;
	label | annotate) kubectl_metadata "$kubectl_verb" "$@" ;;
	create | apply) kubectl_create "$kubectl_verb" "$@" ;;
	delete) kubectl_delete "$@" ;;
	*)
		echo "kubectl: \`$kubectl_verb' needs a real kubectl on PATH" >&2
		return 1
		;;
	esac
}

kubectl_config() {
	sed -n "s/^ *$1: *\"\{0,1\}\([^\"]*\)\"\{0,1\} *$/\1/p" "${KUBECONFIG:?KUBECONFIG is not set}" | head -n 1
}

# kubectl_request METHOD PATH ACCEPT [TYPE BODY]: the answer on stdout; an API error becomes a message and status 1.
kubectl_request() {
	kubectl_server=$(kubectl_config server)
	if [ $# -gt 4 ]; then
		echo "+ curl -X $1 $kubectl_server$2 -H 'Content-Type: $4' -d '$5'" >&2
	else
		echo "+ curl -X $1 $kubectl_server$2 -H 'Accept: $3'" >&2
	fi
	kubectl_tmp=$(mktemp -d) || return 1
	kubectl_config certificate-authority-data | base64 -d >"$kubectl_tmp/ca.crt"
	kubectl_code=$({
		# the token goes through a file, not through the argument list that everybody can read
		kubectl_token=$(kubectl_config token)
		[ -z "$kubectl_token" ] || printf 'header = "Authorization: Bearer %s"\n' "$kubectl_token"
		[ ! -s "$kubectl_tmp/ca.crt" ] || printf 'cacert = "%s"\n' "$kubectl_tmp/ca.crt"
	} | curl -sS --max-time 30 --noproxy '*' -K - -X "$1" -H "Accept: $3" ${4:+-H "Content-Type: $4"} ${5:+--data-binary "$5"} \
		-o "$kubectl_tmp/answer" -w '%{http_code}' "$kubectl_server$2")
	kubectl_failed=$?
	if [ $kubectl_failed -eq 0 ] && [ "$kubectl_code" -lt 300 ]; then
		cat "$kubectl_tmp/answer"
	else
		[ $kubectl_failed -ne 0 ] || jq -r '"Error from server (\(.reason)): \(.message)"' "$kubectl_tmp/answer" >&2
		kubectl_failed=1
	fi
	rm -rf "$kubectl_tmp"
	return $kubectl_failed
}

# kubectl_path KIND [NAME] [NAMESPACE]
kubectl_path() {
	case $1 in
	no | node | nodes) kubectl_base=/api/v1/nodes ;;
	po | pod | pods) kubectl_base=/api/v1/namespaces/${3:-default}/pods ;;
	ev | event | events) kubectl_base=/api/v1/namespaces/${3:-default}/events ;;
	runtimeclass | runtimeclasses) kubectl_base=/apis/node.k8s.io/v1/runtimeclasses ;;
	*)
		echo "kubectl: without a real kubectl only nodes, pods, events and runtimeclasses are known, not \`$1'" >&2
		return 1
		;;
	esac
	echo "$kubectl_base${2:+/$2}"
}

kubectl_get() {
	kubectl_kind='' kubectl_name='' kubectl_out='' kubectl_columns='' kubectl_select='' kubectl_ns=default
	while [ $# -gt 0 ]; do
		case $1 in
		-o | --output) kubectl_out=$2 && shift ;;
		-o*) kubectl_out=${1#-o} ;;
		-L) kubectl_columns=$2 && shift ;;
		-l) kubectl_select=$2 && shift ;;
		-n | --namespace) kubectl_ns=$2 && shift ;;
		-*) echo "kubectl: option $1 needs a real kubectl" >&2 && return 1 ;;
		*) if [ -z "$kubectl_kind" ]; then kubectl_kind=$1; else kubectl_name=$1; fi ;;
		esac
		shift
	done
	kubectl_url=$(kubectl_path "${kubectl_kind%%/*}" "${kubectl_name:-$(expr "$kubectl_kind" : '[^/]*/\(.*\)')}" "$kubectl_ns") || return 1
	[ -z "$kubectl_select" ] || kubectl_url="$kubectl_url?labelSelector=$(printf %s "$kubectl_select" | jq -sRr @uri)"
	kubectl_form=application/json
	case $kubectl_out in
	json) set -- jq . ;;
	name) set -- jq -r --arg kind "${kubectl_kind%%/*}" '"\($kind)/\((.items // [.])[].metadata.name)"' ;;
	'' | wide)
		set -- kubectl_table "$kubectl_out" "$kubectl_columns"
		kubectl_form='application/json;as=Table;v=v1;g=meta.k8s.io'
		;;
	*) echo "kubectl: output $kubectl_out needs a real kubectl" >&2 && return 1 ;;
	esac
	kubectl_answer=$(kubectl_request GET "$kubectl_url" "$kubectl_form") || return 1
	printf '%s\n' "$kubectl_answer" | "$@"
}

kubectl_table() {
	jq -r --arg wide "$1" --arg labels "$2" '
		($labels | split(",") | map(select(. != ""))) as $extra
		| [.columnDefinitions | to_entries[] | select(.value.priority == 0 or $wide == "wide")] as $shown
		| ([$shown[].value.name | ascii_upcase] + [$extra[] | split("/")[-1] | ascii_upcase]),
		  (.rows[] | . as $row | [$shown[] | $row.cells[.key] | tostring] + [$extra[] as $k | $row.object.metadata.labels[$k] // ""])
		| join("\u001f")' | awk -F '\037' '
		{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } if (NF > columns) columns = NF }
		END { for (r = 1; r <= NR; r++) { line = ""; for (i = 1; i <= columns; i++) line = line sprintf("%-" (width[i] + 3) "s", cell[r, i]); sub(/ +$/, "", line); print line } }'
}

kubectl_describe() {
	kubectl_url=$(kubectl_path "${1%%/*}" "${2:-${1#*/}}") || return 1
	kubectl_answer=$(kubectl_request GET "$kubectl_url" application/json) || return 1
	printf '%s\n' "$kubectl_answer" | jq -r '
		def rows: to_entries[] | "  \(.key)=\(.value)";
		"Name: \(.metadata.name)", "Labels:", (.metadata.labels // {} | rows), "Annotations:", (.metadata.annotations // {} | rows),
		"Conditions:", (.status.conditions // [] | .[] | "  \(.type)=\(.status) \(.reason // ""): \(.message // "")"),
		(if .status.capacity then "Capacity:", (.status.capacity | rows), "Allocatable:", (.status.allocatable | rows) else empty end)'
	echo Events:
	kubectl_request GET "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D${2:-${1#*/}}" application/json |
		jq -r '.items[] | "  \(.type) \(.reason) \(.message)"'
}

# label|annotate KIND NAME KEY=VALUE… KEY-… [--overwrite]
kubectl_metadata() {
	kubectl_field=labels
	[ "$1" = label ] || kubectl_field=annotations
	kubectl_done=$1ed
	[ "$1" = label ] || kubectl_done=annotated
	kubectl_url=$(kubectl_path "$2" "$3") || return 1
	kubectl_name=$3
	shift 3
	kubectl_patch='{}' kubectl_over=
	for kubectl_word in "$@"; do
		case $kubectl_word in
		--overwrite) kubectl_over=1 ;;
		*=*) kubectl_patch=$(printf %s "$kubectl_patch" | jq -c --arg k "${kubectl_word%%=*}" --arg v "${kubectl_word#*=}" '.[$k] = $v') ;;
		*-) kubectl_patch=$(printf %s "$kubectl_patch" | jq -c --arg k "${kubectl_word%-}" '.[$k] = null') ;;
		*) echo "kubectl: $kubectl_word is neither KEY=VALUE nor KEY-" >&2 && return 1 ;;
		esac
	done
	if [ -z "$kubectl_over" ]; then
		kubectl_has=$(kubectl_request GET "$kubectl_url" application/json) || return 1
		kubectl_clash=$(printf %s "$kubectl_has" | jq -r --argjson p "$kubectl_patch" --arg f "$kubectl_field" '
			.metadata[$f] // {} | to_entries[] | select($p[.key] != null and $p[.key] != .value) | "\(.key) already has a value (\(.value))"')
		[ -z "$kubectl_clash" ] || { echo "error: $kubectl_clash, and --overwrite is false" >&2 && return 1; }
	fi
	kubectl_request PATCH "$kubectl_url?fieldManager=kubectl-$kubectl_field" application/json application/merge-patch+json \
		"{\"metadata\":{\"$kubectl_field\":$kubectl_patch}}" >/dev/null && echo "$kubectl_name $kubectl_done"
}

# create|apply -f FILE: a JSON object of a known kind (- is standard input)
kubectl_create() {
	[ "$2" = -f ] || { echo "kubectl: without a real kubectl only $1 -f FILE is known" >&2 && return 1; }
	kubectl_body=$(cat -- "$3" | jq -c .) || { echo "kubectl: without a real kubectl $3 must be JSON" >&2 && return 1; }
	kubectl_kind=$(printf %s "$kubectl_body" | jq -r '.kind | ascii_downcase')
	kubectl_name=$(printf %s "$kubectl_body" | jq -r .metadata.name)
	kubectl_ns=$(printf %s "$kubectl_body" | jq -r '.metadata.namespace // "default"')
	kubectl_url=$(kubectl_path "$kubectl_kind" '' "$kubectl_ns") || return 1
	if [ "$1" = apply ] && kubectl_request GET "$kubectl_url/$kubectl_name" application/json >/dev/null 2>&1; then
		kubectl_request PATCH "$kubectl_url/$kubectl_name" application/json application/merge-patch+json "$kubectl_body" >/dev/null &&
			echo "$kubectl_kind/$kubectl_name configured"
	else
		kubectl_request POST "$kubectl_url" application/json application/json "$kubectl_body" >/dev/null && echo "$kubectl_kind/$kubectl_name created"
	fi
}

kubectl_delete() {
	kubectl_url=$(kubectl_path "$1" "$2") || return 1
	kubectl_request DELETE "$kubectl_url" application/json >/dev/null && echo "$1 \"$2\" deleted"
}
