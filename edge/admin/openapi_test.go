package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// schema is as much of JSON Schema as openapi.json uses.
type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	AdditionalProperties json.RawMessage
	Enum                 []string
	Examples             []json.RawMessage
}

type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct {
		Schemas    map[string]*schema
		Responses  map[string]any
		Parameters map[string]any
		Headers    map[string]any
	}
}

type operation struct {
	OperationID string
	RequestBody *struct{ Content map[string]media }
	Responses   map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]media
	}
}

type media struct{ Schema schema }

// goTypes are what the schemas describe.
func goTypes() map[string]any {
	return map[string]any{
		"Federation": api.Federation{}, "Edge": api.Edge{}, "Registry": api.Registry{}, "Documents": api.Documents{},
		"Certificate": api.Certificate{},
		"Services":    api.Services{}, "Service": api.Service{}, "Selector": federation.Selector{},
		"Instances": api.Instances{}, "Instance": api.Instance{}, "Health": api.Health{}, "Stamp": federation.Stamp{},
		"Registration": api.Registration{}, "Releases": api.Releases{}, "Release": api.Release{}, "Canaries": api.Canaries{},
		"Routes": api.Routes{}, "Route": api.Route{}, "Match": api.Match{},
		"Rewrite": api.Rewrite{}, "Replacement": api.Replacement{}, "HeaderChanges": api.HeaderChanges{}, "RateLimit": api.RateLimit{}, "Timeouts": api.Timeouts{},
		"ExplainRequest": api.ExplainRequest{}, "Explanation": api.Explanation{}, "Step": api.Step{}, "Candidate": api.Candidate{},
		"Failover": api.Failover{}, "FailoverDecision": api.FailoverDecision{}, "FailoverConsul": api.FailoverConsul{},
		"FailoverDNS": api.FailoverDNS{}, "FailoverEntry": api.FailoverEntry{},
		"Event": api.Event{}, "Problem": api.Problem{}, "FieldError": federation.FieldError{},
	}
}

