package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

// lockDataDir makes the data folder and takes it for this process: two edges
// with one folder would mint the same stamps. The returned file holds the lock
// until it is closed.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make data folder (data_dir): %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open data folder (data_dir): %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("data folder %s is in use by another edge: %w; give each its own data_dir", dir, err)
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// keptLives is how many earlier lives of an edge are remembered: one that dies
// before it is registered leaves the registration of the one before it.
const keptLives = 8

// nextIncarnation is the number of this life of the edge, higher than that of
// every life before: the time in milliseconds, or one more than last time where
// the clock was set back. earlier are the latest lives in this folder; whoever
// holds its lock knows that they have ended.
func nextIncarnation(dir string, now time.Time) (next uint64, earlier []uint64, err error) {
	path := filepath.Join(dir, "incarnation")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, fmt.Errorf("read incarnation: %w", err)
	}
	next = uint64(max(now.UnixMilli(), 1))
	for line := range strings.Lines(string(data)) {
		life, err := strconv.ParseUint(strings.TrimSpace(line), 10, 63)
		if err != nil {
			return 0, nil, fmt.Errorf("incarnation in %s: %w", path, err)
		}
		earlier = append(earlier, life)
		next = max(next, life+1)
	}
	var text strings.Builder
	for _, life := range append([]uint64{next}, earlier[:min(len(earlier), keptLives-1)]...) {
		fmt.Fprintln(&text, life)
	}
	// Written in place: what a crash tears off is made up for by the clock.
	if err := os.WriteFile(path, []byte(text.String()), 0o640); err != nil {
		return 0, nil, fmt.Errorf("write incarnation: %w", err)
	}
	return next, earlier, nil
}

// reachableAt is where other edges and people reach this edge's data listener
// (host:port) and HTTP API (URL).
func reachableAt(p *config.Process, data, admin net.Addr) (dataAddress, adminURL string) {
	gossipHost, _, _ := net.SplitHostPort(p.Gossip.Advertise)
	scheme := "http"
	if p.Admin.TLS.CertFile != "" {
		scheme = "https"
	}
	return advertised(data, gossipHost), scheme + "://" + advertised(admin, gossipHost)
}

// advertised is a listener's address as others reach it: a listener on every
// address is reached where gossip is.
func advertised(listener net.Addr, reachable string) string {
	host, port, err := net.SplitHostPort(listener.String())
	if err != nil {
		return listener.String()
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		host = reachable
	}
	return net.JoinHostPort(host, port)
}

// firstLine is that of a file that holds a secret; empty without a file.
func firstLine(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: its first line is empty", path)
	}
	return line, nil
}
