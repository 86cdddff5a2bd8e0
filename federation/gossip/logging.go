package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logBurst is how many lines of memberlist are logged in a second; the rest is
// counted. A stranger can make it write one line a packet.
const logBurst = 20

// logWriter turns memberlist's text lines into slog records, and counts those
// that tell of a packet or stream that was thrown away.
type logWriter struct {
	log      *slog.Logger
	counters *counters

	mu     sync.Mutex
	second time.Time // mu
	lines  int       // mu; in that second
}

// Write is called with one line at a time by log.Logger.
func (w *logWriter) Write(line []byte) (int, error) {
	n := len(line)
	line = bytes.TrimSpace(line)
	level := slog.LevelDebug
	for _, l := range []struct {
		prefix string
		level  slog.Level
	}{
		// What memberlist calls an error is nearly always what another
		// machine did; it is a warning here.
		{"[ERR]", slog.LevelWarn}, {"[ERROR]", slog.LevelWarn},
		{"[WARN]", slog.LevelWarn}, {"[INFO]", slog.LevelInfo}, {"[DEBUG]", slog.LevelDebug},
	} {
		if rest, ok := bytes.CutPrefix(line, []byte(l.prefix)); ok {
			line, level = rest, l.level
			break
		}
	}
	text := strings.TrimPrefix(string(bytes.TrimSpace(line)), "memberlist: ")
	if level == slog.LevelWarn && rejects(text) {
		w.counters.rejected.Add(1)
	}
	// memberlist closes its sockets before its loops have ended.
	if strings.Contains(text, "use of closed network connection") {
		level = slog.LevelDebug
	}
	if !w.log.Enabled(context.Background(), level) {
		return n, nil
	}
	if !w.admit(time.Now()) {
		w.counters.logsDropped.Add(1)
		return n, nil
	}
	w.log.Log(context.Background(), level, "membership", "text", text)
	return n, nil
}

// rejects recognises memberlist's complaints about input; it offers no other
// sign of them.
func rejects(text string) bool {
	for _, part := range []string{
		"Decrypt packet failed", "ailed to decode", "failed to receive", "failed to receive:",
		"not supported", "nvalid msgType", "missing message type", "invalid checksum",
		"ailed to decompress", "unacceptable label", "too short", "Failed to read remote state",
		"Failed to receive user message", "truncated",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return strings.Contains(text, "label") && strings.Contains(text, "from=")
}

func (w *logWriter) admit(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.second) >= time.Second {
		w.second, w.lines = now, 0
	}
	w.lines++
	return w.lines <= logBurst
}
