package fault

import (
	"context"
	"fmt"
	"syscall"
)

// newEtcdLeaderKill kills whichever member leads etcd when it breaks.
func newEtcdLeaderKill(_ Spec, target any) (Fault, error) {
	processes, _, err := partsNamed("etcd", target)
	if err != nil {
		return nil, err
	}
	etcd, err := need[Leader](target, "way to tell etcd's leader")
	if err != nil {
		return nil, err
	}
	down := &downed{processes: processes}
	return &plan{what: "kill etcd's leader", effect: down.effect, do: func(ctx context.Context, u *undo) error {
		leader, err := etcd.EtcdLeader(ctx)
		if err != nil {
			return fmt.Errorf("find etcd's leader: %w", err)
		}
		u.push("start "+leader+" again", down.start)
		return down.end(ctx, []string{leader}, syscall.SIGKILL)
	}}, nil
}
