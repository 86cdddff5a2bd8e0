package fault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

// goodDocuments end in a comment without a line feed, and have a line of their
// own kind of ending: the very bytes must come back.
const goodDocuments = "apiVersion: grayfed/v1\r\nkind: Service\nmetadata: { name: users }\nspec: { baseline: { version: v1 } }\n# end"

// file writes content; it has a mode of its own.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "documents.yaml")
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// holds fails unless the file is as it is wanted, and alone in its folder.
func holds(t *testing.T, path, want string) {
	t.Helper()
	found, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(found) != want || info.Mode() != 0o640 {
		t.Errorf("%s has mode %s and is\n%q\nwant\n%q", path, info.Mode(), found, want)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
}

// TestBadConfiguration: each flaw is one that an edge refuses, and mended the
// documents are what they were.
func TestBadConfiguration(t *testing.T) {
	for _, flaw := range Flaws() {
		path := file(t, goodDocuments)
		// Both zones read one file.
		target := whole{machine: &machine{names: []string{"az1/edge", "az2/edge"}}, zoneMeans: &zoneMeans{documents: path}}
		f := create(t, Spec{Kind: "bad-configuration", Zones: []string{"*"}, Flaw: flaw}, target)
		if f.String() != "push bad configuration ("+flaw+") to az1, az2" {
			t.Errorf("it is called %q", f)
		}
		broken(t, f)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(content, []byte(goodDocuments)) || bytes.Count(content, []byte(flawed(flaw))) != 1 {
			t.Errorf("%s: pushed %q", flaw, content)
		}
		documents, err := config.ReadDocuments(path)
		why := map[string]string{"syntax": "yaml", "unknown-field": "no-such-field", "invalid": "drill-bad-configuration"}[flaw]
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), why) {
			t.Errorf("%s: %+v, %v; want an error about %s", flaw, documents, err, why)
		}
		mended(t, f)
		holds(t, path, goodDocuments)
		if _, err := config.ReadDocuments(path); err != nil {
			t.Errorf("mended: %v", err)
		}
	}
}

// TestBadConfigurationGone: documents that are not there are not invented.
func TestBadConfigurationGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "documents.yaml")
	target := whole{machine: &machine{names: []string{"az1/edge"}}, zoneMeans: &zoneMeans{documents: path}}
	f := create(t, Spec{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: "syntax"}, target)
	if err := f.Break(limited(t)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", path, err)
	}
}

// TestChangedMeanwhile: what somebody else has written since is theirs.
func TestChangedMeanwhile(t *testing.T) {
	path := file(t, goodDocuments)
	target := whole{machine: &machine{names: []string{"az1/edge"}}, zoneMeans: &zoneMeans{documents: path}}
	f := create(t, Spec{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: "syntax"}, target)
	broken(t, f)
	if err := os.WriteFile(path, []byte("theirs"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Mend(limited(t)); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("mend: %v", err)
	}
	holds(t, path, "theirs")
	// They put back what was there: nothing is left to mend.
	if err := os.WriteFile(path, []byte(goodDocuments), 0); err != nil {
		t.Fatal(err)
	}
	mended(t, f)
	holds(t, path, goodDocuments)
}

// TestClockJump: an offset as the edges read it; where there was no file there
// is none after.
func TestClockJump(t *testing.T) {
	path := file(t, "+5s\n")
	target := whole{machine: &machine{names: []string{"az1/edge"}}, zoneMeans: &zoneMeans{clock: path}}
	f := create(t, Spec{Kind: "clock-jump", Zones: []string{"az1"}, Jump: -90 * time.Minute}, target)
	if f.String() != "set the clock of az1 off by -1h30m0s" {
		t.Errorf("it is called %q", f)
	}
	broken(t, f)
	holds(t, path, "-1h30m0s\n")
	mended(t, f)
	holds(t, path, "+5s\n")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	broken(t, f)
	if content, err := os.ReadFile(path); err != nil || string(content) != "-1h30m0s\n" {
		t.Errorf("written %q, %v", content, err)
	}
	mended(t, f)
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// TestClockJumpNoFolder: a file that cannot be written leaves nothing to mend.
func TestClockJumpNoFolder(t *testing.T) {
	target := whole{machine: &machine{names: []string{"az1/edge"}}, zoneMeans: &zoneMeans{clock: "/no/such/folder/clock"}}
	f := create(t, Spec{Kind: "clock-jump", Zones: []string{"az1"}, Jump: time.Hour}, target)
	if err := f.Break(limited(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("break: %v", err)
	}
	mended(t, f)
}
