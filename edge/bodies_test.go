package edge

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

// largeBody is a body of so many bytes, of which no two blocks are the same.
type largeBody struct {
	block []byte
	left  int64
	count uint64
	rest  []byte
}

func newLargeBody(seed uint64, size int64) *largeBody {
	b := &largeBody{block: make([]byte, 64<<10), left: size}
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = random.Read(b.block) // it never fails
	return b
}

func (b *largeBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		binary.LittleEndian.PutUint64(b.block, b.count)
		b.count++
		b.rest = b.block[:min(b.left, int64(len(b.block)))]
		b.left -= int64(len(b.rest))
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// checked is the checksum of what a reader gives, and how much it was. watch is
// called now and then.
func checked(r io.Reader, watch func()) (sum string, err error) {
	hash := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	total := int64(0)
	for {
		n, err := io.CopyN(hash, r, 8<<20)
		total += n
		watch()
		if err == io.EOF { //nolint:errorlint // as CopyN returns it
			return fmt.Sprintf("%d bytes %x", total, hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// TestLargeBodiesPass sends bodies through each protocol and back: what arrives is
// what was sent, and memory does not grow with it.
func TestLargeBodiesPass(t *testing.T) {
	size := int64(length(16, 64, 4096)) << 20
	seed := rand.Uint64() & 0xffffff
	t.Logf("seed %d, %d MiB each way", seed, size>>20)
	var documents strings.Builder
	for _, name := range []string{"http1", "https", "h2c", "h2"} {
		fmt.Fprintf(&documents, "- { id: %[1]s, path: \"/%[1]s/**\", upstream: %[1]s, timeouts: { total: 0s } }\n", name)
	}
	w := startWhole(t, documents.String(), nil)
	nothing := func() {}
	want, err := checked(newLargeBody(seed, size), nothing)
	if err != nil {
		t.Fatal(err)
	}
	origin := func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			sum, err := checked(r.Body, nothing)
			_, _ = fmt.Fprintf(rw, "%s %v", sum, err)
			return
		}
		rw.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = io.Copy(rw, newLargeBody(seed, size)) // the client sees what is missing
	}
	for name, c := range map[string]struct {
		protocol  federation.Protocol
		url       string
		protocols func(*http.Protocols)
	}{
		"http1": {federation.HTTP1, "http://" + w.plain, func(p *http.Protocols) { p.SetHTTP1(true) }},
		"https": {federation.HTTPS, "https://" + w.secure, func(p *http.Protocols) { p.SetHTTP1(true) }},
		"h2c":   {federation.H2C, "http://" + w.plain, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
		"h2":    {federation.H2, "https://" + w.secure, func(p *http.Protocols) { p.SetHTTP2(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			w.register(name, "", w.ca.serve(t, c.protocol, origin), c.protocol)
			client := w.client(c.protocols)
			before, most := heap(), int64(0)
			watch := func() {
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				most = max(most, int64(stats.HeapAlloc)-before)
			}
			down := get(t.Context(), t, client, c.url+"/"+name+"/")
			if got, err := checked(down, watch); err != nil || got != want {
				t.Errorf("down: %s, %v, want %s", got, err, want)
			}
			body := newLargeBody(seed, size)
			up, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.url+"/"+name+"/", watched{body, watch})
			if err != nil {
				t.Fatal(err)
			}
			up.ContentLength = size
			response, err := client.Do(up)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if got, err := io.ReadAll(response.Body); err != nil || string(got) != want+" <nil>" {
				t.Errorf("up: %s, %v, want %s", got, err, want)
			}
			// Client and origin, which are net/http's, live on the same heap.
			if most > 32<<20 {
				t.Errorf("the heap grew by %d MiB", most>>20)
			}
			t.Logf("the heap grew by %d KiB at most", most>>10)
		})
	}
}

// watched calls watch every 8 MiB.
type watched struct {
	body  *largeBody
	watch func()
}

func (w watched) Read(p []byte) (int, error) {
	if w.body.count%128 == 0 && len(w.body.rest) == 0 {
		w.watch()
	}
	return w.body.Read(p)
}
