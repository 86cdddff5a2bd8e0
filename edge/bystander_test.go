package edge

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attackVariable makes this program an attacker: the attack's name and the
// edge's addresses, separated by commas.
const attackVariable = "GRAYFED_TEST_ATTACK"

// attacker is what attacks report to in a process of their own: nobody.
type attacker struct{ testing.TB }

func (attacker) Helper()               {}
func (attacker) Errorf(string, ...any) {}
func (attacker) Fatal(args ...any)     { panic(fmt.Sprint(args...)) }

// attackForEver is the main function of an attacker, which its parent kills.
func attackForEver(what string) {
	parts := strings.Split(what, ",")
	h := &hostile{whole: &whole{running: &running{t: attacker{}}, plain: parts[1], secure: parts[2]}}
	for _, a := range attacks {
		for a.name == parts[0] {
			h.attack(a)
		}
	}
}

// attack attacks once, until the edge has had enough. Where ports run out, it is
// over sooner.
func (h *hostile) attack(a attack) {
	defer func() { _ = recover() }()
	for _, nc := range a.run(h) {
		if !a.stays {
			_, _ = io.Copy(io.Discard, nc)
		}
		_ = nc.Close()
	}
}

// BenchmarkBystander measures how long the requests of a bystander take, alone
// and beside each attack, which begins anew as soon as it is over. The attacker
// is a process of its own on the last processor; the edge, the bystander and the
// origin share the others (Linux with taskset; elsewhere nobody is kept apart).
func BenchmarkBystander(b *testing.B) {
	cpus := runtime.NumCPU()
	last := strconv.Itoa(cpus - 1)
	if cpus > 1 {
		pin(b, "0-"+strconv.Itoa(cpus-2))
		defer pin(b, "0-"+last)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus - 1))
	}
	h := newHostile(b)
	b.Run("alone", func(b *testing.B) { measureBystander(b, h) })
	for _, a := range attacks {
		b.Run(strings.ReplaceAll(a.name, " ", "-"), func(b *testing.B) {
			self, err := os.Executable()
			if err != nil {
				b.Fatal(err)
			}
			command := exec.Command("taskset", "-c", last, self)
			if _, err := exec.LookPath("taskset"); err != nil {
				command = exec.Command(self)
			}
			command.Env = append(os.Environ(), attackVariable+"="+strings.Join([]string{a.name, h.plain, h.secure}, ","))
			if err := command.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() {
				_ = command.Process.Kill()
				_ = command.Wait() // it was killed
			}()
			measureBystander(b, h)
		})
	}
}

// pin keeps this process to some processors, where that is possible.
func pin(b *testing.B, cpus string) {
	if err := exec.Command("taskset", "-a", "-c", "-p", cpus, strconv.Itoa(os.Getpid())).Run(); err != nil {
		b.Logf("not kept to processors %s: %v", cpus, err)
	}
}

func measureBystander(b *testing.B, h *hostile) {
	client := h.client(func(p *http.Protocols) { p.SetHTTP1(true) })
	took := make([]time.Duration, 0, 1<<12)
	for b.Loop() {
		begin := time.Now()
		if err := h.beside(b.Context(), client); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
}
