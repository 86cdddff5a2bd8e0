package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/federation"
)

// File is a file's name, as problems have it, and its content.
type File struct {
	Name string
	Data []byte
}

// ParseDocuments reads a set of documents, which is valid as a whole or not at
// all. The error is a [Problems].
//
// A YAML document is one of
//
//	{apiVersion: grayfed/v1, kind: Route|Service|Release, metadata: {name}, spec}
//	a list whose items are such documents or bare routes: the spec of a
//	Route with the name as id
//
// and a file may hold several, parted by "---".
func ParseDocuments(files []File) (*Documents, error) {
	var problems Problems
	set := &draft{problems: &problems}
	for _, file := range files {
		roots := parseYAML(file.Name, file.Data, &problems)
		// An editor that truncates a file before writing it must not remove
		// what was in it.
		if len(roots) == 0 && len(problems) == 0 {
			problems.add(Problem{File: file.Name, Found: "no document", Allowed: "at least one"})
		}
		for _, root := range roots {
			set.root(file.Name, root)
		}
		set.files = append(set.files, file.Name)
	}
	documents := set.assemble()
	if err := problems.sorted(); err != nil {
		return nil, err
	}
	return documents, nil
}

// declared is a document with its place, for what concerns several documents.
type declared[T any] struct {
	value T
	name  string
	d     *decoder
	// at is the node that names it, under prefix its fields are.
	at     *yaml.Node
	field  string
	prefix string
}

// problemAt reports something about one of the document's fields.
func (x *declared[T]) problemAt(field, found, allowed string) {
	x.d.invalid(federation.FieldErrors{{Field: field, Found: found, Allowed: allowed}}, x.prefix)
}

// draft is a set of documents being read.
type draft struct {
	problems *Problems
	files    []string
	routes   []declared[Route]
	services []declared[service]
	releases []declared[*federation.Release]
	warnings Problems
}

// service is what a Service document says.
type service struct {
	facts  *federation.Service
	policy ServicePolicy
}

// root reads one YAML document.
func (s *draft) root(file string, root *yaml.Node) {
	root = resolve(root)
	if root.Kind != yaml.SequenceNode {
		s.document(newDecoder(file, s.problems), root, "")
		return
	}
	for i, item := range root.Content {
		d, field := newDecoder(file, s.problems), fmt.Sprintf("[%d]", i)
		d.nodes[field] = item
		if isDocument(item) {
			s.document(d, item, field)
		} else {
			s.bareRoute(d, item, field)
		}
	}
}

// isDocument tells a document from a bare route.
func isDocument(n *yaml.Node) bool { return hasKey(n, "apiVersion") || hasKey(n, "kind") }

