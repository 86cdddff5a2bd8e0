package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

const u1 = "/v1/services/user-service/instances/u-1"

var key1 = federation.Key{Service: "user-service", ID: "u-1"}

// TestInstanceLifecycle goes through an instance's life with the Go client.
func TestInstanceLifecycle(t *testing.T) {
	r := newRig(t, nil)
	c := r.client()
	ctx := t.Context()
	if p := problemOfError(t, c.Heartbeat(ctx, key1)); p.Status != http.StatusNotFound || p.Type != api.ProblemNoInstance {
		t.Errorf("heartbeat of a stranger: %v", p)
	}
	first, err := c.Register(ctx, key1, api.Registration{Zone: "az1", Address: "10.0.0.7:8080", Version: "v1", Tags: map[string]string{"team": "users"}}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Weight != 100 || first.Protocol != "http/1.1" || time.Duration(first.TTL) != api.DefaultTTL || first.Region != "east" {
		t.Errorf("defaults: %+v", first)
	}
	if first.Revision != 1 || first.Owner != "az1-edge" || first.Stamp.Lamport != 7 || first.Tags["team"] != "users" || !first.Usable {
		t.Errorf("stored: %+v", first)
	}
	if err := c.Heartbeat(ctx, key1); err != nil || !slices.Equal(r.registry.beats, []federation.Key{key1}) {
		t.Errorf("heartbeat: %v, heard %v", err, r.registry.beats)
	}

	zero, static := 0, federation.Duration(0)
	second, err := c.Register(ctx, key1, api.Registration{Zone: "az1", Address: "10.0.0.7:8080", Weight: &zero, TTL: &static}, api.WriteOptions{IfMatch: first.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if second.Weight != 0 || second.TTL != 0 || second.Version != "" {
		t.Errorf("an explicit 0 is no default, and a registration replaces the whole: %+v", second)
	}
	_, err = c.Register(ctx, key1, api.Registration{Zone: "az1", Address: "10.0.0.8:8080"}, api.WriteOptions{IfMatch: first.Revision})
	if p := problemOfError(t, err); p.Status != http.StatusPreconditionFailed || p.Type != api.ProblemRevision {
		t.Errorf("an old revision: %v", p)
	}

	r.catalog.ObserveHealth(time.Now(), federation.HealthRecord{Subject: key1, Observer: "az1-edge", Incarnation: 1, Seq: 1, Status: federation.Recovering, Percent: 40, Received: time.Now()})
	list, err := c.Instances(ctx, "user-service")
	if err != nil || len(list.Instances) != 1 {
		t.Fatalf("list %+v, %v", list, err)
	}
	got := list.Instances[0]
	if got.Health != (api.Health{Status: "recovering", Percent: 40, Source: "own"}) || got.InFlight != 5 || !got.Usable || got.Revision != 2 {
		t.Errorf("listed as %+v", got)
	}

	drained, err := c.Drain(ctx, key1, api.WriteOptions{})
	if err != nil || !drained.Draining || drained.Usable || drained.Health.Percent != 40 {
		t.Errorf("drained: %+v, %v", drained, err)
	}
	if err := c.Deregister(ctx, key1, api.WriteOptions{IfMatch: 1}); problemOfError(t, err).Status != http.StatusPreconditionFailed {
		t.Errorf("delete of an old revision: %v", err)
	}
	if err := c.Deregister(ctx, key1, api.WriteOptions{IfMatch: drained.Revision}); err != nil {
		t.Error(err)
	}
	if err := c.Deregister(ctx, key1, api.WriteOptions{}); problemOfError(t, err).Status != http.StatusNotFound {
		t.Errorf("delete of what is gone: %v", err)
	}
	if list, err := c.Instances(ctx, "user-service"); err != nil || list.Instances == nil || len(list.Instances) != 0 {
		t.Errorf("after the end: %+v, %v", list, err)
	}
}

func TestRegistrationStatusAndETag(t *testing.T) {
	r := newRig(t, nil)
	const body = `{"zone":"az1","address":"10.0.0.7:8080"}`
	for n, want := range []struct {
		status int
		etag   string
	}{{http.StatusCreated, `"1"`}, {http.StatusOK, `"2"`}} {
		if got := r.send(http.MethodPut, u1, body); got.StatusCode != want.status || got.Header.Get("ETag") != want.etag {
			t.Errorf("registration %d: %s, ETag %s, want %v", n+1, got.Status, got.Header.Get("ETag"), want)
		}
	}
	if got := r.send(http.MethodPost, u1+"/drain", "{}", "If-Match", `"2"`); got.StatusCode != http.StatusOK || got.Header.Get("ETag") != `"3"` {
		t.Errorf("drain: %s, ETag %s", got.Status, got.Header.Get("ETag"))
	}
	if got := r.send(http.MethodPost, u1+"/heartbeat", "", "Content-Type", "application/json"); got.StatusCode != http.StatusNoContent || len(got.body) > 0 {
		t.Errorf("heartbeat: %s %q", got.Status, got.body)
	}
	r.registry.mu.Lock()
	r.registry.queue = true
	r.registry.mu.Unlock()
	if got := r.send(http.MethodPut, u1, body); got.StatusCode != http.StatusAccepted || got.Header.Get("ETag") != "" {
		t.Errorf("queued: %s, ETag %s", got.Status, got.Header.Get("ETag"))
	}
}

// TestRegionOfAZone: an instance is put in the region of an edge of its zone.
func TestRegionOfAZone(t *testing.T) {
	r := newRig(t, nil)
	r.catalog.PutEdge(federation.Edge{ID: "az3-edge", Locality: federation.Locality{Zone: "az3", Region: "south"}})
	for zone, want := range map[string]string{"az1": "east", "az3": "south", "az9": ""} {
		got, err := r.client().Register(t.Context(), key1, api.Registration{Zone: zone, Address: "10.0.0.7:8080"}, api.WriteOptions{})
		if err != nil || got.Region != want {
			t.Errorf("zone %s: region %q, %v", zone, got.Region, err)
		}
	}
	got, err := r.client().Register(t.Context(), key1, api.Registration{Zone: "az3", Region: "west", Address: "10.0.0.7:8080"}, api.WriteOptions{})
	if err != nil || got.Region != "west" {
		t.Errorf("a region of its own: %+v, %v", got, err)
	}
}

func TestBadRegistrations(t *testing.T) {
	r := newRig(t, func(o *Options) { o.HealthAddress = "127.0.0.1:0" })
	r.catalog.PutEdge(federation.Edge{ID: "az2-edge", Locality: federation.Locality{Zone: "az2"}, Admin: "http://10.0.0.2:9081"})
	r.catalog.PutEdge(federation.Edge{ID: "az3-edge", Locality: federation.Locality{Zone: "az3"}, Admin: "https://[fd00::3]:9081"})
	with := func(member string) string { return `{"zone":"az1","address":"10.0.0.7:8080",` + member + `}` }
	at := func(address string) string { return `{"zone":"az1","address":"` + address + `"}` }
	for name, c := range map[string]struct {
		body   string
		fields []string
	}{
		"nothing":                    {`{}`, []string{"address", "zone"}},
		"a zone with a space":        {`{"zone":"a z","address":"10.0.0.7:80"}`, []string{"zone"}},
		"a long version":             {with(`"version":"` + strings.Repeat("v", 129) + `"`), []string{"version"}},
		"a name for an address":      {at("example.com:80"), []string{"address"}},
		"no port":                    {at("10.0.0.7"), []string{"address"}},
		"outside the CIDRs":          {at("192.168.1.1:80"), []string{"address"}},
		"link-local":                 {at("169.254.1.1:80"), []string{"address"}},
		"the metadata service":       {at("169.254.169.254:80"), []string{"address"}},
		"its v4-mapped form":         {at("[::ffff:169.254.169.254]:80"), []string{"address"}},
		"the edge's own API":         {at(r.Address().String()), []string{"address"}},
		"the same by another name":   {at("127.0.0.9" + r.Address().String()[len("127.0.0.1"):]), []string{"address"}},
		"the edge's health port":     {at(r.HealthAddress().String()), []string{"address"}},
		"another edge's API":         {at("10.0.0.2:9081"), []string{"address"}},
		"that in its v4-mapped form": {at("[::ffff:10.0.0.2]:9081"), []string{"address"}},
		"one in another v6 spelling": {at("[fd00:0::0003]:9081"), []string{"address"}},
		"a weight of 1001":           {with(`"weight":1001`), []string{"weight"}},
		"a negative weight":          {with(`"weight":-1`), []string{"weight"}},
		"half a weight":              {with(`"weight":0.5`), []string{"weight"}},
		"a weight in text":           {with(`"weight":"100"`), []string{"weight"}},
		"no weight but null":         {with(`"weight":null`), []string{"weight"}},
		"a strange protocol":         {with(`"protocol":"gopher"`), []string{"protocol"}},
		"a ttl without unit":         {with(`"ttl":"15"`), []string{"ttl"}},
		"a ttl as a number":          {with(`"ttl":15`), []string{"ttl"}},
		"a short ttl":                {with(`"ttl":"10ms"`), []string{"ttl"}},
		"a long ttl":                 {with(`"ttl":"25h"`), []string{"ttl"}},
		"a relative health path":     {with(`"health_path":"healthz"`), []string{"health_path"}},
		"tags that are a list":       {with(`"tags":["a"]`), []string{"tags"}},
		"a tag that is a number":     {with(`"tags":{"a":1}`), []string{"tags.a"}},
		"a tag that is null":         {with(`"tags":{"a":null}`), []string{"tags.a"}},
		"a tag twice":                {with(`"tags":{"a":"1","a":"2"}`), []string{"tags.a"}},
		"a tag with a newline":       {with(`"tags":{"a":"b\nc"}`), []string{"tags.a"}},
		"33 tags":                    {with(`"tags":{` + manyTags(33) + `}`), []string{"tags"}},
		"an unknown field":           {with(`"wieght":10`), []string{"wieght"}},
		"the owner":                  {with(`"owner":"az2-edge"`), []string{"owner"}},
		"another letter case":        {with(`"Version":"v1"`), []string{"Version"}},
		"a field twice":              {with(`"zone":"az2"`), []string{"zone"}},
		"another id":                 {with(`"id":"u-2"`), []string{"id"}},
		"another service":            {with(`"service":"other"`), []string{"service"}},
		"draining as text":           {with(`"draining":"yes"`), []string{"draining"}},
		"three at once":              {`{"zone":"az1","address":"10.0.0.7:80","weight":"x","x":1,"ttl":"1ms"}`, []string{"ttl", "weight", "x"}},
	} {
		got := r.send(http.MethodPut, u1, c.body)
		p := got.problem(t)
		var fields []string
		for _, e := range p.Errors {
			fields = append(fields, e.Field)
			if e.Found == "" || e.Allowed == "" {
				t.Errorf("%s: %+v does not say what was found and what is allowed", name, e)
			}
		}
		slices.Sort(fields)
		if p.Status != http.StatusUnprocessableEntity || p.Type != api.ProblemFields || !slices.Equal(fields, c.fields) {
			t.Errorf("%s: %s\ngot %v of %s, want 422 and %v", name, c.body, fields, got.body, c.fields)
		}
	}
	for _, path := range []string{"/v1/services/user%20service/instances/u-1", "/v1/services/user-service/instances/" + strings.Repeat("u", 129)} {
		if p := r.send(http.MethodPut, path, at("10.0.0.7:80")).problem(t); p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 {
			t.Errorf("PUT %s: %v", path, p)
		}
	}
	for _, request := range [][2]string{{http.MethodDelete, ""}, {http.MethodPost, "/drain"}, {http.MethodPost, "/heartbeat"}} {
		if p := r.send(request[0], "/v1/services/user%20service/instances/u-1"+request[1], "").problem(t); p.Status != http.StatusNotFound {
			t.Errorf("%s of a name that no instance can have: %v", request, p)
		}
	}
	if n := r.registry.called(); n != 0 {
		t.Errorf("the registry was called %d times", n)
	}
	if got := r.send(http.MethodPut, u1, with(`"id":"u-1","service":"user-service","ttl":"0s","tags":{`+manyTags(32)+`}`)); got.StatusCode != http.StatusCreated {
		t.Errorf("a good one: %s %s", got.Status, got.body)
	}
}

func manyTags(n int) string {
	tags := make([]string, n)
	for i := range n {
		tags[i] = fmt.Sprintf(`"t%d":"x"`, i)
	}
	return strings.Join(tags, ",")
}

func TestBadBodies(t *testing.T) {
	r := newRig(t, nil)
	const good = `{"zone":"az1","address":"10.0.0.7:8080"}`
	padded := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
		says   string
	}{
		"none":                  {"", nil, http.StatusBadRequest, "found none"},
		"a list":                {`[1]`, nil, http.StatusBadRequest, "a JSON object"},
		"null":                  {`null`, nil, http.StatusBadRequest, "a JSON object"},
		"cut short":             {`{"zone":`, nil, http.StatusBadRequest, "line 1, column 8"},
		"a comma too many":      {"{\n  \"zone\": \"az1\",\n}", nil, http.StatusBadRequest, "line 3, column 1"},
		"two objects":           {good + good, nil, http.StatusBadRequest, "line 1, column 41"},
		"form":                  {good, []string{"Content-Type", "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType, "x-www-form-urlencoded"},
		"no type":               {good, []string{"Content-Type", ""}, http.StatusUnsupportedMediaType, "application/json"},
		"latin1":                {good, []string{"Content-Type", "application/json; charset=latin1"}, http.StatusUnsupportedMediaType, "latin1"},
		"gzip":                  {good, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType, "gzip"},
		"64 KiB and one byte":   {padded(api.MaxBody + 1), nil, http.StatusRequestEntityTooLarge, "65536"},
		"a megabyte":            {padded(1 << 20), nil, http.StatusRequestEntityTooLarge, "65536"},
		"a list of etags":       {good, []string{"If-Match", `"1", "2"`}, http.StatusBadRequest, ""},
		"a weak etag":           {good, []string{"If-Match", `W/"1"`}, http.StatusBadRequest, ""},
		"an etag without quote": {good, []string{"If-Match", `1`}, http.StatusBadRequest, ""},
		"any etag":              {good, []string{"If-Match", `*`}, http.StatusBadRequest, ""},
		"another's etag":        {good, []string{"If-Match", `"abc"`}, http.StatusPreconditionFailed, ""},
		"revision 0":            {good, []string{"If-Match", `"0"`}, http.StatusPreconditionFailed, ""},
		"if none match":         {good, []string{"If-None-Match", `*`}, http.StatusBadRequest, ""},
	} {
		got := r.send(http.MethodPut, u1, c.body, c.header...)
		if p := got.problem(t); p.Status != c.status || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %s", name, got.body)
		}
	}
	for _, suffix := range []string{"/heartbeat", "/drain"} {
		if p := r.send(http.MethodPost, u1+suffix, `{"force":true}`).problem(t); p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != "force" {
			t.Errorf("%s ignores its body: %v", suffix, p)
		}
	}
	if n := r.registry.called(); n != 0 {
		t.Errorf("the registry was called %d times", n)
	}
	for _, kind := range []string{"application/json", "application/json; charset=UTF-8", "Application/JSON"} {
		if got := r.send(http.MethodPut, u1, padded(api.MaxBody), "Content-Type", kind); got.StatusCode >= 300 {
			t.Errorf("a body of exactly 64 KiB as %s: %s", kind, got.body)
		}
	}
}

// TestBodyWithoutLengthIsBounded: chunked, so that no Content-Length tells.
func TestBodyWithoutLengthIsBounded(t *testing.T) {
	r := newRig(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.base+u1, struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 1<<20))})
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = -1
	request.Header.Set("Content-Type", api.ContentTypeJSON)
	answer := httptest.NewRecorder()
	// Without a socket: the server closes the connection in the middle of the
	// body, and the client may see that before it sees the answer.
	request.Host, request.RequestURI = "127.0.0.1", u1
	r.serveAPI(answer, request)
	if answer.Code != http.StatusRequestEntityTooLarge || answer.Header().Get("Connection") != "close" {
		t.Errorf("answered %d %v", answer.Code, answer.Header())
	}
}

