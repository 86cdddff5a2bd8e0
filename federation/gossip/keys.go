package gossip

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// ErrKeyRequired is wrapped by the error of [New] when gossip would leave the
// machine unencrypted.
var ErrKeyRequired = errors.New("a key is required off loopback")

// ReadKeys reads a key file; see [ParseKeys].
func ReadKeys(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read gossip keys: %w", err)
	}
	keys, err := ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("gossip keys in %s: %w", path, err)
	}
	return keys, nil
}

// ParseKeys reads one key a line, in base64 or hexadecimal, of 16, 24 or 32
// bytes (AES-128, -192, -256). Empty lines and those that begin with # are
// skipped. The first key encrypts, all decrypt: to rotate, append the new key
// everywhere, then move it to the front everywhere, then remove the old one.
// Errors name the line, never its content.
func ParseKeys(text []byte) ([][]byte, error) {
	var keys [][]byte
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, ok := parseKey(string(line))
		if !ok {
			return nil, fmt.Errorf("line %d: allowed 16, 24 or 32 bytes in base64 or hexadecimal", n)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key found")
	}
	return keys, nil
}

// parseKey tries hexadecimal first: 32 hexadecimal digits are also the base64
// of 24 bytes, but no random key looks like that by chance.
func parseKey(line string) ([]byte, bool) {
	if key, err := hex.DecodeString(line); err == nil && validKeySize(key) {
		return key, true
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(line); err == nil && validKeySize(key) {
			return key, true
		}
	}
	return nil, false
}

func validKeySize(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }
