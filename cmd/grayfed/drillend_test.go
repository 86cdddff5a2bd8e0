package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/grayfed/grayfed/chaos"
	"github.com/grayfed/grayfed/chaos/lab"
	"github.com/grayfed/grayfed/chaos/report"
)

// marker makes a file when something is said to be broken.
type marker struct{ file string }

func (m marker) Write(text []byte) (int, error) {
	if strings.Contains(string(text), "break: ") {
		return len(text), os.WriteFile(m.file, nil, 0o600)
	}
	return len(text), nil
}

// TestDrillLabEnds: a lab that ends by itself while something is broken in it
// leaves nothing to be mended by hand, and the run says why it ended.
func TestDrillLabEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark, program := filepath.Join(dir, "broken"), filepath.Join(dir, "grayfed")
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in
dev-instance*"--zone az2"*v2-beta*)
  %[1]s "$@" & pid=$!
  trap 'kill $pid; wait $pid; exit 0' TERM
  until [ -e %[2]s ]; do sleep 0.1; done
  kill $pid
  exit 7 ;;
esac
exec %[1]s "$@"
`, binary(t), mark)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	drill, err := chaos.ReadDrill(shortDrill(t, `{at: 500ms, loses: [az1], do: [{kind: kill, parts: ["az1/edge"]}]}`, ""))
	if err != nil {
		t.Fatal(err)
	}
	drill.Load.Duration, drill.Budget = drill.Load.Duration*12, 100
	var runs []*report.Run
	err = chaos.WithLab(t.Context(), "dev", lab.Options{Binary: program, Output: io.Discard}, func(ctx context.Context, target *chaos.Target) error {
		var err error
		runs, err = chaos.Run(ctx, chaos.Options{Drill: drill, Target: target, Progress: report.NewProgress(marker{mark}, false)})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "az2/user-service v2-beta ended by itself") || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	if r := runs[0]; r.Verdict != report.Broken || strings.Contains(r.Reason, "NOT MENDED") ||
		!strings.Contains(r.Reason, "the target has ended") || !strings.Contains(r.Reason, "az2/user-service v2-beta ended by itself") {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
}

// full is a disk that is full, or a pipe whose reader has gone.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestDrillThatCannotTell: a report that cannot be written does not keep the
// other from being written, and a drill whose outcome nobody was told has not
// failed.
func TestDrillThatCannotTell(t *testing.T) {
	t.Parallel()
	done := &report.Run{Drill: "x", Verdict: report.Passed}
	r := drillRun{out: t.TempDir()}
	cmd := newDrillRunCommand()
	cmd.SetErr(io.Discard)
	name := filepath.Join(r.out, "x-00010101T000000.000Z")
	if err := os.Mkdir(name+".json", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.save(cmd, done); err == nil || !strings.Contains(err.Error(), name+".json") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(name + ".html"); err != nil || !strings.Contains(string(text), "</html>") {
		t.Errorf("the page: %v", err)
	}
	for out, want := range map[io.Writer]int{full{}: exitNotRun, io.Discard: exitFailure} {
		cmd.SetOut(out)
		failed := exitError{}
		err := r.conclude(cmd, []*report.Run{{Drill: "x", Verdict: report.Failed}, done})
		if !errors.As(err, &failed) || failed.code != want {
			t.Errorf("exit code %d, want %d: %v", failed.code, want, err)
		}
	}
}
