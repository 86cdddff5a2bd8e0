package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// readBody returns the body of a request, nil when it has none.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := plainProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("allowed: a body of at most %d bytes", api.MaxBody))
	if r.ContentLength > api.MaxBody {
		return nil, tooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxBody))
	if err != nil {
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return nil, tooLarge
		}
		return nil, badBody("it broke off: " + err.Error())
	}
	if len(data) == 0 {
		return nil, nil
	}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || kind != api.ContentTypeJSON || charset != "" && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		w.Header().Set("Accept", api.ContentTypeJSON)
		return nil, plainProblem(http.StatusUnsupportedMediaType, "found Content-Type "+federation.Quote(r.Header.Get("Content-Type"))+
			" and Content-Encoding "+federation.Quote(r.Header.Get("Content-Encoding"))+", allowed application/json without encoding")
	}
	return data, nil
}

func badBody(detail string) *api.Problem {
	return problem(http.StatusBadRequest, api.ProblemBody, "Invalid Body", detail)
}

// decodeStrict reads one JSON object into the struct that into points to:
// members have the names of its json tags in that very spelling, once each, and
// values of the field's type. The fields are text, whole numbers (or pointers
// to them), booleans, federation.Duration (or a pointer to it) and mappings of
// text to text. It returns a [*api.Problem] when data is no object, and else
// everything that is wrong with members.
func decodeStrict(data []byte, into any) (federation.FieldErrors, error) {
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, badBody(position(data, syntax.Offset) + ": " + syntax.Error())
		}
		return nil, badBody(err.Error())
	}
	if first := bytes.TrimLeft(data, " \t\r\n"); first[0] != '{' {
		return nil, badBody("found " + federation.Quote(string(first)) + ", allowed a JSON object")
	}
	fields := fieldsOf(reflect.ValueOf(into).Elem())
	var wrong federation.FieldErrors
	eachMember(data, func(name string, value json.RawMessage, again bool) {
		field, known := fields[name]
		switch {
		case !known:
			wrong = append(wrong, federation.FieldError{Field: shorten(name), Found: "an unknown field", Allowed: allowedNames(fields)})
		case again:
			wrong = append(wrong, federation.FieldError{Field: name, Found: "the field again", Allowed: "each field once"})
		default:
			wrong = append(wrong, decodeField(name, value, field)...)
		}
	})
	return wrong, nil
}

// position is where the byte before offset is, for people.
func position(data []byte, offset int64) string {
	before := data[:max(0, min(int(offset), len(data))-1)]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n'))
}

func fieldsOf(target reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value, target.NumField())
	for n := range target.NumField() {
		name, _, _ := strings.Cut(target.Type().Field(n).Tag.Get("json"), ",")
		fields[name] = target.Field(n)
	}
	return fields
}

func allowedNames(fields map[string]reflect.Value) string {
	if len(fields) == 0 {
		return "no field"
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// eachMember walks a valid object; again: a member of this name came before.
func eachMember(object []byte, found func(name string, value json.RawMessage, again bool)) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil {
		return
	}
	seen := make(map[string]bool)
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		var value json.RawMessage
		if err != nil || !isName || decoder.Decode(&value) != nil {
			return // it is valid
		}
		found(name, value, seen[name])
		seen[name] = true
	}
}

func decodeField(name string, value json.RawMessage, field reflect.Value) federation.FieldErrors {
	if values, ok := field.Addr().Interface().(*map[string]string); ok && value[0] == '{' {
		return decodeMapping(name, value, values)
	}
	// null would leave a field as it is.
	if string(value) == "null" || json.Unmarshal(value, field.Addr().Interface()) != nil {
		return federation.FieldErrors{{Field: name, Found: excerpt(value), Allowed: allowedValue(field.Type())}}
	}
	return nil
}

func decodeMapping(field string, object json.RawMessage, into *map[string]string) federation.FieldErrors {
	*into = make(map[string]string)
	var wrong federation.FieldErrors
	eachMember(object, func(name string, value json.RawMessage, again bool) {
		var text string
		switch {
		case again:
			wrong = append(wrong, federation.FieldError{Field: field + "." + shorten(name), Found: "the name again", Allowed: "each name once"})
		case string(value) == "null" || json.Unmarshal(value, &text) != nil:
			wrong = append(wrong, federation.FieldError{Field: field + "." + shorten(name), Found: excerpt(value), Allowed: "text"})
		default:
			(*into)[name] = text
		}
	})
	return wrong
}

func allowedValue(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[federation.Duration]() {
		return `a duration in text, such as "15s"`
	}
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Map:
		return "an object with text values"
	default:
		return "text"
	}
}

// excerpt is JSON as it was found, shortened.
func excerpt(value json.RawMessage) string {
	if len(value) > 64 {
		return string(value[:64]) + "..."
	}
	return string(value)
}

func shorten(text string) string { return text[:min(len(text), federation.MaxTagName)] }
