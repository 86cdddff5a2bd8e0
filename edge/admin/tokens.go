package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
)

// Bounds of a tokens file. A token of 16 characters can be as strong as 96
// bits; what is shorter is a password.
const (
	minToken      = 16
	maxToken      = 512
	maxTokens     = 1000
	maxTokensFile = 1 << 20
)

// tokens are the bearer tokens that may call the API.
type tokens struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[[]token]
	read    []byte // what was read last; of New, then of the one reloading goroutine
}

// token is kept as its hash, so that comparing takes as long for any guess.
type token struct {
	hash  [sha256.Size]byte
	write bool
}

func openTokens(path string, log *slog.Logger) (*tokens, error) {
	t := &tokens{path: path, log: log}
	data, err := t.readFile()
	if err != nil {
		return nil, err
	}
	list, err := parseTokens(data)
	if err != nil {
		return nil, fmt.Errorf("tokens file %s: %w", path, err)
	}
	t.read = data
	t.current.Store(&list)
	return t, nil
}

// reload takes what has changed. A file that is gone or ill-formed leaves the
// tokens as they were: locking every operator out helps nobody.
func (t *tokens) reload() {
	data, err := t.readFile()
	if err != nil || bytes.Equal(data, t.read) {
		if err != nil && t.read != nil {
			t.read = nil // told once
			t.log.Error("tokens are not reloaded", "error", err)
		}
		return
	}
	t.read = data
	list, err := parseTokens(data)
	if err != nil {
		t.log.Error("tokens are not reloaded", "file", t.path, "error", err)
		return
	}
	t.current.Store(&list)
	t.log.Info("tokens reloaded", "file", t.path, "tokens", len(list))
}

func (t *tokens) readFile() ([]byte, error) {
	info, err := os.Stat(t.path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	if info.Size() > maxTokensFile {
		return nil, fmt.Errorf("tokens file %s has %d bytes, allowed %d", t.path, info.Size(), maxTokensFile)
	}
	data, err := os.ReadFile(t.path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	// Mounted secrets often are readable by a group, so it is no error.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && t.read == nil {
		t.log.Warn("tokens file can be read by others", "file", t.path, "mode", mode.String(), "better", "0600")
	}
	return data, nil
}

// parseTokens never names a token in an error: errors are logged.
func parseTokens(data []byte) ([]token, error) {
	var list []token
	seen := make(map[[sha256.Size]byte]int)
	for n, line := range strings.Split(string(data), "\n") {
		number := n + 1
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) != 2 || words[0] != "read" && words[0] != "write" {
			return nil, fmt.Errorf("line %d: allowed a role, read or write, and a token", number)
		}
		if !validToken(words[1]) {
			return nil, fmt.Errorf("line %d: token of %d bytes, allowed %d to %d printable ASCII characters", number, len(words[1]), minToken, maxToken)
		}
		one := token{hash: sha256.Sum256([]byte(words[1])), write: words[0] == "write"}
		if first, twice := seen[one.hash]; twice {
			return nil, fmt.Errorf("line %d: the token of line %d again", number, first)
		}
		seen[one.hash] = number
		list = append(list, one)
	}
	if len(list) == 0 || len(list) > maxTokens {
		return nil, fmt.Errorf("%d tokens, allowed 1 to %d", len(list), maxTokens)
	}
	return list, nil
}

func validToken(text string) bool {
	if len(text) < minToken || len(text) > maxToken {
		return false
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// find looks a token up in constant time: hashes are compared, and all of them.
func (t *tokens) find(text string) (found token, ok bool) {
	hash := sha256.Sum256([]byte(text))
	for _, one := range *t.current.Load() {
		if subtle.ConstantTimeCompare(hash[:], one.hash[:]) == 1 {
			found, ok = one, true
		}
	}
	return found, ok
}

// name is how a token appears in the audit: enough to tell tokens apart, and
// no help in finding one.
func (t token) name() string { return "token " + hex.EncodeToString(t.hash[:4]) }
