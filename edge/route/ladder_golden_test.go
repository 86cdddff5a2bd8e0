package route_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

var update = flag.Bool("update", false, "rewrite what the golden files expect")

// TestLadderGolden runs testdata/ladder. Each file is about one sentence of the
// design; its cases come in twins. A case is what is registered and configured,
// one line each, and requests, each followed by the decision:
//
//	edge ZONE/REGION [ZONE...]      where this edge stands, order of far zones
//	service [baseline=VERSION] [capacity=ZONE:WEIGHT]...
//	release NAME strict|permissive [paused] [SERVICE=VERSION]...
//	instance ID VERSION ZONE/REGION [weight=N] [draining] [unhealthy] [recovering=PERCENT] [full]
//	gone ID...                      deregistered
//	wait DURATION                   requests are served for so long
//	lost ZONE                       demoted
//	seen HEALTHY UNHEALTHY          instances of other services
//	panic PERCENT                   threshold
//	ask [TAG] [untrusted] [point=N] [tried=ID,...] [avoiding=ZONE]
//	> lane SUBSET REASON [else SUBSET]
//	> RUNG ZONE SHARE: ENDPOINTS [unhealthy ENDPOINTS] [draining N]
//	> => RUNG ENDPOINT REASON
//
// The service is "users". The first usable endpoint by id stands for the
// balance policy's pick.
func TestLadderGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/ladder/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, cases := runGolden(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if cases < 2 {
				t.Error("a case without its twin")
			}
			compareGolden(t, string(text), got)
		})
	}
}

func compareGolden(t *testing.T, want, got string) {
	t.Helper()
	name := ""
	wanted, gotten := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wanted), len(gotten)) {
		w, g := "", ""
		if i < len(wanted) {
			w = wanted[i]
		}
		if i < len(gotten) {
			g = gotten[i]
		}
		if strings.HasPrefix(w, "case ") {
			name = w
		}
		if w != g {
			t.Fatalf("%s, line %d:\nwant %s\n got %s", name, i+1, w, g)
		}
	}
}

// runGolden returns the text with what is decided in place of what was
// expected.
func runGolden(t *testing.T, text string) (got string, cases int) {
	var out strings.Builder
	var c *ladderCase
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "> ") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "case":
			cases++
			c = newLadderCase(t)
		default:
			out.WriteString(c.do(words))
		}
	}
	return out.String(), cases
}

// ladderCase is the world of one case.
type ladderCase struct {
	t                    *testing.T
	in                   route.PlanInput
	threshold            int
	otherwell, otherwise int
}

func newLadderCase(t *testing.T) *ladderCase {
	return &ladderCase{t: t, in: route.PlanInput{
		Name: "users", View: &federation.ServiceView{Name: "users"},
		Topology: &route.Topology{}, Lost: make(map[string]bool),
		HighWater: &route.HighWater{}, Now: time.Unix(1000, 0),
	}}
}

// do follows one line and returns what is to be written below it.
func (c *ladderCase) do(words []string) string {
	args := words[1:]
	switch words[0] {
	case "edge":
		zone, region, _ := strings.Cut(args[0], "/")
		c.in.Topology = &route.Topology{Zone: zone, Region: region, ZoneOrder: args[1:]}
	case "service":
		c.service(args)
	case "release":
		c.release(args)
	case "instance":
		c.in.View.Endpoints = append(c.in.View.Endpoints, c.instance(args))
	case "gone":
		c.in.View.Endpoints = slices.DeleteFunc(slices.Clone(c.in.View.Endpoints), func(e *federation.Endpoint) bool {
			return slices.Contains(args, e.ID)
		})
	case "wait":
		route.NewPlan(c.in)
		d, err := time.ParseDuration(args[0])
		if err != nil {
			c.t.Fatal(err)
		}
		c.in.Now = c.in.Now.Add(d)
	case "lost":
		c.in.Lost[args[0]] = true
	case "seen":
		c.otherwell, c.otherwise = c.number(args[0]), c.number(args[1])
	case "panic":
		c.threshold = c.number(args[0])
	case "ask":
		return c.ask(args)
	default:
		c.t.Fatalf("unknown word %q", words[0])
	}
	return ""
}

