# shellcheck shell=sh
# Debian packages of deploy/packages.txt, for whoever needs them installed. Sourced by sh and bash.
#
#   packages_list SECTION…     the names of these sections, one a line
#   packages_missing SECTION…  those of them that are not installed
#   packages_install SECTION…  installs what is missing; needs root for that, and says so when it is not

packages_file=${packages_file:-$(dirname "$0")/packages.txt}

packages_list() {
	for packages_section; do
		awk -v want="[$packages_section]" '
			/^\[/ { inside = ($1 == want); found = found || inside; next }
			{ sub(/#.*/, "") }
			inside && NF { print $1 }
			END { exit !found }' "$packages_file" || {
			echo "packages: $packages_file has no section [$packages_section]" >&2
			return 1
		}
	done
}

packages_missing() {
	packages_list "$@" | while read -r packages_name; do
		case $(dpkg-query -W -f '${Status}' "$packages_name" 2>/dev/null) in
		*' installed') ;;
		*) echo "$packages_name" ;;
		esac
	done
}

packages_install() {
	packages_wanted=$(packages_missing "$@") || return 1
	[ -n "$packages_wanted" ] || return 0
	if ! command -v apt-get >/dev/null; then
		echo "packages: this is not a Debian system (no apt-get). Install what matches:" $packages_wanted >&2
		return 1
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "packages: missing, and only root can install them. Run: sudo apt-get install --no-install-recommends" $packages_wanted >&2
		return 1
	fi
	echo "installing from Debian:" $packages_wanted
	packages_log=$(mktemp)
	# lists may be old or absent: refresh them only where the first try fails
	packages_apt $packages_wanted >"$packages_log" 2>&1 ||
		{ apt-get -q update && packages_apt $packages_wanted; } >"$packages_log" 2>&1 || {
		tail -n 15 "$packages_log" >&2
		echo "packages: apt-get could not install" $packages_wanted >&2
		rm -f "$packages_log"
		return 1
	}
	rm -f "$packages_log"
}

packages_apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" </dev/null
}
