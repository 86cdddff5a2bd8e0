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

func BenchmarkLookupField(b *testing.B) {
	names := []string{"Host", "User-Agent", "Accept", "x-release-tag", "Connection", "Accept-Encoding"}
	for i := 0; b.Loop(); i++ {
		LookupField(names[i%len(names)])
	}
}