func (c *ladderCase) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *ladderCase) service(args []string) {
	s := &federation.Service{Name: "users", ZoneCapacity: make(map[string]int)}
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "baseline":
			s.Baseline = &federation.Selector{Version: value}
		case "capacity":
			zone, weight, _ := strings.Cut(value, ":")
			s.ZoneCapacity[zone] = c.number(weight)
		}
	}
	c.in.Service = s
}

func (c *ladderCase) release(args []string) {
	r := &federation.Release{Name: args[0], Fallback: federation.Fallback(args[1]), Services: make(map[string]federation.Selector)}
	for _, arg := range args[2:] {
		if arg == "paused" {
			r.Paused = true
			continue
		}
		service, version, _ := strings.Cut(arg, "=")
		r.Services[service] = federation.Selector{Version: version}
	}
	c.in.Releases = append(c.in.Releases, r)
}

func (c *ladderCase) instance(args []string) *federation.Endpoint {
	zone, region, _ := strings.Cut(args[2], "/")
	e := &federation.Endpoint{
		Instance: &federation.Instance{
			Key:      federation.Key{Service: "users", ID: args[0]},
			Locality: federation.Locality{Zone: zone, Region: region},
			Version:  args[1], Weight: federation.DefaultWeight,
		},
		Health:  federation.Health{Status: federation.Healthy, Percent: 100},
		Runtime: &runtime{full: slices.Contains(args, "full")},
	}
	for _, arg := range args[3:] {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "weight":
			e.Weight = c.number(value)
		case "draining":
			e.Draining = true
		case "unhealthy":
			e.Health = federation.Health{Status: federation.Unhealthy}
		case "recovering":
			e.Health = federation.Health{Status: federation.Recovering, Percent: uint8(c.number(value))}
		}
	}
	return e
}

// ask decides one request and writes the decision down.
func (c *ladderCase) ask(args []string) string {
	ask, point, avoiding := route.Ask{TagCounts: true}, 0, ""
	var tried []string
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "untrusted":
			ask.TagCounts = false
		case "point":
			point = c.number(value)
		case "tried":
			tried = strings.Split(value, ",")
		case "avoiding":
			avoiding = value
		default:
			ask.Tag = arg
		}
	}
	d := route.NewPlan(c.in).Decide(ask)
	var out strings.Builder
	fmt.Fprintf(&out, "> lane %s %s", d.Lane.Subset, d.Reason)
	if d.Fallback != nil {
		fmt.Fprintf(&out, " else %s", d.Fallback.Subset)
	}
	out.WriteString("\n")

	picked, took := (*federation.Endpoint)(nil), route.RungNone
	ladder := d.LadderAvoiding(uint32(point), avoiding)
	for g, rung, ok := ladder.Next(); ok; g, rung, ok = ladder.Next() {
		fmt.Fprintf(&out, "> %s %s %d:%s\n", rung, g.Zone, g.Share, describe(g))
		for _, e := range g.Endpoints {
			if picked == nil && e.Usable() && !slices.Contains(tried, e.ID) {
				picked, took = e, rung
			}
		}
	}
	if picked == nil && c.panics() {
		ladder := d.PanicLadder()
		for g, rung, ok := ladder.Next(); ok && picked == nil; g, rung, ok = ladder.Next() {
			if len(g.Unhealthy) > 0 {
				picked, took = g.Unhealthy[0], rung
			}
		}
	}
	id := "nothing"
	if picked != nil {
		id = picked.ID
	}
	fmt.Fprintf(&out, "> => %s %s %s\n", took, id, d.ReasonAt(took))
	return out.String()
}

func (c *ladderCase) panics() bool {
	instances, unhealthy := c.otherwell+c.otherwise, c.otherwise
	for _, e := range c.in.View.Endpoints {
		instances++
		if !e.Health.Usable() {
			unhealthy++
		}
	}
	return route.Panic(instances, unhealthy, c.threshold)
}

func describe(g *route.Group) string {
	text := ""
	for _, e := range g.Endpoints {
		text += " " + e.ID
	}
	if len(g.Unhealthy) > 0 {
		text += " unhealthy"
	}
	for _, e := range g.Unhealthy {
		text += " " + e.ID
	}
	if g.Draining > 0 {
		text += fmt.Sprintf(" draining %d", g.Draining)
	}
	return text
}

// runtime is an endpoint's state on this edge.
type runtime struct {
	full     bool
	inFlight int64
}

func (r *runtime) InFlight() int64 { return r.inFlight }
func (r *runtime) Admits() bool    { return !r.full }
func (r *runtime) Close()          {}
