package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
