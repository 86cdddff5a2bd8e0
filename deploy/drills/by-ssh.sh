#!/bin/sh
# Breaks and mends, over ssh as root, what a drill asks for: by-ssh.sh break or
# by-ssh.sh mend, with the fault in GRAYFED_FAULT_*. The file machines says what
# is where. All that it breaks mends itself after 15 minutes, even when the
# drill and the machine that it ran on are gone. Mending what is not broken is
# no error.
set -eu
cd "$(dirname "$0")"

case ${1-} in
break | mend) what=$1 ;;
*) echo "usage: by-ssh.sh break|mend" >&2 && exit 2 ;;
esac

case ${GRAYFED_FAULT_KIND-} in
etcd-gone) GRAYFED_FAULT_KIND=kill GRAYFED_FAULT_PARTS='*/etcd' ;;
consul-gone) GRAYFED_FAULT_KIND=kill GRAYFED_FAULT_PARTS='*/consul' ;;
subset-crash) GRAYFED_FAULT_KIND=kill ;;
kill | freeze | partition) ;;
*) echo "by-ssh.sh does not do a fault ${GRAYFED_FAULT_KIND-}" >&2 && exit 1 ;;
esac

# on ADDRESS COMMAND
on() { ssh -o BatchMode=yes -o ConnectTimeout=5 "root@$1" "$2" </dev/null; }

# matches WORD PATTERNS, one pattern a line
matches() {
  while IFS= read -r pattern; do
    # shellcheck disable=SC2254 # it is a pattern
    case $1 in $pattern) return 0 ;; esac
  done <<END
$2
END
  return 1
}

# breaking NAME MENDING: what makes a machine mend itself by and by
breaking() { printf '%s' "systemd-run --quiet --collect --on-active=15min --unit=drill-$1 /bin/sh -c '$2'"; }

# mending NAME MENDING: the same at once. What comes later does no harm.
mending() { printf '%s' "systemctl --quiet stop drill-$1.timer 2>/dev/null; $2"; }

# process SERVICE: without the drop-in systemd would start it again at once.
process() {
  case $GRAYFED_FAULT_KIND in
  kill)
    drop=/run/systemd/system/$1.service.d/drill.conf
    mend="rm -f $drop; systemctl daemon-reload; systemctl start --no-block $1"
    break="mkdir -p ${drop%/*} && printf \"[Service]\\nRestart=no\\n\" >$drop && systemctl daemon-reload && systemctl kill --signal=KILL $1"
    ;;
  freeze)
    mend="systemctl kill --signal=CONT $1"
    break="systemctl kill --signal=STOP $1"
    ;;
  esac
  if [ "$what" = mend ]; then mending "$1" "$mend"; else printf '%s' "$(breaking "$1" "$mend") && $break"; fi
}

# partition ZONE: all but ssh, loopback and the zone's own machines; with the
# load's machine, unless that is to be cut off too.
partition() {
  mend="nft delete table inet drill 2>/dev/null || ! nft list table inet drill >/dev/null 2>&1"
  [ "$what" = break ] || { mending partition "$mend" && return; }
  near=$(awk -v zone="$1/" 'index($3, zone) == 1 && !seen[$1]++ { printf "%s%s", comma, $1; comma = ", " }' machines)
  [ "${GRAYFED_FAULT_CLIENT-}" = 1 ] || near="$near, \${SSH_CLIENT%% *}"
  printf '%s' "$(breaking partition "$mend") && nft \"
    table inet drill {
      chain in { type filter hook input priority -300; iif lo accept; tcp dport 22 accept; ip saddr { $near } accept; drop; }
      chain out { type filter hook output priority -300; oif lo accept; tcp sport 22 accept; ip daddr { $near } accept; drop; }
    }\""
}

# ready PART SERVICE: comes to its end when the part serves again. The edges'
# health listener is on 9181.
ready() {
  case $1 in
  */edge) check="curl -fs -m 2 -o /dev/null http://127.0.0.1:9181/readyz" ;;
  *) check="systemctl --quiet is-active $2" ;;
  esac
  printf '%s' "until $check; do sleep 0.2; done"
}

# meant PART: the fault is of it.
meant() {
  if [ "$GRAYFED_FAULT_KIND" = partition ]; then
    matches "${1%%/*}" "$GRAYFED_FAULT_FROM"
  else
    matches "$1" "$GRAYFED_FAULT_PARTS"
  fi
}

# each DOING: does it on all that is meant, also after one that fails.
each() {
  failed=0 any='' seen=''
  while read -r address service part; do
    case $address in '' | '#'*) continue ;; esac
    meant "$part" || continue
    any=1
    case $1 in
    process) command=$(process "$service") ;;
    ready) command=$(ready "$part" "$service") ;;
    partition)
      case " $seen " in *" $address "*) continue ;; esac # one cut a machine
      seen="$seen $address"
      command=$(partition "${part%%/*}")
      ;;
    esac
    on "$address" "$command" || failed=1
  done <machines
  [ -n "$any" ] || [ "$what" = mend ] || { echo "nothing in the file machines is meant" >&2 && return 1; }
  return $failed
}

if [ "$GRAYFED_FAULT_KIND" = partition ]; then
  [ -z "${GRAYFED_FAULT_TO-}" ] || { echo "by-ssh.sh parts zones from all others only" >&2 && exit 1; }
  each partition
else
  each process
  [ "$what" = break ] || each ready
fi