func TestRegistryErrors(t *testing.T) {
	r := newRig(t, nil)
	const body = `{"zone":"az1","address":"10.0.0.7:8080"}`
	for _, c := range []struct {
		err    error
		status int
		kind   api.ProblemType
	}{
		{fmt.Errorf("register: %w", &OwnedError{Owner: "az2-edge"}), http.StatusConflict, api.ProblemOwned},
		{fmt.Errorf("register: %w", ErrConflict), http.StatusConflict, api.ProblemConflict},
		{fmt.Errorf("register: %w", ErrPreconditionFailed), http.StatusPreconditionFailed, api.ProblemRevision},
		{fmt.Errorf("register: %w", ErrUnavailable), http.StatusServiceUnavailable, api.ProblemUnavailable},
		{fmt.Errorf("drain: %w", ErrNotFound), http.StatusNotFound, api.ProblemNoInstance},
		{federation.FieldErrors{{Field: "protocol", Found: "x", Allowed: "y"}}, http.StatusUnprocessableEntity, api.ProblemFields},
		{errors.New("password is hunter2"), http.StatusInternalServerError, api.ProblemBlank},
	} {
		r.registry.refuse(c.err)
		for _, request := range [][3]string{
			{http.MethodPut, u1, body}, {http.MethodDelete, u1, ""},
			{http.MethodPost, u1 + "/heartbeat", ""}, {http.MethodPost, u1 + "/drain", ""},
		} {
			got := r.send(request[0], request[1], request[2])
			p := got.problem(t)
			if p.Status != c.status || p.Type != c.kind {
				t.Errorf("%s %s with %v: %s", request[0], request[1], c.err, got.body)
			}
			if strings.Contains(string(got.body), "hunter2") {
				t.Errorf("an internal error was told: %s", got.body)
			}
			if (c.kind == api.ProblemOwned) != (p.Owner == "az2-edge") {
				t.Errorf("owner of %v: %q", c.err, p.Owner)
			}
			if retry := got.Header.Get("Retry-After"); (retry != "") != (c.status == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After of %v: %q", c.err, retry)
			}
		}
	}
}

