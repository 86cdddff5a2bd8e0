package report

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, name string, found []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, found, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(found, want) {
		t.Errorf("%s is not what it was; see what changed with -update and git diff", path)
	}
}

// brief is azLoss with few buckets, for a golden file that people can read.
func brief() *Run {
	run := azLoss()
	run.Buckets = run.Buckets[98:104]
	return run
}

func encoded(t testing.TB, run *Run) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := WriteJSON(&out, run); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestJSON: the form that programs read, and that it comes back as it was.
func TestJSON(t *testing.T) {
	run := brief()
	data := encoded(t, run)
	golden(t, "run.json", data)
	if run.Schema != 0 {
		t.Error("writing has changed the run")
	}
	found, err := ReadJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	run.Schema = Schema
	if !reflect.DeepEqual(found, run) {
		t.Errorf("read\n%+v\nwant\n%+v", found, run)
	}
	later := bytes.Replace(data, []byte(`"drill"`), []byte(`"field-of-a-later-version": [1], "drill"`), 1)
	if _, err := ReadJSON(bytes.NewReader(later)); err != nil {
		t.Errorf("with a field more: %v", err)
	}
}

func TestReadJSONRefuses(t *testing.T) {
	good := string(encoded(t, brief()))
	for _, test := range []struct{ from, to, says string }{
		{good, "", "unexpected end"},
		{good, "[]", "not a drill's report"},
		{good, good + "{}", "not a drill's report"},
		{good, "{}", "schema 0, and this program reads 2"},
		{`"schema": 2`, `"schema": 1`, "schema 1, and this program reads 2"},
		{`"drill": "az-loss"`, `"drill": ""`, "does not name its drill"},
		{`"rate": 2000`, `"rate": -1`, "rate of -1"},
		{`"duration_ns": 30000000000`, `"duration_ns": 9223372036854775807`, "time of 9223372036854775807 ns"},
		{`"begun_ns": 10000000000`, `"begun_ns": -1`, "time of -1 ns"},
		{`"at_ns": 10038000000`, `"at_ns": -2`, "time of -2 ns"},
		{`"in_band_ns": 213000000`, `"in_band_ns": -3`, "time of -3 ns"},
		{`"p50_ns": 1`, `"p50_ns": -1`, "time of -1"},
		{`"requests": 60000`, `"requests": -60000`, "count of -60000"},
		{`"az2": 98`, `"az2": -98`, "count of -98"},
		{`"503 no-endpoint": 4`, `"503 no-endpoint": -4`, "count of -4"},
	} {
		text := strings.Replace(good, test.from, test.to, 1)
		if text == good {
			t.Fatalf("there is no %s", test.from)
		}
		if run, err := ReadJSON(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %+v, %v; want an error that says %q", test.to, run, err, test.says)
		}
	}
}

// broken can neither be read nor written.
type broken struct{}

var errBroken = errors.New("disk full")

func (broken) Read([]byte) (int, error)  { return 0, errBroken }
func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestBrokenFiles(t *testing.T) {
	_, err := ReadJSON(broken{})
	for what, err := range map[string]error{
		"read": err, "write": WriteJSON(broken{}, brief()), "page": WriteHTML(broken{}, brief()), "comparison": Compare(broken{}, []*Run{brief()}),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzReadJSON: whatever is read can be shown, as a page that is well-formed.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"schema":2,"drill":"d","load":{"rate":9,"duration_ns":1000000000},"checks":[{"name":"c"}],"buckets":[{"requests":5,"errors":1,"wrong":1,` +
		`"p50_ns":9,"max_ns":99}],"detections":[{"at_ns":7,"by":"b"}],"recoveries":[{"fault":"f"}],"totals":{"lost":1,"reasons":{"r":1}}}`))
	f.Add([]byte(`{"schema":2,"drill":"d","buckets":[{"start_ns":2592000000000000,"requests":1,"zones":{"a":1}}]}`))
	f.Add([]byte(`{"schema":2,"drill":"<","load":{"rate":1e9},"faults":[{"fault":"]]>&","mended_ns":5,"begun_ns":9}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := ReadJSON(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteHTML(&out, run); err != nil {
			t.Fatal(err)
		}
		inspect(t, out.Bytes())
		if line := Verdict(run); strings.ContainsAny(line, "\n\r\x1b") {
			t.Errorf("verdict %q", line)
		}
		out.Reset()
		if err := Compare(&out, []*Run{run, run}); err != nil {
			t.Fatal(err)
		}
	})
}
