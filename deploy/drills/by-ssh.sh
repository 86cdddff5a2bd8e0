#!/bin/sh
# Breaks and mends, over ssh as root, what a drill asks for: by-ssh.sh break or
# by-ssh.sh mend, with the fault in GRAYFED_FAULT_*. By hand, by-ssh.sh mend
# without them mends all that drills have left. The file machines says what is
# where. All that is broken mends itself after 15 minutes, even when the drill
# and the machine that it ran on are gone. Mending what is not broken is no
# error.
set -eu
cd "$(dirname "$0")"

usage() {
  echo "usage: by-ssh.sh break|mend, with the fault in GRAYFED_FAULT_KIND and so on" >&2
  exit 2
}

# refuse WHY: what is not to be broken needs no mending.
refuse() {
  [ "$what" = break ] || exit 0
  echo "nothing was broken: $1" >&2
  exit 1
}

[ $# = 1 ] || usage
what=$1 kind=${GRAYFED_FAULT_KIND-} meant=${GRAYFED_FAULT_PARTS-}
case $what:$kind in
mend:) kind=any meant='*' ;;
break:) usage ;;
break:* | mend:*) ;;
*) usage ;;
esac
case $kind in
any | kill | freeze) ;;
subset-crash) kind="kill" ;;
etcd-gone) kind=kill meant='*/etcd' ;;
consul-gone) kind=kill meant='*/consul' ;;
partition)
  meant=$(printf '%s\n' "${GRAYFED_FAULT_FROM-}" | sed 's|$|/*|')
  [ -z "${GRAYFED_FAULT_TO-}" ] || refuse "by-ssh.sh parts zones from all others only"
  ;;
*) refuse "by-ssh.sh does not do a fault $kind" ;;
esac

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

# on_machine runs there, with WHAT KIND SERVICE HEALTH NEAR: the service's
# health URL or -, and the addresses that a partition leaves reachable. From
# before something is broken until it serves again there is a timer
# drill-SERVICE; the service that it starts mends.
on_machine=$(
  cat <<'END'
main() {
  what=$1 kind=$2 service=$3 health=$4 near=$5
  [ "$kind" != partition ] || service=partition
  case $what:$kind in
  mend:any) mend_all ;;
  mend:*) mend ;;
  break:*)
    ! systemctl --quiet is-active "drill-$service.timer" || fail "$service is broken already, by a drill that has not mended it"
    "break_$kind"
    ;;
  esac
}

# timer COMMANDS: what mends it by and by. They are in a file, since systemd 252
# spoils semicolons of a transient unit when it reloads.
timer() {
  echo "$1" >"/run/drill-$service.sh"
  systemd-run --quiet --collect --property=Type=oneshot --on-active=15min --unit="drill-$service" /bin/sh "/run/drill-$service.sh"
}

# It lets through ssh, loopback and what is near.
break_partition() {
  command -v nft >/dev/null || fail "nft is not installed"
  timer "nft delete table inet drill 2>/dev/null || ! nft list table inet drill >/dev/null 2>&1"
  ssh=${SSH_CONNECTION##* }
  near=$(echo "$near" | sed "s/client/${SSH_CONNECTION%% *}/")
  nft "table inet drill {
    chain in { type filter hook input priority -300; iif lo accept; tcp dport $ssh accept; ip saddr { $near } accept; drop; }
    chain out { type filter hook output priority -300; oif lo accept; tcp sport $ssh accept; ip daddr { $near } accept; drop; }
  }"
}

break_kill() {
  serves || fail "not broken, since it does not serve: $(state)"
  # Without the drop-in systemd would start it again at once. It comes last, by
  # its name: one of the operator's may say otherwise.
  drop=/run/systemd/system/$service.service.d/zz-drill.conf
  timer "rm -f $drop; systemctl daemon-reload; systemctl start --no-block $service"
  mkdir -p "${drop%/*}"
  printf '[Service]\nRestart=no\n' >"$drop"
  systemctl daemon-reload
  systemctl kill --signal=KILL "$service"
  end=$(($(date +%s) + 5))
  while serves; do
    [ "$(date +%s)" -lt $end ] || fail "not broken: $service serves on, or was started again"
    sleep 0.2
  done
}