func FuzzRegistration(f *testing.F) {
	for _, seed := range []string{
		`{"zone":"az1","address":"10.0.0.7:8080"}`,
		`{"zone":"az1","address":"10.0.0.7:8080","tags":{"a":"b"},"weight":1,"ttl":"1s","draining":true}`,
		`{"tags":{"a":null,"a":"b"},"weight":1e9,"ttl":9}`, `[]`, `{"a":{"b":[`, "", "\xff", `{"address":"[::ffff:169.254.169.254]:80","zone":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	s := &Server{
		opts:   Options{Catalog: federation.NewCatalog(federation.CatalogOptions{}), Self: federation.Edge{Locality: federation.Locality{Zone: "az1", Region: "east"}}},
		policy: federation.NewAddressPolicy([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil),
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := s.registration(key1, data)
		if err == nil {
			if i.Key != key1 || i.Validate() != nil || !strings.Contains(i.Address, "10.") || !json.Valid(data) {
				t.Fatalf("accepted %q as %+v", data, i)
			}
			return
		}
		p, internal := problemOf(err)
		if internal || p.Status != http.StatusBadRequest && p.Status != http.StatusUnprocessableEntity {
			t.Fatalf("%q: %v", data, err)
		}
		if p.Status == http.StatusUnprocessableEntity && (len(p.Errors) == 0 || len(p.Errors) > maxFieldErrors) {
			t.Fatalf("%q names %d fields", data, len(p.Errors))
		}
	})
}
