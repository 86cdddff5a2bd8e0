package redirect

import (
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		port                   int
		authority, path, query string
		hasQuery               bool
		location               string // empty: 400
	}{
		{443, "x.test", "/", "", false, "https://x.test/"},
		{443, "x.test:80", "/a//b/%2e%2F", "q=1&q=%20", true, "https://x.test/a//b/%2e%2F?q=1&q=%20"},
		{443, "x.test:", "/", "", true, "https://x.test/?"},
		{8443, "x.test", "/", "", false, "https://x.test:8443/"},
		{8443, "x.test:8080", "//y.test/", "", false, "https://x.test:8443//y.test/"},
		{8443, "[2001:db8::1]:8080", "/", "", false, "https://[2001:db8::1]:8443/"},
		{443, "[2001:db8::1]", "/", "", false, "https://[2001:db8::1]/"},
		{443, "192.0.2.1:80", "/", "", false, "https://192.0.2.1/"},
		{443, "x.test", "*", "", false, "https://x.test"},
		{443, "", "/", "", false, ""},
		{443, ":80", "/", "", false, ""},
	} {
		h, err := New(c.port)
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange.Exchange{Request: exchange.Request{
			Method: "POST", Authority: c.authority, Path: c.path, Query: c.query, HasQuery: c.hasQuery,
		}}
		x.Response.Header.Add("X-Earlier", "1") // of the exchange's last use
		h.Serve(x)
		h.Done(x, nil)
		location, _ := x.Response.Header.GetName("location")
		status := 308
		if c.location == "" {
			status = 400
		}
		if x.Response.Status != status || location != c.location || x.Response.Body != nil || x.Response.ContentLength != 0 {
			t.Errorf("%+v: %d to %q", c, x.Response.Status, location)
		}
		if _, kept := x.Response.Header.GetName("X-Earlier"); kept {
			t.Error("fields of an earlier response are sent")
		}
	}
	for _, port := range []int{-1, 0, 65536} {
		if _, err := New(port); err == nil {
			t.Errorf("port %d is accepted", port)
		}
	}
}
