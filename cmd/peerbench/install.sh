#!/bin/sh
# Installs what `make peerbench` compares against and measures with, from the
# distribution's own packages. Quick and silent when everything is there.
#
# The services of the packages are neither started nor left enabled: the
# benchmark starts its own processes with its own configurations, and a proxy
# listening on port 80 is not what someone who runs a benchmark asked for.
set -eu

wanted="nginx haproxy caddy wrk h2load"

# haproxy and nginx live in sbin, which a user's PATH often lacks.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

missing=""
packages=""
for program in $wanted; do
	if ! command -v "$program" >/dev/null 2>&1; then
		missing="$missing $program"
		case $program in
		h2load) packages="$packages nghttp2-client" ;;
		*) packages="$packages $program" ;; # of the same name
		esac
	fi
done
if [ -z "$missing" ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "peerbench: missing$missing and there is no apt-get here: install them by hand" >&2
	exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "peerbench: missing$missing: run this as root or install sudo" >&2
		exit 1
	fi
	as_root="sudo"
fi

# invoke-rc.d and deb-systemd-invoke both ask this script whether they may act
# on a service; 101 is "forbidden by policy". One that exists already is the
# machine's own choice and stays as it is.
policy=/usr/sbin/policy-rc.d
policy_ours=""
remove_policy() {
	if [ -n "$policy_ours" ]; then
		$as_root rm -f "$policy"
		policy_ours=""
	fi
}
trap remove_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e "$policy" ]; then
	policy_ours=yes
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi

echo "peerbench: installing$packages" >&2
log=$(mktemp)
apt() {
	# env, because sudo drops the variables of its caller.
	if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		return 1
	fi
}
apt update || echo "peerbench: package lists are not fresh, trying with what is known" >&2
# shellcheck disable=SC2086 # one word a package is what is meant
if ! apt install --no-install-recommends $packages; then
	rm -f "$log"
	exit 1
fi
rm -f "$log"

# Packages enable their services for the next boot even when they may not start.
if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
	for program in $packages; do
		$as_root systemctl disable "$program" >/dev/null 2>&1 || true
	done
fi

for program in $missing; do
	if ! command -v "$program" >/dev/null 2>&1; then
		echo "peerbench: the packages are installed, but there is no $program on PATH" >&2
		exit 1
	fi
done
