package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with the file, or rewrites it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// cases are the YAML and JSON files of a folder of testdata.
func cases(t *testing.T, folder string) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.yaml", "*.json"} {
		found, err := filepath.Glob(filepath.Join("testdata", folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatalf("no case in %s", folder)
	}
	return files
}

// TestProblems holds every message: file, line, column, field, what was found
// and what is allowed.
func TestProblems(t *testing.T) {
	for _, file := range cases(t, "problems") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := config.Validate([]string{file})
			if err == nil {
				t.Fatal("accepted")
			}
			golden(t, file+".golden", err.Error()+"\n")
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, file := range cases(t, "warnings") {
		documents, err := config.ReadDocuments(file)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, file+".golden", config.Problems(documents.Warnings).Error()+"\n")
	}
}

func TestAcceptedAsItStands(t *testing.T) {
	for _, file := range cases(t, "accepted") {
		report, err := config.Validate([]string{file})
		if err != nil {
			t.Errorf("%s is refused:\n%v", file, err)
			continue
		}
		if process := strings.HasSuffix(file, "edge.yaml"); process != (len(report.Processes) == 1) || process == (report.Documents != nil) {
			t.Errorf("%s is taken for the wrong kind: %+v", file, report)
		}
	}
}
