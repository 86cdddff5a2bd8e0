package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

const (
	readToken  = "read-token-0123456789"
	writeToken = "write-token-0123456789"
	body1      = `{"zone":"az1","address":"10.0.0.7:8080"}`
)

// TestBrowser: a web page must not reach an API without tokens, people and
// programs must.
func TestBrowser(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Hosts = []string{"edge.internal"} })
	own := r.Address().String()
	_, port, err := net.SplitHostPort(own)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header  []string
		allowed bool
	}{
		"its address":            {nil, true},
		"localhost":              {[]string{"Host", "localhost:" + port}, true},
		"LOCALHOST":              {[]string{"Host", "LOCALHOST:" + port}, true},
		"without port":           {[]string{"Host", "127.0.0.1"}, true},
		"another loopback":       {[]string{"Host", "127.0.0.2:" + port}, true},
		"IPv6":                   {[]string{"Host", "[::1]:" + port}, true},
		"IPv6 without port":      {[]string{"Host", "[::1]"}, true},
		"a configured name":      {[]string{"Host", "edge.internal:" + port}, true},
		"its own page":           {[]string{"Origin", "http://" + own, "Sec-Fetch-Site", "same-origin"}, true},
		"typed by a person":      {[]string{"Sec-Fetch-Site", "none"}, true},
		"DNS rebinding":          {[]string{"Host", "evil.example:" + port}, false},
		"a name like localhost":  {[]string{"Host", "localhost.evil.example:" + port}, false},
		"an address not its own": {[]string{"Host", "10.0.0.1:" + port}, false},
		"another origin":         {[]string{"Origin", "https://evil.example"}, false},
		"no origin to name":      {[]string{"Origin", "null"}, false},
		"another port's page":    {[]string{"Origin", "http://127.0.0.1:1"}, false},
		"another site's page":    {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"another port's fetch":   {[]string{"Sec-Fetch-Site", "same-site"}, false},
		"rebound own origin":     {[]string{"Host", "evil.example:" + port, "Origin", "http://evil.example:" + port, "Sec-Fetch-Site", "same-origin"}, false},
	} {
		before := r.registry.called()
		for _, request := range [][3]string{{http.MethodGet, "/v1/federation", ""}, {http.MethodPut, u1, body1}} {
			got := r.send(request[0], request[1], request[2], c.header...)
			if c.allowed != (got.StatusCode < 300) {
				t.Errorf("%s: %s %s is answered with %s %s", name, request[0], request[1], got.Status, got.body)
			}
			if !c.allowed {
				if p := got.problem(t); p.Status != http.StatusForbidden || p.Type != api.ProblemOrigin {
					t.Errorf("%s: %v", name, p)
				}
			}
		}
		if wrote := r.registry.called() > before; wrote != c.allowed {
			t.Errorf("%s: reached the registry: %v", name, wrote)
		}
	}
}

