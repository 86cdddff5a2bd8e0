package exchange

import (
	"strings"
	"testing"
)

func TestEveryNameHasItsOwnSlot(t *testing.T) {
	owner := make(map[uint8]FieldID)
	for id := FieldOther + 1; id < fieldCount; id++ {
		slot := fieldSlot(id.String())
		if other, taken := owner[slot]; taken {
			t.Errorf("%s and %s share slot %d", id, other, slot)
		}
		owner[slot] = id
	}
}

func TestLookupFieldIgnoresLetterCaseOnly(t *testing.T) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		name := id.String()
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if got := LookupField(spelling); got != id {
				t.Errorf("LookupField(%q) = %v, want %v", spelling, got, id)
			}
		}
		// Each byte changed on its own: a hash that skips a byte must not
		// find the name, and 0x20 must not fold what is no letter.
		for i := range name {
			for _, flip := range []byte{0x01, 0x20, 0x80} {
				changed := []byte(name)
				changed[i] ^= flip
				want := FieldOther
				if flip == 0x20 && lower(name[i]) >= 'a' && lower(name[i]) <= 'z' {
					want = id
				}
				if name[i] == '-' {
					want = FieldLookalike
				}
				if got := LookupField(string(changed)); got != want {
					t.Errorf("LookupField(%q) = %v, want %v", changed, got, want)
				}
			}
		}
	}
	for _, name := range []string{"", "x", "Hos", "Hosts", "X-Forwarded-Far", strings.Repeat("h", 300)} {
		if got := LookupField(name); got != FieldOther {
			t.Errorf("LookupField(%q) = %v, want none", name, got)
		}
	}
}

func TestLookalikes(t *testing.T) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		name := id.String()
		for _, separator := range "_.!~+" {
			changed := strings.ReplaceAll(name, "-", string(separator))
			want := FieldLookalike
			if changed == name {
				want = id // "Host" has no dash
			}
			for _, spelling := range []string{changed, strings.ToUpper(changed), strings.ToLower(changed)} {
				if got := LookupField(spelling); got != want {
					t.Errorf("LookupField(%q) = %d, want %d", spelling, got, want)
				}
			}
		}
	}
	// The twins: other letters, a dash missing, one too many, a letter instead.
	for _, name := range []string{"X_Forwarded_Fox", "XForwardedFor", "X__Forwarded_For", "X-Forwarded0For", "User_Agent"} {
		if got := LookupField(name); got != FieldOther {
			t.Errorf("LookupField(%q) = %d, want none", name, got)
		}
	}
	if FieldLookalike.String() != "" {
		t.Errorf("it has a name: %q", FieldLookalike)
	}
}

func TestDelLike(t *testing.T) {
	var fields Fields
	for _, name := range []string{"X-User-ID", "x_user.id", "X-USER_ID", "X-User-IDs", "XUserID", "X-User0ID", "Accept"} {
		fields.Add(name, "v")
	}
	fields.DelLike("x-user-id")
	var left []string
	for _, field := range fields.All() {
		left = append(left, field.Name)
	}
	if got := strings.Join(left, " "); got != "X-User-IDs XUserID X-User0ID Accept" {
		t.Errorf("left: %s", got)
	}
}

func BenchmarkLookupField(b *testing.B) {
	names := []string{"Host", "User-Agent", "Accept", "x-release-tag", "Connection", "Accept-Encoding"}
	for i := 0; b.Loop(); i++ {
		LookupField(names[i%len(names)])
	}
}
