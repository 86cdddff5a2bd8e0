package fault

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

// What a target may be able to do. Each fault asks for what it needs only.
type (
	// Processes are the target's parts: "az1/edge", "az1/user-service v1".
	Processes interface {
		Parts() []string
		// Signal wraps os.ErrProcessDone when the part has ended, also for
		// signal 0, which only asks.
		Signal(part string, signal syscall.Signal) error
		// Start starts a part that has ended, and returns when it listens. It
		// is called for several parts at once.
		Start(ctx context.Context, part string) error
	}
	// Links are between nodes, one way each.
	Links interface {
		Nodes() []string
		Block(from, to string, on bool) error
		Lose(from, to string, percent int) error
	}
	// Slowing delays a link, and bounds it in bytes/s; 0, 0 ends it.
	Slowing interface {
		Slow(from, to string, delay time.Duration, bytesPerSecond int64) error
	}
	// Ports blocks UDP and TCP to one port.
	Ports interface {
		BlockPort(from, to string, port int, on bool) error
	}
	// Evidence asks the network itself whether a link is as it was told to be:
	// nil, or what is missing. A link that was told nothing is an error.
	Evidence interface {
		Impaired(ctx context.Context, from, to string) error
	}
	// Pids knows the process of a part.
	Pids interface {
		Pid(part string) (int, error)
	}
	// Leader knows which part leads etcd.
	Leader interface {
		EtcdLeader(ctx context.Context) (part string, err error)
	}
	// Documents knows the file of a zone's documents; "" for none.
	Documents interface {
		Documents(zone string) string
	}
	// Certificates gives the edge of a zone another one for its TLS listener.
	Certificates interface {
		IssueCertificate(zone string, notBefore, notAfter time.Time) error
	}
	// Clocks knows the file that sets a zone's clock off; "" for none.
	Clocks interface {
		ClockFile(zone string) string
	}
	// Behaving lets an instance fail percent of its requests and be slow; 0, 0
	// ends it.
	Behaving interface {
		Behave(ctx context.Context, part string, errorPercent int, delay time.Duration) error
	}
	// Binaries sets the program of a part's next start; "" is the target's own.
	Binaries interface {
		SetBinary(part, path string) error
	}
	// Clients speak to the API of a zone's edge.
	Clients interface {
		Client(zone string) (*api.Client, error)
	}
)

// need is the target as the fault needs it.
func need[T any](target any, what string) (T, error) {
	able, ok := target.(T)
	if !ok {
		return able, fmt.Errorf("%w: it has no %s", ErrUnsupported, what)
	}
	return able, nil
}

// match returns the names that any pattern matches, in the order of names. A
// pattern that matches none is an error.
func match(what string, patterns, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: it has no %s", ErrUnsupported, what)
	}
	wanted := make([]bool, len(names))
	for _, pattern := range patterns {
		found := false
		for n, name := range names {
			ok, err := path.Match(pattern, name)
			if err != nil {
				return nil, fmt.Errorf("%s: pattern %q: %w", what, pattern, err)
			}
			wanted[n] = wanted[n] || ok
			found = found || ok
		}
		if !found {
			return nil, fmt.Errorf("%s: %q matches none of %s", what, pattern, strings.Join(names, ", "))
		}
	}
	var matched []string
	for n, name := range names {
		if wanted[n] {
			matched = append(matched, name)
		}
	}
	return matched, nil
}

// zones are those named, each of which has an edge in target; "*" is all.
func zones(named []string, target any) ([]string, error) {
	processes, err := need[Processes](target, "processes")
	if err != nil {
		return nil, err
	}
	var known []string
	for _, part := range processes.Parts() {
		if zone, ok := strings.CutSuffix(part, "/edge"); ok {
			known = append(known, zone)
		}
	}
	return match("zones", named, slices.Compact(known))
}
