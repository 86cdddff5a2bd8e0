package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/chaos/fault"
)

// maxFile bounds a drill or a target file, in bytes.
const maxFile = 1 << 20

// ReadDrill reads a drill from a file. Its error has a line "file:line: ..." for
// each thing that is wrong.
func ReadDrill(file string) (*Drill, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return DecodeDrill(file, data)
}

// DecodeDrill is [ReadDrill] of what was read already; file is named in errors.
func DecodeDrill(file string, data []byte) (*Drill, error) {
	d := new(Drill)
	places, err := decode(file, data, d)
	if err != nil {
		return nil, err
	}
	d.withDefaults()
	p := problems{file: file, places: places}
	d.check(&p)
	if err := p.err(); err != nil {
		return nil, err
	}
	return d, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return data, nil
}

// decode reads one YAML document strictly into a struct, and returns where its
// values stand.
func decode(file string, data []byte, into any) (_ places, err error) {
	// The parser panics on some malformed input.
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%s: the YAML parser gave up on it", file)
		}
	}()
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	if err := strict.Decode(into); err != nil {
		return nil, located(file, err)
	}
	if err := strict.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document", file)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, located(file, err)
	}
	found := places{}
	found.walk("", &root, 0)
	return found, nil
}

// located puts the file before each line of the parser's message.
func located(file string, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: is empty", file)
	}
	messages := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if many, ok := errors.AsType[*yaml.TypeError](err); ok {
		messages = many.Errors
	}
	line := regexp.MustCompile(`^line (\d+): `)
	goType := regexp.MustCompile(` (in|into) type \S+$| into \S+$`)
	var all []error
	for _, message := range messages {
		message = goType.ReplaceAllString(message, "")
		if m := line.FindStringSubmatch(message); m != nil {
			all = append(all, fmt.Errorf("%s:%s: %s", file, m[1], message[len(m[0]):]))
			continue
		}
		all = append(all, fmt.Errorf("%s: %s", file, message))
	}
	return errors.Join(all...)
}

// places are the lines of values by their path: "faults[0].do[1]".
type places map[string]int

// maxNesting bounds the walk: nothing that is decoded is nested so deeply.
const maxNesting = 12

func (p places) walk(path string, n *yaml.Node, depth int) {
	if depth > maxNesting {
		return
	}
	p[path] = n.Line
	switch n.Kind {
	case yaml.DocumentNode:
		for _, child := range n.Content {
			p.walk(path, child, depth+1)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p.walk(strings.TrimPrefix(path+"."+n.Content[i].Value, "."), n.Content[i+1], depth+1)
		}
	case yaml.SequenceNode:
		for i, child := range n.Content {
			p.walk(fmt.Sprintf("%s[%d]", path, i), child, depth+1)
		}
	case yaml.AliasNode, yaml.ScalarNode:
	}
}

// problems collects what is wrong, each with its line.
type problems struct {
	file   string
	places places
	list   []error
}

// add says what is wrong with the value at path, or, where that is left out,
// with what is around it.
func (p *problems) add(path, format string, args ...any) {
	at := path
	for {
		if line, ok := p.places[at]; ok && line > 0 {
			p.list = append(p.list, fmt.Errorf("%s:%d: %s: %s", p.file, line, path, fmt.Sprintf(format, args...)))
			return
		}
		cut := strings.LastIndexAny(at, ".[")
		if cut < 0 {
			p.list = append(p.list, fmt.Errorf("%s: %s: %s", p.file, path, fmt.Sprintf(format, args...)))
			return
		}
		at = at[:cut]
	}
}

func (p *problems) err() error { return errors.Join(p.list...) }

// within adds a problem when a value is out of its range.
func within[T int | float64 | time.Duration](p *problems, path string, value, least, most T) {
	if value < least || value > most {
		p.add(path, "found %v, allowed %v to %v", value, least, most)
	}
}

