package consul

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// token is what goes with every request. It is read from its file for each, as
// certificates are for each connection, so that one that is rotated needs no
// restart.
type token struct {
	path string // "": there is none
	log  *slog.Logger

	mu      sync.Mutex
	value   string // guarded by mu: the last that could be read
	failure string // guarded by mu: why there is none in the file now
}

// newToken reads the file for the first time.
func newToken(path string, log *slog.Logger) (*token, error) {
	t := &token{path: path, log: log}
	if path == "" {
		return t, nil
	}
	var err error
	if t.value, err = readToken(path); err != nil {
		return nil, err
	}
	return t, nil
}

// current is what the file says now, or said last when it cannot be used.
func (t *token) current() string {
	if t.path == "" {
		return ""
	}
	value, err := readToken(t.path)
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	t.mu.Lock()
	news := failure != t.failure
	t.failure = failure
	if err == nil {
		t.value = value
	}
	value = t.value
	t.mu.Unlock()
	if news && err != nil {
		t.log.Warn("token of Consul cannot be read, the one before is used", "error", err)
	}
	return value
}

// readToken reads the first line of a file.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		err = errors.New("its first line is empty")
	case strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }):
		err = errors.New("it has characters that a header cannot carry")
	}
	if err != nil {
		return "", fmt.Errorf("read token of %s: %w", path, err)
	}
	return line, nil
}
