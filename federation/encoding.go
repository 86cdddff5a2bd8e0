package federation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// Schema is the version of the stored form that this program writes. It reads
// that one and the older ones; a newer minor addition shows as unknown fields,
// which are kept, and only an incompatible change raises the number.
const Schema = 1

// ErrSchema is wrapped by the error for a value of a newer schema.
var ErrSchema = errors.New("value has a newer schema than this program reads")

// storedInstance is Instance without its JSON methods, plus the version.
type storedInstance struct {
	Schema int `json:"schema"`
	*instanceFields
}

type instanceFields Instance

// EncodeInstance returns the stored form: JSON with the schema version, the
// instance's own fields and the unknown fields it came with. Revision and
// Fingerprint are etcd's, not part of it.
func EncodeInstance(i *Instance) ([]byte, error) {
	plain := *i
	plain.Revision = 0
	data, err := json.Marshal(storedInstance{Schema: Schema, instanceFields: (*instanceFields)(&plain)})
	if err != nil {
		return nil, fmt.Errorf("encode instance %s: %w", i.Key, err)
	}
	if len(i.Unknown) == 0 {
		return data, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("encode instance %s: %w", i.Key, err)
	}
	for name, value := range i.Unknown {
		if _, ours := all[name]; !ours {
			all[name] = value
		}
	}
	return json.Marshal(all)
}

// DecodeInstance reads the stored form and keeps the fields it does not know.
// It checks the form, not the content: see [Instance.Validate].
func DecodeInstance(data []byte) (*Instance, error) {
	i := new(Instance)
	stored := storedInstance{instanceFields: (*instanceFields)(i)}
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, fmt.Errorf("decode instance: %w", err)
	}
	if stored.Schema > Schema {
		return nil, fmt.Errorf("decode instance: %w: %d, newest known %d", ErrSchema, stored.Schema, Schema)
	}
	if stored.Schema < 1 {
		return nil, fmt.Errorf("decode instance: schema version %d", stored.Schema)
	}
	i.Revision, i.Fingerprint = 0, Fingerprint{}
	var err error
	i.Unknown, err = unknownFields(data)
	return i, err
}

// unknownFields returns the top-level members that the stored form has no
// field for, nil when there are none. Values nearly always have none, so they
// are walked over first, without building a map; data is valid JSON.
func unknownFields(data []byte) (map[string]json.RawMessage, error) {
	if onlyKnownFields(data) {
		return nil, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("decode instance: %w", err)
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		_, ours := storedFields[strings.ToLower(name)]
		return ours
	})
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// onlyKnownFields walks a valid JSON object and reports whether each of its
// own members is spelled exactly as a field of the stored form.
func onlyKnownFields(data []byte) bool {
	depth, isName := 0, false
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
			isName = depth == 1
		case '}', ']':
			depth--
		case ',':
			isName = depth == 1
		case ':':
			isName = false
		case '"':
			start := i + 1
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if isName && depth == 1 {
				if _, ours := storedFields[string(data[start:min(i, len(data))])]; !ours {
					return false
				}
			}
		}
	}
	return true
}

// storedFields are the JSON names of the stored form in lower case and as
// spelled: encoding/json matches them in any case, and what it took must not
// be kept as unknown as well.
var storedFields = func() map[string]struct{} {
	names := map[string]struct{}{"schema": {}}
	var collect func(t reflect.Type)
	collect = func(t reflect.Type) {
		for n := range t.NumField() {
			f := t.Field(n)
			if f.Anonymous {
				collect(f.Type)
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "-" {
				names[name] = struct{}{}
				names[strings.ToLower(name)] = struct{}{}
			}
		}
	}
	collect(reflect.TypeFor[Instance]())
	return names
}()
