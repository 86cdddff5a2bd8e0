package http2

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// handleInterop is an origin that shows what it got.
func handleInterop(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		// Else HTTP/1 reads and throws away the body before it answers.
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		_, _ = io.Copy(io.MultiWriter(w, sum), r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
	case "/early":
		w.WriteHeader(http.StatusForbidden)
	case "/hints":
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestBodiesAndTrailersPassThroughBothSides(t *testing.T) {
	origin := newOrigin(t, http.HandlerFunc(handleInterop))
	r := newProxy(t, &proxy{}, TransportOptions{Address: origin})
	client := newClient(t)
	for _, size := range []int{0, 1, 1000, 16 << 10, 100_000, 3 << 20} {
		for _, length := range []bool{true, false} {
			payload := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			var body io.Reader = bytes.NewReader(payload)
			if !length {
				body = io.MultiReader(body)
			}
			request, err := http.NewRequest(http.MethodPost, "http://"+r.address+"/echo", body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			got, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("size %d, length known %v: %d bytes back, %v", size, length, len(got), err)
			}
			want := fmt.Sprintf("%x", sha256.Sum256(payload))
			if sum := response.Trailer.Get("X-Sum"); sum != want {
				t.Errorf("size %d, length known %v: trailer is %q, want %q", size, length, sum, want)
			}
		}
	}
}

func TestManyRequestsAtOnce(t *testing.T) {
	origin := newOrigin(t, http.HandlerFunc(handleInterop))
	r := newProxy(t, &proxy{}, TransportOptions{Address: origin, MaxStreamsPerConn: 40})
	client := newClient(t)
	var all sync.WaitGroup
	for n := range 300 {
		all.Go(func() {
			payload := strings.Repeat(fmt.Sprint(n, " "), 10+n*7)
			response, err := client.Post("http://"+r.address+"/echo", "text/plain", strings.NewReader(payload))
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || string(got) != payload {
				t.Errorf("request %d: status %d, %d bytes of %d, %v", n, response.StatusCode, len(got), len(payload), err)
			}
		})
	}
	all.Wait()
}

func TestLargeBodiesInBoundedMemory(t *testing.T) {
	origin := newOrigin(t, http.HandlerFunc(handleInterop))
	r := newProxy(t, &proxy{}, TransportOptions{Address: origin})
	const size = 256 << 20
	sum := sha256.New()
	request, err := http.NewRequest(http.MethodPost, "http://"+r.address+"/echo", io.TeeReader(io.LimitReader(pattern{}, size), sum))
	if err != nil {
		t.Fatal(err)
	}
	response, err := newClient(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	back := sha256.New()
	var most uint64
	for n := int64(0); ; {
		part, err := io.CopyN(back, response.Body, 16<<20)
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		most = max(most, stats.HeapAlloc)
		if n += part; errors.Is(err, io.EOF) {
			if n != size {
				t.Errorf("%d bytes came back", n)
			}
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if !bytes.Equal(sum.Sum(nil), back.Sum(nil)) {
		t.Error("the body came back changed")
	}
	if most > 64<<20 {
		t.Errorf("the heap grew to %d MiB", most>>20)
	}
}

// pattern is an endless body.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i * 7)
	}
	return len(p), nil
}