break_freeze() {
  serves || fail "not broken, since it does not serve: $(state)"
  timer "systemctl kill --signal=CONT $service"
  systemctl kill --signal=STOP "$service"
}

mend() {
  systemctl --quiet is-active "drill-$service.timer" || return 0
  systemctl start "drill-$service.service" || fail "drill-$service.service failed, which mends it"
  end=$(($(date +%s) + 40))
  until [ "$service" = partition ] || serves --fail; do
    [ "$(date +%s)" -lt $end ] || fail "not serving within 40 s: $(state)"
    sleep 0.2
  done
  systemctl stop "drill-$service.timer"
  rm -f "/run/drill-$service.sh"
}

mend_all() {
  failed=0
  for timer in $(systemctl list-units --plain --no-legend 'drill-*.timer' | cut -d ' ' -f 1); do
    service=${timer#drill-} service=${service%.timer}
    if (mend); then echo "mended $service"; else failed=1; fi
  done
  return "$failed"
}

# serves [--fail]: it runs and answers, with --fail that it is ready.
serves() {
  systemctl --quiet is-active "$service" || return 1
  [ "$health" = - ] || curl --silent --max-time 2 --output /dev/null "$@" "$health"
}

# state says what is wrong with it.
state() {
  systemctl show --property=LoadState,ActiveState,SubState,Result "$service" | paste -sd ' ' | sed "s|^|$service: |"
  [ "$health" = - ] || curl --silent --show-error --fail --max-time 2 --output /dev/null "$health" 2>&1 | sed "s|^|$health: |"
}

fail() {
  echo "$1" >&2
  exit 1
}

set -eu
main "$@"
END
)

# near ZONE: the addresses that a cut leaves it, "$client" for the load's machine.
near() {
  awk -v zone="$1/" 'index($3, zone) == 1 && !seen[$1]++ { printf "%s%s", comma, $1; comma = "," }' machines
  [ "${GRAYFED_FAULT_CLIENT-}" = 1 ] || printf ,client
}

# act ADDRESS SERVICE PART: says what fails, and of what.
act() {
  who="$3 at $1" health=-
  case $kind:$3 in
  any:* | partition:*) who=$1 ;;
  *:*/edge) health=http://127.0.0.1:9181/readyz ;; # their health listener
  esac
  said=$(printf '%s\n' "$on_machine" | ssh -o BatchMode=yes -o ConnectTimeout=5 -o ServerAliveInterval=5 -o ServerAliveCountMax=2 \
    "root@$1" sh -s "$what" "$kind" "$2" "$health" "$(near "${3%%/*}")" 2>&1) && failed=0 || failed=$?
  [ "$what:$failed" != mend:255 ] || said="$said
no answer: what is broken there mends itself 15 minutes after it was broken"
  [ -z "$said" ] || printf '%s\n' "$said" | sed "s|^|$who: |"
  return "$failed"
}

# chosen is what is meant, as in machines; for a cut once a machine.
chosen=$(while read -r address service part; do
  case $address in '' | '#'*) continue ;; esac
  ! matches "$part" "$meant" || printf '%s\n' "$address $service $part"
done <machines)
if [ "$what" = break ]; then
  while IFS= read -r pattern; do
    printf '%s\n' "$chosen" | (while read -r _ _ part; do ! matches "$part" "$pattern" || exit 0; done && exit 1) ||
      refuse "the file machines has no $pattern"
  done <<END
$meant
END
fi
[ -n "$chosen" ] || exit 0
case $kind in any | partition) chosen=$(printf '%s\n' "$chosen" | awk '!seen[$1]++') ;; esac

# All at once: so a zone dies, and one machine that hangs holds up no other.
pids=''
while read -r address service part; do
  act "$address" "$service" "$part" &
  pids="$pids $!"
done <<END
$chosen
END
failed=0
for pid in $pids; do wait "$pid" || failed=1; done
exit $failed