func (d *Drill) check(p *problems) {
	if d.Name == "" || strings.ContainsAny(d.Name, "/ \t\r\n") {
		p.add("name", "found %q, allowed a word", d.Name)
	}
	if d.About == "" {
		p.add("about", "is missing: say what it breaks and what it proves")
	}
	if !(d.Budget > 0 && d.Budget <= 100) {
		p.add("budget_percent", "found %v, allowed above 0 to 100", d.Budget)
	}
	d.Load.check(p)
	within(p, "steady.for", d.Steady.For, 100*time.Millisecond, time.Minute)
	within(p, "steady.slow", d.Steady.Slow, time.Millisecond, time.Minute)
	for i := range d.Faults {
		d.checkStep(p, i)
	}
	if d.SLO.LostIdempotent != nil {
		within(p, "slo.lost_idempotent_percent", *d.SLO.LostIdempotent, 0, 100)
	}
	if d.SLO.Lost != nil {
		within(p, "slo.lost_percent", *d.SLO.Lost, 0, 100)
	}
	if d.SLO.Fallbacks != nil && *d.SLO.Fallbacks < 0 {
		p.add("slo.fallbacks", "found %d, allowed from 0", *d.SLO.Fallbacks)
	}
	within(p, "slo.in_band", d.SLO.InBand, 0, time.Hour)
	within(p, "slo.dns", d.SLO.DNS, 0, time.Hour)
	within(p, "slo.p99", d.SLO.P99, 0, time.Hour)
	within(p, "slo.p99_untagged", d.SLO.P99Untagged, 0, time.Hour)
	if d.SLO.P99Untagged > 0 && d.Load.Mix.Untagged <= 0 {
		p.add("slo.p99_untagged", "is judged by untagged requests, and load.mix has none")
	}
	if d.SLO.DNS > 0 && !d.Load.byDNS() {
		p.add("slo.dns", "is judged by a stream via dns, and load.streams has none")
	}
	if d.NeedsDNS && !d.Load.byDNS() {
		p.add("needs_dns", "is of a drill with a stream via dns, and load.streams has none")
	}
	d.SLO.Detected.check(p, len(d.Faults))
}

func (d *Detected) check(p *problems, faults int) {
	within(p, "slo.detected.within", d.Within, 0, time.Hour)
	switch {
	case d.Within == 0 && len(d.Of)+len(d.By) > 0:
		p.add("slo.detected.within", "is missing: say how soon")
	case d.Within > 0 && faults == 0:
		p.add("slo.detected", "is of a fault, and there is none")
	}
	for i, zone := range d.Of {
		if zone == "" {
			p.add(fmt.Sprintf("slo.detected.of[%d]", i), "is empty, allowed the name of a zone")
		}
	}
	for i, by := range d.By {
		if !slices.Contains(ways(), by) {
			p.add(fmt.Sprintf("slo.detected.by[%d]", i), "found %q, allowed %s", by, strings.Join(ways(), ", "))
		}
	}
}

func (l *Load) check(p *problems) {
	within(p, "load.rate", l.Rate, 1, 20_000)
	within(p, "load.duration", l.Duration, time.Second, time.Hour)
	within(p, "load.timeout", l.Timeout, 100*time.Millisecond, time.Minute)
	within(p, "load.reconnect_after", l.Reconnect, 1, 1_000_000)
	if len(l.Streams) == 0 || len(l.Streams) > 16 {
		p.add("load.streams", "found %d, allowed 1 to 16", len(l.Streams))
	}
	for i, s := range l.Streams {
		path := fmt.Sprintf("load.streams[%d]", i)
		within(p, path+".share", s.Share, 1, 1000)
		switch {
		case s.Via != ViaEdges && s.Via != ViaDNS:
			p.add(path+".via", "found %q, allowed %s or %s", s.Via, ViaEdges, ViaDNS)
		case s.Via == ViaDNS && len(s.Edges) > 0:
			p.add(path+".edges", "is for a stream via edges: DNS chooses by itself")
		case s.Via == ViaDNS && s.TLS:
			p.add(path+".tls", "is for a stream via edges")
		}
		for zone, share := range s.Edges {
			within(p, path+".edges."+zone, share, 1, 1000)
		}
	}
	within(p, "load.mix.untagged", l.Mix.Untagged, 0, 1000)
	within(p, "load.mix.permissive", l.Mix.Permissive, 0, 1000)
	within(p, "load.mix.strict", l.Mix.Strict, 0, 1000)
	within(p, "load.mix.posts_percent", l.Mix.Posts, 0, 100)
	if l.Mix.Untagged+l.Mix.Permissive+l.Mix.Strict <= 0 {
		p.add("load.mix", "sends nothing: give untagged, permissive or strict a share")
	}
}

func (d *Drill) checkStep(p *problems, i int) {
	path := fmt.Sprintf("faults[%d]", i)
	s := &d.Faults[i]
	if s.At < 0 || s.At >= d.Load.Duration {
		p.add(path+".at", "found %s, allowed from 0 and before the load's end at %s", s.At, d.Load.Duration)
	}
	if s.For < 0 || s.At+s.For > d.Load.Duration {
		p.add(path+".for", "found %s from %s on, which is not within the load's %s", s.For, s.At, d.Load.Duration)
	}
	if len(s.Do) == 0 {
		p.add(path+".do", "is empty: name the faults")
	}
	for j, spec := range s.Do {
		// Without a target: what is wrong with the spec itself.
		if _, err := fault.New(spec, nil); err != nil && !errors.Is(err, fault.ErrUnsupported) {
			p.add(fmt.Sprintf("%s.do[%d]", path, j), "%v", err)
		}
	}
}
