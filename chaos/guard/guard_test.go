package guard

import (
	"errors"
	"strings"
	"testing"
)

func TestDo(t *testing.T) {
	failed := errors.New("failed")
	for _, want := range []error{nil, failed} {
		if err := Do(func() error { return want }); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	err := Do(func() error { panic("a slip") })
	if err == nil || !strings.HasPrefix(err.Error(), "panic: a slip\n") || !strings.Contains(err.Error(), "guard_test.go") {
		t.Errorf("after a slip: %v", err)
	}
}