func readOpenAPI(t *testing.T) *document {
	t.Helper()
	d := new(document)
	if err := json.Unmarshal([]byte(openAPI), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenAPINamesTheRoutes(t *testing.T) {
	d := readOpenAPI(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI version %q", d.OpenAPI)
	}
	described := make(map[string]operation)
	ids := make(map[string]bool)
	for path, methods := range d.Paths {
		for method, op := range methods {
			described[strings.ToUpper(method)+" "+path] = op
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operation id %q is not its own", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	for _, e := range allEndpoints() {
		name := e.method + " " + e.path
		op, ok := described[name]
		if !ok {
			t.Errorf("%s is served and not described", name)
			continue
		}
		delete(described, name)
		for _, status := range []string{"401", "403"} {
			if _, ok := op.Responses[status]; !ok {
				t.Errorf("%s: answer %s is not described", name, status)
			}
		}
	}
	if len(described) > 0 {
		t.Errorf("described and not served: %v", slices.Collect(maps.Keys(described)))
	}
	// The server's own route is the document, byte by byte.
	if got := newRig(t, nil).send(http.MethodGet, "/openapi.json", ""); string(got.body) != openAPI || got.Header.Get("Content-Type") != api.ContentTypeJSON {
		t.Errorf("served %s of %d bytes", got.Header.Get("Content-Type"), len(got.body))
	}
}

func TestOpenAPIReferences(t *testing.T) {
	d := readOpenAPI(t)
	used := make(map[string]bool)
	for _, part := range strings.Split(openAPI, `"$ref": "#/components/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		used[name] = true
	}
	for name := range used {
		kind, key, _ := strings.Cut(name, "/")
		var there bool
		switch kind {
		case "schemas":
			_, there = d.Components.Schemas[key]
		case "responses":
			_, there = d.Components.Responses[key]
		case "parameters":
			_, there = d.Components.Parameters[key]
		case "headers":
			_, there = d.Components.Headers[key]
		}
		if !there {
			t.Errorf("reference to %s leads nowhere", name)
		}
	}
	for name := range d.Components.Schemas {
		if !used["schemas/"+name] && name != "Event" { // events are data within a text stream
			t.Errorf("schema %s is used nowhere", name)
		}
	}
}

// TestOpenAPISchemas holds each schema against its Go type, field by field.
func TestOpenAPISchemas(t *testing.T) {
	d := readOpenAPI(t)
	types := goTypes()
	for name := range d.Components.Schemas {
		if types[name] == nil {
			t.Errorf("schema %s has no Go type", name)
		}
	}
	for name, value := range types {
		s := d.Components.Schemas[name]
		if s == nil {
			t.Errorf("type %s has no schema", name)
			continue
		}
		fields := jsonFields(reflect.TypeOf(value))
		for field, kind := range fields {
			if got := s.Properties[field].describe(); got != kind.schema {
				t.Errorf("%s.%s: schema %q, Go type %q", name, field, got, kind.schema)
			}
			if name != "Registration" && name != "ExplainRequest" && slices.Contains(s.Required, field) == kind.optional {
				t.Errorf("%s.%s: required must be %v", name, field, !kind.optional)
			}
		}
		for field := range s.Properties {
			if _, ok := fields[field]; !ok {
				t.Errorf("%s.%s: no such Go field", name, field)
			}
		}
		for _, example := range s.Examples {
			into := reflect.New(reflect.TypeOf(value)).Interface()
			decoder := json.NewDecoder(bytes.NewReader(example))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(into); err != nil {
				t.Errorf("%s: example: %v", name, err)
			}
			d.conforms(t, name+" example", &schema{Ref: "#/components/schemas/" + name}, example)
		}
	}
}

// goField is a field as a schema would describe it.
type goField struct {
	schema   string
	optional bool
}

func jsonFields(t reflect.Type) map[string]goField {
	fields := make(map[string]goField)
	for n := range t.NumField() {
		f := t.Field(n)
		if f.Anonymous {
			maps.Copy(fields, jsonFields(f.Type))
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = goField{describeType(f.Type), strings.Contains(options, "omit")}
	}
	return fields
}

func describeType(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return describeType(t.Elem())
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[federation.Duration]():
		return "string"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + describeType(t.Elem())
	case reflect.Map:
		return "mapping to " + describeType(t.Elem())
	case reflect.Struct:
		return t.Name()
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "string"
	default:
		return "integer"
	}
}

func (s *schema) describe() string {
	switch {
	case s == nil:
		return "none"
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/components/schemas/")
	case s.Type == "array":
		return "list of " + s.Items.describe()
	case s.Type == "object":
		values := new(schema)
		if json.Unmarshal(s.AdditionalProperties, values) != nil {
			return "object"
		}
		return "mapping to " + values.describe()
	default:
		return s.Type
	}
}

// TestAnswersConform: what a real server says is what the document says.
func TestAnswersConform(t *testing.T) {
	d := readOpenAPI(t)
	r := newRig(t, nil)
	populate(t, r)
	r.catalog.PutEdge(federation.Edge{ID: "az2-edge", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeSuspect})
	r.state.routes = api.Routes{Routes: []api.Route{{ID: "api", Tags: "any", Headers: []api.Match{{Name: "a", Exact: "b"}}, RateLimit: &api.RateLimit{RPM: 1, Burst: 1}}}}
	for _, c := range []struct{ method, url, body string }{
		{http.MethodGet, "/v1/federation", ""},
		{http.MethodGet, "/v1/services", ""},
		{http.MethodGet, "/v1/services/user-service/instances", ""},
		{http.MethodPut, "/v1/services/{service}/instances/{id}", `{"zone":"az1","address":"10.0.0.7:8080","tags":{"a":"b"}}`},
		{http.MethodPut, "/v1/services/{service}/instances/{id}", `{"zone":"az1","address":"169.254.169.254:80"}`},
		{http.MethodPut, "/v1/services/{service}/instances/{id}", `[]`},
		{http.MethodPost, "/v1/services/{service}/instances/{id}/drain", ""},
		{http.MethodGet, "/v1/releases", ""},
		{http.MethodGet, "/v1/releases/v2-beta", ""},
		{http.MethodGet, "/v1/releases/v3", ""},
		{http.MethodGet, "/v1/routes", ""},
		{http.MethodGet, "/v1/failover", ""},
		{http.MethodPost, "/v1/explain", `{"path":"/"}`},
	} {
		url := strings.NewReplacer("{service}", "user-service", "{id}", "u-9").Replace(c.url)
		path := strings.NewReplacer("/v1/services/user-service", "/v1/services/{service}", "releases/v2-beta", "releases/{name}", "releases/v3", "releases/{name}").Replace(c.url)
		got := r.send(c.method, url, c.body)
		described, ok := d.Paths[path][strings.ToLower(c.method)].Responses[fmt.Sprint(got.StatusCode)]
		if !ok {
			t.Errorf("%s %s: answer %s is not described", c.method, path, got.Status)
			continue
		}
		s := schema{Ref: "#/components/schemas/Problem"}
		if described.Ref == "" {
			s = described.Content[got.Header.Get("Content-Type")].Schema
		}
		d.conforms(t, c.method+" "+url, &s, got.body)
	}
}

// conforms checks a value against a schema; what the schema does not name is
// wrong too.
func (d *document) conforms(t *testing.T, where string, s *schema, value json.RawMessage) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = d.Components.Schemas[name]
	}
	var plain any
	if err := json.Unmarshal(value, &plain); err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	switch v := plain.(type) {
	case map[string]any:
		var members map[string]json.RawMessage
		_ = json.Unmarshal(value, &members) // it is an object
		for _, name := range s.Required {
			if _, ok := members[name]; !ok {
				t.Errorf("%s: %s is missing", where, name)
			}
		}
		values := new(schema)
		mapping := json.Unmarshal(s.AdditionalProperties, values) == nil
		for name, member := range members {
			switch {
			case s.Properties[name] != nil:
				d.conforms(t, where+"."+name, s.Properties[name], member)
			case mapping:
				d.conforms(t, where+"."+name, values, member)
			default:
				t.Errorf("%s: %s is not described", where, name)
			}
		}
		if s.Type != "object" {
			t.Errorf("%s: found an object, described as %q", where, s.Type)
		}
	case []any:
		if s.Type != "array" {
			t.Errorf("%s: found a list, described as %q", where, s.Type)
			return
		}
		var items []json.RawMessage
		_ = json.Unmarshal(value, &items) // it is a list
		for n, item := range items {
			d.conforms(t, fmt.Sprintf("%s[%d]", where, n), s.Items, item)
		}
	case string:
		if s.Type != "string" || s.Enum != nil && !slices.Contains(s.Enum, v) {
			t.Errorf("%s: found %q, described as %q of %v", where, v, s.Type, s.Enum)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			t.Errorf("%s: found %v, described as %q", where, v, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			t.Errorf("%s: found %v, described as %q", where, v, s.Type)
		}
	default:
		t.Errorf("%s: found %s", where, value)
	}
}
