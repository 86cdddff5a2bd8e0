#!/usr/bin/env bash
# Puts the Consul agent of the tests and the lab at .cache/consul/consul.
# Quick and without network when it is there, or when a consul that is new
# enough is on PATH.
#
# It is Debian's own package, of the suite that last carried one. apt fetches
# and checks it, from the mirror that this machine's apt uses and against
# Debian's archive keys as this machine has them, with lists and caches of its
# own: the machine's stay as they are, and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=bullseye
oldest=1.8.7
target=.cache/consul

# new_enough PROGRAM: it runs, and is what Debian carried or newer.
new_enough() {
  local version
  version=$("$1" version 2>/dev/null | sed -n 's/^Consul v\([0-9][0-9.]*\).*/\1/p') && [[ -n $version ]] &&
    [[ $(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1) == "$oldest" ]]
}

fail() {
  echo "consul: $*" >&2
  echo "consul: put consul $oldest or newer on PATH and try again" >&2
  exit 1
}

if new_enough consul || new_enough "$target/consul"; then
  exit 0
fi

for program in apt-get dpkg-deb flock; do
  command -v "$program" >/dev/null || fail "no $program here to fetch Debian's package with"
done
keys=
for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
  if [[ -r $file ]]; then keys=$file && break; fi
done
[[ -n $keys ]] || fail "this machine has no keys of Debian's archive"

# One fetches, the others wait and find it.
mkdir -p .cache
exec 9>.cache/consul.lock
flock 9
if new_enough "$target/consul"; then
  exit 0
fi

work=$(mktemp -d "$PWD/.cache/consul.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,archives,tree}/partial

# The machine's settings hold, proxies and credentials among them, but for
# installed packages and pins, which are about the machine, not this folder,
# and the sandbox user, who may not enter a home folder, where this may be.
# A release such as this suite has no Valid-Until, so its age needs no excuse.
apt=(apt-get -q
  -o Dir::State::lists="$work/lists"
  -o Dir::State::status=/dev/null
  -o Dir::Cache::archives="$work/archives"
  -o Dir::Cache::pkgcache=
  -o Dir::Cache::srcpkgcache=
  -o Acquire::Languages=none
  -o Acquire::Retries=3
  -o APT::Update::Error-Mode=any
  -o APT::Sandbox::User=root)

# apt itself reads its sources, whichever format they are in, and prints what
# it would fetch: 'URI/dists/SUITE/main/binary-ARCH/...'. Only whole releases
# are of use, not their updates; of a third party's nothing passes Debian's keys.
mapfile -t mirrors < <("${apt[@]}" --print-uris update |
  sed -n "s|^'\(.*\)dists/[a-z]*/main/binary-.*|\1|p" | awk '!seen[$0]++')
((${#mirrors[@]})) || fail "apt has no source that could be a Debian mirror"

# From here on apt looks at one mirror.
apt+=(-o Dir::Etc::sourcelist="$work/mirror.sources"
  -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferences=/dev/null
  -o Dir::Etc::preferencesparts=/dev/null)

fetched=
for mirror in "${mirrors[@]}"; do
  printf '%s\n' "Types: deb" "URIs: $mirror" "Suites: $suite" "Components: main" \
    "Signed-By: $keys" "Targets: Packages" >"$work/mirror.sources"
  if "${apt[@]}" update && (cd "$work" && "${apt[@]}" download consul); then
    fetched=yes
    break
  fi
done >"$work/log" 2>&1
if [[ -z $fetched ]]; then
  cat "$work/log" >&2
  fail "none of this machine's mirrors gave the package"
fi

dpkg-deb -x "$work"/consul_*.deb "$work/tree"
mkdir "$work/whole"
mv "$work/tree/usr/bin/consul" "$work/tree/usr/share/doc/consul/copyright" "$work/whole/"
new_enough "$work/whole/consul" || fail "the package's consul does not run here"

# Renamed as a whole, so that nobody ever finds half of it.
rm -rf "$target"
mv "$work/whole" "$target"
echo "consul: Debian's $("$target/consul" version | head -n 1) is at $target/consul" >&2
