package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

// delivery is one call of deliver: the paths of the routes in id order, or the
// error.
type delivery struct {
	paths string
	err   string
}

// watch starts a source and returns what it delivers, in order.
func watch(t *testing.T, path string) <-chan delivery {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	deliveries := make(chan delivery, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- config.NewPathSource(path, 10*time.Millisecond).Watch(ctx, func(documents *config.Documents, err error) {
			if err != nil {
				deliveries <- delivery{err: err.Error()}
				return
			}
			var paths []string
			for _, r := range documents.Routes {
				paths = append(paths, r.Path)
			}
			deliveries <- delivery{paths: strings.Join(paths, " ")}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
	return deliveries
}

// receive waits for a delivery.
func receive(t *testing.T, deliveries <-chan delivery, want string) delivery {
	t.Helper()
	select {
	case d := <-deliveries:
		return d
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing delivered, want %q", want)
		return delivery{}
	}
}

// next expects a delivery; want is the paths, or a part of the error.
func next(t *testing.T, deliveries <-chan delivery, want string) {
	t.Helper()
	d := receive(t, deliveries, want)
	if d.err == "" && d.paths != want || d.err != "" && (want == "" || !strings.Contains(d.err, want)) {
		t.Fatalf("delivered %+v, want %q", d, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace writes as editors do: another file, renamed over the old one.
func replace(t *testing.T, path, text string) {
	t.Helper()
	temporary := filepath.Join(filepath.Dir(path), ".next~")
	write(t, temporary, text)
	if err := os.Rename(temporary, path); err != nil {
		t.Fatal(err)
	}
}

func routeText(id, path string) string {
	return fmt.Sprintf("- { id: %s, path: %s, upstream: 'http://x' }\n", id, path)
}

func TestWatchFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, file, routeText("a", "/1"))
	deliveries := watch(t, file)
	next(t, deliveries, "/1")
	replace(t, file, routeText("a", "/2"))
	next(t, deliveries, "/2")
	// In place, of the same size, perhaps within one tick of the clock.
	write(t, file, routeText("a", "/3"))
	next(t, deliveries, "/3")
	// A comment is no change; the next delivery is the next content.
	replace(t, file, "# comment\n"+routeText("a", "/3"))
	write(t, file, routeText("a", "/4")+routeText("b", "/5"))
	next(t, deliveries, "/4 /5")
}

// TestWatchKeepsWhatIsValid: an invalid set is reported once and not
// delivered; what follows it is, even when it is the one from before.
func TestWatchKeepsWhatIsValid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, file, routeText("a", "/1"))
	deliveries := watch(t, file)
	next(t, deliveries, "/1")
	replace(t, file, routeText("a", "bad"))
	next(t, deliveries, `[0].path: found "bad"`)
	replace(t, file, routeText("a", "worse"))
	next(t, deliveries, `[0].path: found "worse"`)
	replace(t, file, "")
	next(t, deliveries, "found no document")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	next(t, deliveries, "no such file")
	replace(t, file, routeText("a", "/1"))
	next(t, deliveries, "/1")
}

func TestWatchBeginsWithAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.yaml")
	deliveries := watch(t, file)
	next(t, deliveries, "no such file")
	write(t, file, routeText("a", "/1"))
	next(t, deliveries, "/1")
}

func TestWatchFolder(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	write(t, in("a.yaml"), routeText("a", "/a"))
	write(t, in("b.yml"), routeText("b", "/b"))
	write(t, in("c.json"), `[{"id": "c", "path": "/c", "upstream": "http://x"}]`)
	for _, ignored := range []string{".hidden.yaml", "a.yaml~", "a.yaml.swp", "README.md"} {
		write(t, in(ignored), "not YAML: [")
	}
	if err := os.Mkdir(in("folder.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	deliveries := watch(t, folder)
	next(t, deliveries, "/a /b /c")
	write(t, in("d.yaml"), routeText("d", "/d"))
	next(t, deliveries, "/a /b /c /d")
	if err := os.Remove(in("a.yaml")); err != nil {
		t.Fatal(err)
	}
	next(t, deliveries, "/b /c /d")
	write(t, in("e.yaml"), routeText("b", "/e"))
	next(t, deliveries, `Route "b" again`)
}

// TestWatchFolderOfLinks swaps folders as mounted configuration maps are
// swapped: ..data is a link that is renamed over, and the files are links
// through it. The two files of a generation belong together; sets that mix
// generations must never be delivered.
func TestWatchFolderOfLinks(t *testing.T) {
	folder := t.TempDir()
	in := func(parts ...string) string { return filepath.Join(append([]string{folder}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	generation := func(n int) {
		name := fmt.Sprintf("..generation-%d", n)
		must(os.Mkdir(in(name), 0o700))
		for _, file := range []string{"a", "b"} {
			write(t, in(name, file+".yaml"), routeText(file, fmt.Sprintf("/%04d", n)))
		}
		must(os.Symlink(name, in("..next")))
		must(os.Rename(in("..next"), in("..data")))
		if n > 0 {
			must(os.RemoveAll(in(fmt.Sprintf("..generation-%d", n-1))))
		}
	}
	generation(0)
	must(os.Symlink("..data/a.yaml", in("a.yaml")))
	must(os.Symlink("..data/b.yaml", in("b.yaml")))
	deliveries := watch(t, folder)
	next(t, deliveries, "/0000 /0000")
	const last = 60
	for n := 1; n <= last; n++ {
		generation(n)
		if n%10 == 0 { // let some of them be seen
			for want := fmt.Sprintf("/%04d", n); ; {
				d := receive(t, deliveries, want)
				a, b, _ := strings.Cut(d.paths, " ")
				if d.err != "" || a != b {
					t.Fatalf("a mixed set was delivered: %+v", d)
				}
				if a == want {
					break
				}
			}
		}
	}
}