// secured is a rig with TLS and tokens, and a client that trusts it.
type secured struct {
	*rig
	client     *http.Client
	pool       *x509.CertPool
	tokensFile string
	certFile   string
	keyFile    string
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	s := &secured{tokensFile: filepath.Join(dir, "tokens"), certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	write(t, s.tokensFile, "# who may what\n\nread  "+readToken+"\nwrite "+writeToken+"\n")
	s.pool.AddCert(writeCertificate(t, s.certFile, s.keyFile, "first"))
	s.rig = newRig(t, func(o *Options) {
		o.CertFile, o.KeyFile, o.TokensFile, o.HealthAddress = s.certFile, s.keyFile, s.tokensFile, "127.0.0.1:0"
	})
	s.client = s.trusting(s.pool)
	return s
}

func (s *secured) trusting(pool *x509.CertPool) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *secured) ask(method, path, body, token string) *answer {
	s.t.Helper()
	return s.sendTo(s.client, s.base, method, path, body, "Authorization", "Bearer "+token)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate makes a self-signed certificate for 127.0.0.1.
func writeCertificate(t *testing.T, certFile, keyFile, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestTokens(t *testing.T) {
	s := newSecured(t)
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		kind               api.ProblemType
	}{
		"no token":             {http.MethodGet, "/v1/federation", "", nil, http.StatusUnauthorized, api.ProblemToken},
		"a wrong token":        {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer " + readToken + "x"}, http.StatusUnauthorized, api.ProblemToken},
		"an empty token":       {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer "}, http.StatusUnauthorized, api.ProblemToken},
		"another scheme":       {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Basic " + readToken}, http.StatusUnauthorized, api.ProblemToken},
		"a comment's word":     {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer who"}, http.StatusUnauthorized, api.ProblemToken},
		"nobody, nowhere":      {http.MethodGet, "/strange", "", nil, http.StatusUnauthorized, api.ProblemToken},
		"nobody at metrics":    {http.MethodGet, "/metrics", "", nil, http.StatusUnauthorized, api.ProblemToken},
		"nobody writes":        {http.MethodPut, u1, body1, nil, http.StatusUnauthorized, api.ProblemToken},
		"reader reads":         {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer " + readToken}, http.StatusOK, ""},
		"reader explains":      {http.MethodPost, "/v1/explain", `{"path":"/"}`, []string{"Authorization", "bearer " + readToken}, http.StatusOK, ""},
		"reader registers":     {http.MethodPut, u1, body1, []string{"Authorization", "Bearer " + readToken}, http.StatusForbidden, api.ProblemRole},
		"reader drains":        {http.MethodPost, u1 + "/drain", "", []string{"Authorization", "Bearer " + readToken}, http.StatusForbidden, api.ProblemRole},
		"reader heartbeats":    {http.MethodPost, u1 + "/heartbeat", "", []string{"Authorization", "Bearer " + readToken}, http.StatusForbidden, api.ProblemRole},
		"reader deletes":       {http.MethodDelete, u1, "", []string{"Authorization", "Bearer " + readToken}, http.StatusForbidden, api.ProblemRole},
		"writer reads":         {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer " + writeToken}, http.StatusOK, ""},
		"writer from any host": {http.MethodGet, "/v1/federation", "", []string{"Authorization", "Bearer " + writeToken, "Host", "edge.example.com"}, http.StatusOK, ""},
	} {
		got := s.sendTo(s.client, s.base, c.method, c.path, c.body, c.header...)
		if got.StatusCode != c.status {
			t.Errorf("%s: %s %s", name, got.Status, got.body)
			continue
		}
		if c.kind != "" && got.problem(t).Type != c.kind {
			t.Errorf("%s: %s", name, got.body)
		}
		if challenge := got.Header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer") != (c.status == http.StatusUnauthorized) {
			t.Errorf("%s: WWW-Authenticate %q", name, challenge)
		}
	}
	if n := s.registry.called(); n != 0 {
		t.Errorf("the registry was called %d times", n)
	}
	if got := s.ask(http.MethodPut, u1, body1, writeToken); got.StatusCode != http.StatusCreated {
		t.Errorf("writer registers: %s %s", got.Status, got.body)
	}
	if actor := s.registry.actors[0]; !strings.HasPrefix(actor, "127.0.0.1 token ") || strings.Contains(actor, writeToken) {
		t.Errorf("the audit says %q", actor)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if got := s.sendTo(http.DefaultClient, "http://"+s.HealthAddress().String(), http.MethodGet, path, ""); got.StatusCode != http.StatusOK {
			t.Errorf("%s of the health listener wants more than a request: %s", path, got.Status)
		}
	}
}

// TestTokensAreReadAgain: a new token works, an old one ends, and a file that
// cannot be read changes nothing.
func TestTokensAreReadAgain(t *testing.T) {
	s := newSecured(t)
	status := func(token string) int { return s.ask(http.MethodGet, "/v1/services", "", token).StatusCode }
	const next = "next-token-0123456789"
	write(t, s.tokensFile, "read "+next+"\n")
	eventually(t, func() error {
		if status(next) != http.StatusOK {
			return errors.New("the new token does not work")
		}
		return nil
	})
	if status(readToken) != http.StatusUnauthorized || status(writeToken) != http.StatusUnauthorized {
		t.Error("an old token works")
	}

	// Without the server, which would reload at the same time.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	valid := func() bool { _, ok := s.tokens.find(next); return ok }
	for _, bad := range []string{"", "read short\n", "admin " + next + "x\n", "read\n", "read a b\n", "read " + next + "\nwrite " + next + "\n"} {
		write(t, s.tokensFile, bad)
		if s.tokens.reload(); !valid() {
			t.Errorf("the file %q took the tokens away", bad)
		}
	}
	if err := os.Remove(s.tokensFile); err != nil {
		t.Fatal(err)
	}
	if s.tokens.reload(); !valid() {
		t.Error("without the file the tokens are gone")
	}
	write(t, s.tokensFile, "read "+readToken+"\n")
	if s.tokens.reload(); valid() {
		t.Error("the file is back and not read")
	}
}

func TestParseTokens(t *testing.T) {
	for text, says := range map[string]string{
		"":                                        "0 tokens",
		"# read " + readToken:                     "0 tokens",
		"read " + readToken[:15]:                  "line 1",
		"read " + strings.Repeat("x", 513):        "line 1",
		"\nread " + readToken + "\u00e4":          "line 2",
		"READ " + readToken:                       "line 1",
		readToken:                                 "line 1",
		"read " + readToken + " # of Ann":         "line 1",
		strings.Repeat("read "+readToken+"\n", 2): "line 2: the token of line 1 again",
	} {
		_, err := parseTokens([]byte(text))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		} else if strings.Contains(err.Error(), readToken[:15]) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	list, err := parseTokens([]byte("\tread\t" + readToken + "\r\n#x\nwrite " + writeToken))
	if err != nil || len(list) != 2 || list[0].write || !list[1].write {
		t.Errorf("parsed %v, %v", list, err)
	}
}

func TestTokensFileOfOthersIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	for mode, told := range map[os.FileMode]bool{0o600: false, 0o640: true, 0o604: true} {
		write(t, path, "read "+readToken)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := openTokens(path, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "can be read by others"); got != told {
			t.Errorf("mode %o: told %v: %s", mode, got, out.String())
		}
	}
}

func TestTLS(t *testing.T) {
	s := newSecured(t)
	c, err := api.NewClient(api.ClientOptions{URL: s.base, Token: writeToken, TLS: &tls.Config{RootCAs: s.pool}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Register(t.Context(), key1, api.Registration{Zone: "az1", Address: "10.0.0.7:80"}, api.WriteOptions{}); err != nil {
		t.Error(err)
	}
	stranger, err := api.NewClient(api.ClientOptions{URL: s.base, Token: writeToken})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Federation(t.Context()); err == nil || !strings.Contains(err.Error(), "name the CA") {
		t.Errorf("an untrusted certificate: %v", err)
	}
	for version, accepted := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", s.Address().String(), &tls.Config{RootCAs: s.pool, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if err == nil {
			_ = conn.Close()
		}
		if accepted != (err == nil) {
			t.Errorf("TLS version %x: %v", version, err)
		}
	}
	plain := "http://" + s.Address().String()
	if got := s.sendTo(http.DefaultClient, plain, http.MethodGet, "/v1/federation", "", "Authorization", "Bearer "+writeToken); got.StatusCode != http.StatusBadRequest {
		t.Errorf("cleartext is answered with %s", got.Status)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	s := newSecured(t)
	subject := func() string { return s.certificate.current.Load().Leaf.Subject.CommonName }
	if err := s.stop(); err != nil { // it would reload at the same time
		t.Fatal(err)
	}
	old, err := os.ReadFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, s.certFile, s.keyFile, "second")
	fitting, err := os.ReadFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.keyFile, string(old))
	if s.certificate.reload(); subject() != "first" {
		t.Errorf("halfway through a change it has %q", subject())
	}
	write(t, s.keyFile, string(fitting))
	if s.certificate.reload(); subject() != "second" {
		t.Errorf("after the change it has %q", subject())
	}
	write(t, s.certFile, "no certificate")
	if s.certificate.reload(); subject() != "second" {
		t.Errorf("a broken file took it away: %q", subject())
	}
}

// TestServerTakesTheNewCertificate: handshakes use what was read last.
func TestServerTakesTheNewCertificate(t *testing.T) {
	s := newSecured(t)
	second := writeCertificate(t, s.certFile, s.keyFile, "second")
	eventually(t, func() error {
		conn, err := tls.Dial("tcp", s.Address().String(), &tls.Config{InsecureSkipVerify: true}) // only looked at
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if !slices.ContainsFunc(conn.ConnectionState().PeerCertificates, second.Equal) {
			return errors.New("the old certificate is shown")
		}
		return nil
	})
}