func hasKey(n *yaml.Node, name string) bool {
	n = resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

func (s *draft) bareRoute(d *decoder, n *yaml.Node, field string) {
	o, ok := d.object(n, field)
	if !ok {
		return
	}
	var r Route
	o.require("id", nameRule)
	o.text("id", &r.ID)
	decodeRoute(o, &r)
	s.addRoute(d, o, r, o.place("id"), field)
}

// place is where a key's value is, else the mapping.
func (o *object) place(name string) *yaml.Node {
	if n := o.values[name]; n != nil {
		return n
	}
	return o.node
}

func (s *draft) addRoute(d *decoder, o *object, r Route, at *yaml.Node, prefix string) {
	r.File, r.Line = d.file, o.node.Line
	d.invalid(r.Validate(), prefix)
	d.invalidRewrite(&r, prefix)
	upstream, ok := parseUpstream(r.Upstream.Text)
	if !ok && r.Upstream.Text != "" {
		d.wrong(o.get("upstream"), o.path("upstream"), upstreamRule)
	}
	r.Upstream = upstream
	s.routes = append(s.routes, declared[Route]{value: r, name: r.ID, d: d, at: at, field: join(prefix, "id"), prefix: prefix})
}

// document reads a mapping with apiVersion, kind, metadata and spec.
func (s *draft) document(d *decoder, n *yaml.Node, field string) {
	o, ok := d.object(n, field)
	if !ok {
		return
	}
	if !isDocument(n) {
		found := "a mapping without apiVersion and kind"
		if looksLikeProcess(n) {
			found = "process settings"
		}
		d.problem(n, field, found, "a document (apiVersion, kind, metadata, spec) or a list of routes")
		return
	}
	var version, kind, name string
	o.require("apiVersion", APIVersion)
	o.choice("apiVersion", &version, APIVersion)
	o.require("kind", "Route, Service or Release")
	o.choice("kind", &kind, string(KindRoute), string(KindService), string(KindRelease))
	o.require("metadata", "a mapping with name")
	named := o.node
	nameField := join(o.path("metadata"), "name")
	o.below("metadata", func(o *object) {
		o.require("name", nameRule)
		o.text("name", &name)
		named = o.place("name")
		if !federation.ValidName(name) && o.get("name") != nil {
			d.wrong(named, nameField, nameRule)
		}
		o.end("labels", "annotations", "namespace")
	})
	o.require("spec", "a mapping")
	prefix := o.path("spec")
	// The name has been judged where it stands.
	d.refused[join(prefix, "id")] = true
	o.below("spec", func(o *object) { s.spec(d, o, Kind(kind), name, named, prefix) })
	o.end("status")
}

func (s *draft) spec(d *decoder, o *object, kind Kind, name string, named *yaml.Node, prefix string) {
	nameField := join(strings.TrimSuffix(strings.TrimSuffix(prefix, "spec"), "."), "metadata.name")
	switch kind {
	case KindRoute:
		var r Route
		r.ID = name
		decodeRoute(o, &r)
		s.addRoute(d, o, r, named, prefix)
		s.routes[len(s.routes)-1].field = nameField
	case KindService:
		facts := service{facts: &federation.Service{Name: name}, policy: DefaultServicePolicy()}
		decodeService(o, facts.facts, &facts.policy)
		if path := facts.facts.HealthPath; path != "" && (path[0] != '/' || len(path) > federation.MaxPathLength || !printableASCII(path)) {
			d.wrong(o.get("health_path"), o.path("health_path"), "a path beginning with /, at most 512 printable ASCII bytes")
		}
		s.services = append(s.services, declared[service]{value: facts, name: name, d: d, at: named, field: nameField, prefix: prefix})
	case KindRelease:
		if slices.Contains(reservedReleases[:], name) {
			d.wrong(named, nameField, "a name that is not one of "+strings.Join(reservedReleases[:], ", ")+": evidence uses them")
		}
		release := &federation.Release{Name: name}
		decodeRelease(o, release)
		s.releases = append(s.releases, declared[*federation.Release]{value: release, name: name, d: d, at: named, field: nameField, prefix: prefix})
	}
}

// reservedReleases name subsets of requests that no release selects, in metrics
// and logs.
var reservedReleases = [...]string{"baseline", "none"}

func printableASCII(text string) bool {
	return !slices.ContainsFunc([]byte(text), func(c byte) bool { return c <= ' ' || c > '~' })
}

// looksLikeProcess tells edge.yaml from a document.
func looksLikeProcess(n *yaml.Node) bool {
	for _, key := range []string{"zone", "documents", "listen", "admin", "etcd", "gossip"} {
		if hasKey(n, key) {
			return true
		}
	}
	return false
}

// unique reports names that are taken and returns the first holder of each.
func unique[T any](kind Kind, all []declared[T]) map[string]*declared[T] {
	first := make(map[string]*declared[T], len(all))
	for i := range all {
		x := &all[i]
		if x.name == "" {
			continue
		}
		if other, taken := first[x.name]; taken {
			x.d.problem(x.at, x.field, fmt.Sprintf("%s %s again", kind, federation.Quote(x.name)),
				fmt.Sprintf("one (first at %s:%d)", other.d.file, other.at.Line))
			continue
		}
		first[x.name] = x
	}
	return first
}

// assemble checks what concerns several documents and makes the set, nil when
// anything is wrong.
func (s *draft) assemble() *Documents {
	services := unique(KindService, s.services)
	unique(KindRoute, s.routes)
	unique(KindRelease, s.releases)
	s.bindUpstreams(services)
	s.bindPolicies(services)
	s.checkReleases(services)
	if len(*s.problems) > 0 {
		return nil
	}
	s.warnSelectors(services)
	s.warnShadowed()
	s.warnHealthPaths(services)

	d := &Documents{Policies: make(map[string]ServicePolicy, len(s.services)), Files: s.files}
	for i := range s.routes {
		d.Routes = append(d.Routes, s.routes[i].value)
	}
	for i := range s.services {
		d.Services = append(d.Services, s.services[i].value.facts)
		d.Policies[s.services[i].name] = s.services[i].value.policy
	}
	for i := range s.releases {
		d.Releases = append(d.Releases, s.releases[i].value)
	}
	slices.SortFunc(d.Routes, func(a, b Route) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Services, func(a, b *federation.Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Releases, func(a, b *federation.Release) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(d.Files)
	slices.SortStableFunc(s.warnings, comparePlaces)
	d.Warnings = s.warnings
	d.Hash = d.hash()
	return d
}
