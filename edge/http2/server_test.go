package http2

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

// newClient is net/http's client, made to speak HTTP/2 on cleartext.
func newClient(t testing.TB) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestRequestReachesHandler(t *testing.T) {
	var seen exchange.Request
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		seen = x.Request
		seen.Header = exchange.Fields{}
		for _, field := range x.Request.Header.All() {
			seen.Header.Append(field)
		}
		x.Response.Header.Add("X-Answer", "yes")
		echo(x)
	}}})
	request, err := http.NewRequest(http.MethodPost, "http://"+r.address+"/a%2Fb?c=d?e", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Ask", "what")
	response, err := newClient(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "hello" || response.StatusCode != http.StatusOK || response.ContentLength != 5 {
		t.Fatalf("got %d %q of %d bytes, %v", response.StatusCode, body, response.ContentLength, err)
	}
	if response.Header.Get("X-Answer") != "yes" || response.Header.Get("Date") == "" {
		t.Errorf("answer has fields %v", response.Header)
	}
	if seen.Method != http.MethodPost || seen.Path != "/a%2Fb" || seen.Query != "c=d?e" || !seen.HasQuery || seen.Scheme != "http" ||
		seen.Authority != r.address || seen.Proto != exchange.HTTP2 || seen.ContentLength != 5 {
		t.Errorf("handler saw %+v", seen)
	}
	if ask, _ := seen.Header.GetName("x-ask"); ask != "what" {
		t.Errorf("handler saw fields %v", seen.Header.All())
	}
}
