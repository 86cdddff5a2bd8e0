package route

import "testing"

// TestSamplePathMatches: a sample is a path that its pattern takes.
func TestSamplePathMatches(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                              "/",
		"/":                             "/",
		"/users":                        "/users",
		"/users/":                       "/users/",
		"/users/{id}":                   "/users/id",
		"/users/**":                     "/users/more",
		"/**":                           "/more",
		"/{version:v[0-9]+}/users/**":   "/v1/users/more",
		"/files/{n}.{ext:[a-z]+}":       "/files/x.a",
		"/{id:[0-9]{3}(?:-(?:b|c))?}/x": "/111/x",
		"/{lang:de|en}":                 "/de",
		"/{upper:[A-F]+}":               "/A",
		"/{any:[^.]+}/{dots:.*}":        "/1/",
		"/a b/{x}":                      "/a%20b/x",
		"/{never:\\bfoo\\B.}":           "/foox",
	} {
		if err := (&Route{ID: "r", Path: pattern}).Validate(); err != nil {
			t.Fatalf("%s: %v", pattern, err)
		}
		got := SamplePath(pattern)
		table, err := NewTable([]Route{{ID: "r", Path: pattern}})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", pattern, got, want)
		}
		if _, _, result := table.Match(&Input{Method: "GET", Path: got}); result != Matched {
			t.Errorf("%s does not take its sample %s", pattern, got)
		}
	}
}
