package gateway

import (
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestGRPCTimeoutIsReadStrictly(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond,
		"6n": 6, "00000007n": 7, "99999999n": 99_999_999, "0S": 1, "99999999H": maxGRPCTimeout, "99999999S": maxGRPCTimeout,
	} {
		if got, ok := parseGRPCTimeout(text); !ok || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "1", "S", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1S ", "100000000n", "1SS", "0x1S", "１S"} {
		if got, ok := parseGRPCTimeout(text); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	for _, d := range []time.Duration{-time.Second, 0, 1500, time.Second, 100 * time.Second, 24 * time.Hour, 300 * 24 * time.Hour} {
		text := spellGRPCTimeout(d)
		if got, ok := parseGRPCTimeout(text); !ok || got > max(d, time.Microsecond) || got < d-d/100-time.Microsecond {
			t.Errorf("%v is written %q, which is %v", d, text, got)
		}
	}
	var header exchange.Fields
	header.Add("Grpc-Timeout", "1S")
	if got, ok := grpcTimeout(&header); !ok || got != time.Second {
		t.Errorf("%v, %v", got, ok)
	}
	header.Add("grpc-timeout", "1S")
	if _, ok := grpcTimeout(&header); ok {
		t.Error("two timeouts are one")
	}
}

func TestIsGRPC(t *testing.T) {
	for text, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC;x=y": true,
		"": false, "application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false, "application/json": false,
	} {
		if got := isGRPC(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestGRPCMessageIsEncoded(t *testing.T) {
	const text = "100% of \u00fc\r\n~ \x7f"
	got := grpcMessage(text)
	if got != "100%25 of %C3%BC%0D%0A~ %7F" {
		t.Errorf("got %q", got)
	}
	if back, err := url.PathUnescape(got); err != nil || back != text {
		t.Errorf("%q, %v", back, err)
	}
}

// FuzzGRPCTimeout: what is taken is what the grammar allows.
func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{"1S", "99999999n", "0H", "1s", "", "-1m"} {
		f.Add(seed)
	}
	grammar := regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := parseGRPCTimeout(text)
		if ok != grammar.MatchString(text) || ok && (d < 1 || d > maxGRPCTimeout) {
			t.Errorf("%q: %v, %v", text, d, ok)
		}
	})
}
