package consul

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

// tokenFile is a file with a text.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeToken(t, path, text)
	return path
}

func writeToken(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A token that is rotated is taken without a restart. The agent gets it at once:
// it tells the servers with the token that the entry came with, also that the
// edge has died.
func TestTokenIsRotated(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{ACL: true})
	rules := policy(t, "edge-policy.hcl")
	token := func(name string) string { return cluster.Token(name, rules) }
	revoke := func(token string) {
		t.Helper()
		acl := cluster.Client(0).ACL()
		self, _, err := acl.TokenReadSelf(&api.QueryOptions{Token: token})
		if err == nil {
			_, err = acl.TokenDelete(self.AccessorID, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(alive.Close)
	first, second, third := token("first"), token("second"), token("third")
	file := tokenFile(t, first+"\n")
	a := start(t, Options{
		Address: cluster.Address(0), TokenFile: file, Edge: "a", Entry: entryOf("a", failover.Primary), CheckURL: alive.URL,
	})
	b := start(t, Options{
		Address: cluster.Address(0), TokenFile: tokenFile(t, token("other")), Edge: "b", Entry: entryOf("b", failover.Primary),
	})
	a.Set(failover.Decision{In: true, Weight: 40})
	b.sees("a", 40, true)

	// A file that is being written is none yet: the token before counts.
	writeToken(t, file, "")
	until(t, "the file is found to be empty", func() bool {
		a.token.mu.Lock()
		defer a.token.mu.Unlock()
		return a.token.failure != ""
	})
	a.confirmed()

	writeToken(t, file, second)
	until(t, "the entry is registered with the next token", func() bool {
		p := a.published.Load()
		return p != nil && p.token == second
	})
	revoke(first)
	alive.Close()
	b.sees("a", 40, false)

	// A token that is revoked before there is another is asked for again.
	revoke(second)
	until(t, "the token is refused", func() bool { return strings.Contains(a.Status().Error, "403") })
	writeToken(t, file, third)
	a.Set(failover.Decision{In: true, Weight: 41})
	b.sees("a", 41, false)
	until(t, "all is well", func() bool { s := a.Status(); return s.Leader && s.Registered && s.Error == "" })
}
