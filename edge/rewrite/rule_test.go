package rewrite

import (
	"errors"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

func compile(t testing.TB, r Rule) *Rewriter {
	t.Helper()
	w, err := r.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNothingToDoIsNothing(t *testing.T) {
	if w, err := (&Rule{}).Compile(); w != nil || err != nil {
		t.Errorf("%v, %v", w, err)
	}
}

// TestValidate holds, by rule, what is refused at which field and what the
// answer says is allowed. The other way round, the accepted ones are below.
func TestValidate(t *testing.T) {
	set := func(name, value string) Rule { return Rule{Request: Headers{Set: []Header{{name, value}}}} }
	answer := func(name, value string) Rule { return Rule{Response: Headers{Add: []Header{{name, value}}}} }
	regex := func(from, to string) Rule { return Rule{Path: Path{Regex: &Replacement{from, to}}} }
	replace := func(from, to string) Rule { return Rule{Path: Path{ReplacePrefix: &Replacement{from, to}}} }
	strip := func(prefix string) Rule { return Rule{Path: Path{StripPrefix: prefix}} }
	var many Headers
	for range MaxHeaders + 1 {
		many.Remove = append(many.Remove, "x")
	}
	for name, test := range map[string]struct {
		rule           Rule
		field, allowed string
	}{
		"strip nothing":           {strip("/"), "rewrite.strip_prefix", "whole segments"},
		"strip relative":          {strip("api"), "rewrite.strip_prefix", "beginning with /"},
		"strip half a segment":    {strip("/api/"), "rewrite.strip_prefix", "no / at its end"},
		"strip dots":              {strip("/a/../b"), "rewrite.strip_prefix", "no dot segments"},
		"strip twice a slash":     {strip("//api"), "rewrite.strip_prefix", "no repeated slashes"},
		"strip raw text":          {strip("/a b"), "rewrite.strip_prefix", "percent-encoded"},
		"strip with a query":      {strip("/a?b"), "rewrite.strip_prefix", "no query"},
		"strip the star":          {strip("*"), "rewrite.strip_prefix", "beginning with /"},
		"replace from nothing":    {replace("", "/a"), "rewrite.replace_prefix.from", "beginning with /"},
		"replace by an authority": {replace("/a", "//evil.test"), "rewrite.replace_prefix.to", "no repeated slashes"},
		"replace by a URL":        {replace("/a", "http://evil.test"), "rewrite.replace_prefix.to", "beginning with /"},
		"replace by the same":     {replace("/a", "/a"), "rewrite.replace_prefix.to", "another prefix"},
		"two ways":                {Rule{Path: Path{StripPrefix: "/a", Regex: &Replacement{"/", "/"}}}, "rewrite", "one of strip_prefix"},
		"unbalanced":              {regex("/(", "/a"), "rewrite.regex.from", "missing closing )"},
		"balanced across":         {regex("/a)|(/b", "/a"), "rewrite.regex.from", "unexpected )"},
		"no expression":           {regex("", "/a"), "rewrite.regex.from", "1 to 512"},
		"long expression":         {regex(strings.Repeat("a", MaxRegexLength+1), "/a"), "rewrite.regex.from", "1 to 512"},
		"large repetition":        {regex("/(a{1000}){1000}", "/a"), "rewrite.regex.from", "valid RE2"},
		"back reference":          {regex(`/(a)\1`, "/a"), "rewrite.regex.from", "invalid escape"},
		"to nothing":              {regex("/a", ""), "rewrite.regex.to", "beginning with /"},
		"to a capture":            {regex("/(.*)", "$1"), "rewrite.regex.to", "beginning with /"},
		"to a query":              {regex("/(.*)", "/a?b=$1"), "rewrite.regex.to", "no query"},
		"to dots":                 {regex("/(.*)", "/../$1"), "rewrite.regex.to", "no dot segments"},
		"to half an escape":       {regex("/(.*)", "/a%$1"), "rewrite.regex.to", "percent-encoded"},
		"no such capture":         {regex("/(.*)", "/a/$2"), "rewrite.regex.to", "the capture ${1}"},
		"no such name":            {regex("/(?P<id>.*)/(b)", "/a/${name}"), "rewrite.regex.to", "${id} and ${2}"},
		"no captures":             {regex("/a", "/$1"), "rewrite.regex.to", "no captures"},
		"a lone dollar":           {regex("/(.*)", "/$a"), "rewrite.regex.to", "$$ for a dollar sign"},
		"an open brace":           {regex("/(.*)", "/${1"), "rewrite.regex.to", "$$ for a dollar sign"},
		"many captures":           {regex("/(.*)", "/"+strings.Repeat("$1", MaxReferences+1)), "rewrite.regex.to", "at most 16"},
		"host with a scheme":      {Rule{Host: "http://a"}, "rewrite.host", "keep, upstream"},
		"host with a path":        {Rule{Host: "a/b"}, "rewrite.host", "fixed host name"},
		"host with two ports":     {Rule{Host: "a:1:2"}, "rewrite.host", "fixed host name"},
		"host with port 0":        {Rule{Host: "a:0"}, "rewrite.host", "optional port"},
		"host with a large port":  {Rule{Host: "a:65536"}, "rewrite.host", "optional port"},
		"host splits":             {Rule{Host: "a\r\nX: b"}, "rewrite.host", "fixed host name"},
		"bare IPv6":               {Rule{Host: "2001:db8::1"}, "rewrite.host", "[2001:db8::1]"},
		"IPv6 of a scope":         {Rule{Host: "[fe80::1%eth0]"}, "rewrite.host", "[2001:db8::1]"},
		"variable in the host":    {Rule{Host: "${host}"}, "rewrite.host", "fixed host name"},
		"no name":                 {set("", "a"), "request_headers.set.nothing", "a field's name"},
		"a name with a colon":     {set("a:b", "c"), `request_headers.set."a:b"`, "a field's name"},
		"a name that splits":      {set("a\r\nb", "c"), `request_headers.set."a\r\nb"`, "a field's name"},
		"a long name":             {set(strings.Repeat("a", MaxNameLength+1), "c"), "request_headers.set." + federation.Quote(strings.Repeat("a", MaxNameLength+1)), "1 to 128"},
		"no value":                {set("X-A", ""), "request_headers.set.X-A", "1 to 1024 bytes"},
		"a value that splits":     {set("X-A", "a\r\nX-B: b"), "request_headers.set.X-A", "printable ASCII"},
		"NUL":                     {set("X-A", "a\x00"), "request_headers.set.X-A", "printable ASCII"},
		"space at the end":        {set("X-A", "a "), "request_headers.set.X-A", "no space"},
		"a long value":            {set("X-A", strings.Repeat("a", MaxValueLength+1)), "request_headers.set.X-A", "1 to 1024"},
		"unknown variable":        {set("X-A", "${client-ip}"), "request_headers.set.X-A", "the variables request_id, client_ip, method"},
		"a capture in a value":    {set("X-A", "$1"), "request_headers.set.X-A", "the variables request_id"},
		"of an answer":            {set("X-A", "${instance}"), "request_headers.set.X-A", "the variables request_id"},
		"unknown in an answer":    {answer("X-A", "${status}"), "response_headers.add.X-A", "instance and instance_zone"},
		"a framing field":         {set("Transfer-Encoding", "chunked"), "request_headers.set.Transfer-Encoding", "frames a message"},
		"one that looks like it":  {set("content_length", "0"), "request_headers.set.content_length", "frames a message"},
		"the host":                {set("Host", "a"), "request_headers.set.Host", "frames a message"},
		"connection":              {Rule{Request: Headers{Remove: []string{"X-A", "Connection"}}}, "request_headers.remove[1]", "belongs to one connection"},
		"te of an answer":         {answer("TE", "a"), "response_headers.add.TE", "belongs to one connection"},
		"whom it comes from":      {set("X-Forwarded-For", "10.0.0.1"), "request_headers.set.X-Forwarded-For", "answers for"},
		"and its lookalike":       {set("x.forwarded_for", "10.0.0.1"), "request_headers.set.x.forwarded_for", "answers for"},
		"the real IP":             {Rule{Request: Headers{Remove: []string{"x-real-ip"}}}, "request_headers.remove[0]", "answers for"},
		"Forwarded":               {Rule{Request: Headers{Add: []Header{{"Forwarded", "for=a"}}}}, "request_headers.add.Forwarded", "answers for"},
		"the request's id":        {set("X-Request-Id", "a"), "request_headers.set.X-Request-Id", "answers for"},
		"the release tag":         {set("X-Release-Tag", "v2"), "request_headers.set.X-Release-Tag", "answers for"},
		"the decision":            {answer("x-gray-decision", "a"), "response_headers.add.x-gray-decision", "answers for"},
		"a name twice": {Rule{Request: Headers{Set: []Header{{"X-A", "a"}}, Remove: []string{"x-a"}}},
			"request_headers.set.X-A", "each name once"},
		"many names": {Rule{Request: many}, "request_headers.remove", "at most 64"},
	} {
		err := test.rule.Validate()
		errs, ok := errors.AsType[federation.FieldErrors](err)
		if !ok || len(errs) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if errs[0].Field != test.field || !strings.Contains(errs[0].Allowed, test.allowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, rule := range map[string]Rule{
		"prefix":             strip("/api/v1"),
		"encoded prefix":     strip("/a%20b"),
		"replace":            replace("/a", "/b/c"),
		"add a prefix":       replace("/", "/b"),
		"replace by nothing": replace("/a", "/"),
		"regex":              regex(`^/(?P<id>[0-9]+)/(.*)$`, "/u/${id}/$2/$$"),
		"keep":               {Host: HostKeep, Path: Path{StripPrefix: "/a"}},
		"upstream":           {Host: HostUpstream},
		"fixed":              {Host: "API.example.com:8080"},
		"address":            {Host: "192.0.2.1"},
		"address 6":          {Host: "[2001:db8::1]:443"},
		"a named keep":       {Host: "upstream:80"},
		"all variables":      answer("X-A", "${"+strings.Join(variablesOf(true), "} ${")+"}"),
		"dollars":            set("X-A", "$$1 $$"),
		"odd but legal name": set("x!#$%&'*+-.^_`|~", "a"),
		"like none":          set("X-Forwarded-Fox", "a"),
		"each once": {Request: Headers{Set: []Header{{"X-A", "a"}}, Add: []Header{{"X-B", "b"}}, Remove: []string{"X-C"}},
			Response: Headers{Remove: []string{"X-A"}}},
	} {
		if err := rule.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEverythingWrongIsReported(t *testing.T) {
	err := (&Rule{
		Path: Path{StripPrefix: "x"}, Host: "/",
		Request: Headers{Set: []Header{{"Host", "$"}}}, Response: Headers{Remove: []string{"a b", "TE"}},
	}).Validate()
	if errs, _ := errors.AsType[federation.FieldErrors](err); len(errs) != 6 {
		t.Errorf("%d problems: %v", len(errs), err)
	}
}

func TestHostWords(t *testing.T) {
	for text, want := range map[string]Host{"keep": HostKeep, "upstream": HostUpstream, "a.test:80": "a.test:80"} {
		if got := ParseHost(text); got != want || got.String() != text {
			t.Errorf("%s: %q, %q", text, got, got.String())
		}
	}
}
