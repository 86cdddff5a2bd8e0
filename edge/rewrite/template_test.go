package rewrite

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// named gives every variable its own name.
type named struct{}

func (named) Value(v Variable) string { return v.String() }

func TestVariablesAreNamed(t *testing.T) {
	for v := VariableUnknown + 1; v < variableCount; v++ {
		if v.String() == "" {
			t.Errorf("variable %d has no name", v)
		}
		parsed, err := parseValue("<${"+v.String()+"}>", true)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(parsed.Append(nil, named{})); got != "<"+v.String()+">" {
			t.Errorf("%s: %q", v, got)
		}
		_, err = parseValue("${"+v.String()+"}", false)
		if ofAnswer := v == VariableInstance || v == VariableInstanceZone; (err != nil) != ofAnswer {
			t.Errorf("%s in a request: %v", v, err)
		}
	}
	if (VariableUnknown.String() + variableCount.String()) != "" {
		t.Error("what is unknown has a name")
	}
}

func TestConstant(t *testing.T) {
	for text, want := range map[string]bool{"plain": true, "5 $$": true, "${zone}": false, "a ${zone}": false} {
		parsed, err := parseValue(text, false)
		if err != nil {
			t.Fatal(err)
		}
		got, constant := parsed.Constant()
		if constant != want || constant && got != strings.ReplaceAll(text, "$$", "$") {
			t.Errorf("%q: %q, %v", text, got, constant)
		}
	}
}

// FuzzValue: no panic; what is accepted comes out as os.Expand puts it, and is
// safe in a header whenever the variables are.
func FuzzValue(f *testing.F) {
	for _, text := range []string{"a", "${zone}", "$$", "$$${zone}$$", "${", "$}", "${}", "$1", "${zone}${edge}", "${zone"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseValue(text, true)
		if err != nil || !validText(text) {
			return
		}
		got := parsed.Append(nil, named{})
		want := os.Expand(strings.ReplaceAll(text, "$$", "${$}"), func(name string) string {
			if name == "$" {
				return "$"
			}
			if !slices.Contains(variablesOf(true), name) {
				t.Fatalf("%q is accepted with %q", text, name)
			}
			return name
		})
		if string(got) != want || !Safe(got) {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

func TestSafe(t *testing.T) {
	for text, want := range map[string]bool{"": true, "a b\tc": true, "\xff": true, "a\r": false, "a\n": false, "\x00": false, "\x7f": false} {
		if Safe([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
