package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/federation"
)

// decoder walks one YAML document. It remembers where each field was, so that
// what a Validate method finds later gets its place.
type decoder struct {
	file     string
	problems *Problems
	nodes    map[string]*yaml.Node // by field path
	refused  map[string]bool       // field paths with a problem
}

func newDecoder(file string, problems *Problems) *decoder {
	return &decoder{file: file, problems: problems, nodes: make(map[string]*yaml.Node), refused: make(map[string]bool)}
}

func (d *decoder) problem(n *yaml.Node, field, found, allowed string) {
	d.refused[field] = true
	d.problems.add(Problem{File: d.file, Line: n.Line, Column: n.Column, Field: field, Found: found, Allowed: allowed})
}

// wrong reports a value of the wrong form.
func (d *decoder) wrong(n *yaml.Node, field, allowed string) {
	d.problem(n, field, describe(n), allowed)
}

// invalid reports the findings of a Validate method whose field paths begin at
// prefix: each at the node of its field or of the nearest one above it. A
// field whose form was refused before kept its default, about which there is
// nothing more to say.
func (d *decoder) invalid(err error, prefix string) {
	var errs federation.FieldErrors
	if err != nil && !errors.As(err, &errs) {
		errs = federation.FieldErrors{{Found: err.Error(), Allowed: "valid content"}}
	}
	for _, e := range errs {
		field := join(prefix, e.Field)
		if d.refused[field] {
			continue
		}
		d.problem(d.nearest(field), field, e.Found, e.Allowed)
	}
}

// nearest is the node of a field, or of the nearest one above it that is
// there.
func (d *decoder) nearest(field string) *yaml.Node {
	n := d.nodes[field]
	for above := field; n == nil && above != ""; n = d.nodes[above] {
		above = above[:max(strings.LastIndexAny(above, ".["), 0)]
	}
	if n == nil {
		return &yaml.Node{Line: 1, Column: 1}
	}
	return n
}

func join(prefix, field string) string {
	if prefix == "" || field == "" || field[0] == '[' {
		return prefix + field
	}
	return prefix + "." + field
}

// resolve follows aliases; the expansion has been bounded before.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe is a node as Problem.Found has it.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	case n.Tag == "!!str" || n.Value == "":
		return federation.Quote(n.Value)
	default: // a number or a truth value, as written
		return strings.Trim(federation.Quote(n.Value), `"`)
	}
}

// object is a mapping being read. Each key that is asked for is known; end
// reports the others.
type object struct {
	d      *decoder
	field  string
	node   *yaml.Node
	keys   map[string]*yaml.Node
	values map[string]*yaml.Node
	order  []string
	known  []string
}

// object reads a mapping, or reports that the node is none.
func (d *decoder) object(n *yaml.Node, field string) (*object, bool) {
	d.nodes[field] = n
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.wrong(n, field, "a mapping")
		return nil, false
	}
	o := &object{
		d: d, field: field, node: n,
		keys:   make(map[string]*yaml.Node, len(n.Content)/2),
		values: make(map[string]*yaml.Node, len(n.Content)/2),
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.problem(key, field, describe(key)+" as a key", "text")
		case key.Tag == "!!merge":
			d.problem(key, o.path("<<"), "a merge key", "keys written out")
		case o.keys[key.Value] != nil:
			first := o.keys[key.Value]
			d.problem(key, o.path(key.Value), "the key again", fmt.Sprintf("once (first at %d:%d)", first.Line, first.Column))
		default:
			o.keys[key.Value], o.values[key.Value] = key, value
			o.order = append(o.order, key.Value)
			d.nodes[o.path(key.Value)] = value
		}
	}
	return o, true
}

func (o *object) path(name string) string {
	if !federation.ValidName(name) {
		name = federation.Quote(name)
	}
	return join(o.field, name)
}

// get returns a key's value, nil when it is absent or null.
func (o *object) get(name string) *yaml.Node {
	if !slices.Contains(o.known, name) {
		o.known = append(o.known, name)
	}
	n := o.values[name]
	if n == nil {
		return nil
	}
	if n = resolve(n); isNull(n) {
		return nil
	}
	return n
}

// require reports a key that is absent.
func (o *object) require(name, allowed string) {
	if o.get(name) == nil {
		at := o.node
		if n := o.values[name]; n != nil {
			at = n
		}
		o.d.problem(at, o.path(name), "nothing", allowed)
	}
}

// end reports the keys that nobody asked for. notYet are keys of the schema
// whose policy is not built yet.
func (o *object) end(notYet ...string) {
	for _, name := range o.order {
		if slices.Contains(o.known, name) {
			continue
		}
		key := o.keys[name]
		if slices.Contains(notYet, name) {
			o.d.problem(key, o.path(name), name+", which is not supported yet", "no "+name+" in this version")
			continue
		}
		o.d.problem(key, o.path(name), "an unknown field", suggest(name, o.known))
	}
}

