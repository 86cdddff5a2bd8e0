// Package consultest runs real Consul agents for tests.
package consultest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// oldest is the version that deploy/consul/fetch.sh fetches. One on PATH is
// taken when it is that or newer.
var oldest = version{1, 8, 7}

type version [3]int

func (v version) before(w version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

// Binary returns the path of the Consul agent: the one on PATH where it is new
// enough, else the one that `make consul` puts into the module's cache. Without
// either the test fails.
func Binary(t testing.TB) string {
	t.Helper()
	path, _ := find(t)
	return path
}

func find(t testing.TB) (string, version) {
	t.Helper()
	if path, err := exec.LookPath("consul"); err == nil {
		if v, err := versionOf(path); err == nil && !v.before(oldest) {
			return path, v
		}
	}
	path := filepath.Join(moduleRoot(t), ".cache", "consul", "consul")
	v, err := versionOf(path)
	if err != nil {
		t.Fatalf("there is no Consul agent, run `make consul`: %v", err)
	}
	return path, v
}

var versionLine = regexp.MustCompile(`^Consul v(\d+)\.(\d+)\.(\d+)`)

func versionOf(path string) (version, error) {
	out, err := exec.Command(path, "version").Output()
	if err != nil {
		return version{}, fmt.Errorf("run %s version: %w", path, err)
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		return version{}, fmt.Errorf("%s version says %.40q", path, out)
	}
	var v version
	for i := range v {
		if v[i], err = strconv.Atoi(string(found[i+1])); err != nil {
			return version{}, fmt.Errorf("%s version says %.40q: %w", path, out, err)
		}
	}
	return v, nil
}

// moduleRoot is the folder of go.mod, above the one of the test.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("the test runs outside of the module")
		}
		dir = above
	}
}
