package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine are the facts that figures depend on.
type machine struct {
	Processors int               `json:"processors"`
	Model      string            `json:"model"`
	Kernel     string            `json:"kernel"`
	Go         string            `json:"go"`       // that built this program
	LoadAvg    string            `json:"load_avg"` // over 1, 5 and 15 minutes, when the run began
	Versions   map[string]string `json:"versions"`
}

// readMachine collects what can be found; what cannot is left "unknown", as no
// figure depends on the fact being known.
func readMachine(ctx context.Context, programs map[string]string) machine {
	m := machine{Processors: runtime.NumCPU(), Model: "unknown", Kernel: "unknown", Go: runtime.Version(),
		LoadAvg: "unknown", Versions: make(map[string]string)}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Model = processorModel(text)
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.LoadAvg = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	for name, path := range programs {
		m.Versions[name] = version(ctx, name, path)
	}
	return m
}

func processorModel(cpuinfo []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func version(ctx context.Context, name, path string) string {
	if name == peerGrayfed {
		return builtVersion(path)
	}
	args := map[string][]string{peerCaddy: {"version"}, "h2load": {"--version"}}[name]
	if args == nil {
		args = []string{"-v"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// wrk exits with 1 after printing its version.
	output, _ := cmd.CombinedOutput()
	return firstVersion(string(output))
}

// firstVersion finds the first word with a digit and a dot in what a program
// prints about itself, without a leading name or "v".
func firstVersion(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	for word := range strings.FieldsSeq(line) {
		if i := strings.LastIndexByte(word, '/'); i >= 0 {
			word = word[i+1:]
		}
		if strings.ContainsAny(word, "0123456789") && strings.Contains(word, ".") {
			return strings.TrimPrefix(word, "v")
		}
	}
	return "unknown"
}

// builtVersion reads what the Go toolchain stamped into a binary.
func builtVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	text := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			text = setting.Value[:min(12, len(setting.Value))]
		}
	}
	if slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.modified" && s.Value == "true" }) {
		text += "+changes"
	}
	return text + " (" + info.GoVersion + ")"
}