// text reads a text. Numbers and truth values count as what was written.
func (o *object) text(name string, into *string) {
	n := o.get(name)
	if n == nil {
		return
	}
	o.d.text(n, o.path(name), into)
}

func (d *decoder) text(n *yaml.Node, field string, into *string) bool {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || isNull(n) || !strings.HasPrefix(n.Tag, "!!") || n.Tag == "!!binary" {
		d.wrong(n, field, "text")
		return false
	}
	*into = n.Value
	return true
}

// choice reads one of a few words; the empty word is none of them.
func (o *object) choice(name string, into *string, words ...string) {
	var text string
	n := o.get(name)
	if n == nil {
		return
	}
	if o.d.text(n, o.path(name), &text) {
		if !slices.Contains(words, text) {
			o.d.wrong(n, o.path(name), oneOf(words))
			return
		}
		*into = text
	}
}

// flag reads true or false, or on or off.
func (o *object) flag(name string, into *bool) {
	n := o.get(name)
	if n == nil {
		return
	}
	o.d.flag(n, o.path(name), into)
}

func (d *decoder) flag(n *yaml.Node, field string, into *bool) {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "true", "on":
			*into = true
			return
		case "false", "off":
			*into = false
			return
		}
	}
	d.wrong(n, field, "true or false (on or off)")
}

// integer reads a whole number within bounds.
func (o *object) integer(name string, into *int, least, most int) {
	n := o.get(name)
	if n == nil {
		return
	}
	o.d.integer(n, o.path(name), into, least, most)
}

func (d *decoder) integer(n *yaml.Node, field string, into *int, least, most int) {
	n = resolve(n)
	value, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || strconv.Itoa(value) != n.Value || value < least || value > most {
		d.wrong(n, field, fmt.Sprintf("a whole number, %d to %d", least, most))
		return
	}
	*into = value
}

// duration reads a time with a unit within bounds; 0 may stand without one.
func (o *object) duration(name string, into *time.Duration, least, most time.Duration) {
	n := o.get(name)
	if n == nil {
		return
	}
	value, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || value < least || value > most {
		o.d.wrong(n, o.path(name), fmt.Sprintf("a time with a unit, %s to %s", spell(least), spell(most)))
		return
	}
	*into = value
}

// spell is a duration without zero units: "24h", not "24h0m0s".
func spell(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// items returns the items of a list of at most most.
func (o *object) items(name string, most int) []*yaml.Node {
	n := o.get(name)
	switch {
	case n == nil:
		return nil
	case n.Kind != yaml.SequenceNode:
		o.d.wrong(n, o.path(name), "a list")
		return nil
	case len(n.Content) > most:
		o.d.problem(n, o.path(name), fmt.Sprintf("a list of %d", len(n.Content)), fmt.Sprintf("a list of at most %d", most))
		return nil
	}
	for i, item := range n.Content {
		o.d.nodes[o.item(name, i)] = item
	}
	return n.Content
}

func (o *object) item(name string, i int) string { return fmt.Sprintf("%s[%d]", o.path(name), i) }

// texts reads a list of texts. An empty list is not nil.
func (o *object) texts(name string, into *[]string, most int) {
	if n := o.get(name); n == nil {
		return
	}
	list := []string{}
	for i, n := range o.items(name, most) {
		var text string
		if o.d.text(n, o.item(name, i), &text) {
			list = append(list, text)
		}
	}
	*into = list
}

// below reads a nested mapping when it is there.
func (o *object) below(name string, read func(*object)) {
	if n := o.get(name); n != nil {
		if inner, ok := o.d.object(n, o.path(name)); ok {
			read(inner)
		}
	}
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// suggest names the known fields, the nearest ones first when there are any.
func suggest(name string, known []string) string {
	known = slices.Sorted(slices.Values(known))
	distance := make(map[string]int)
	for _, k := range known {
		if n := editDistance(strings.ToLower(name), k); n <= max(1, len(k)/3) {
			distance[k] = n
		}
	}
	near := slices.SortedStableFunc(maps.Keys(distance), func(a, b string) int {
		if distance[a] != distance[b] {
			return distance[a] - distance[b]
		}
		return strings.Compare(a, b)
	})
	rest := slices.DeleteFunc(known, func(k string) bool { return slices.Contains(near, k) })
	switch {
	case len(near) == 0:
		return oneOf(rest)
	case len(rest) == 0:
		return oneOf(near)
	default:
		return oneOf(near) + " (most likely), else " + oneOf(rest)
	}
}

// editDistance is Levenshtein's, over bytes; long names are far from all.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
