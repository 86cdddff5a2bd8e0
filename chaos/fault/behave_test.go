package fault

import (
	"errors"
	"testing"
	"time"
)

func TestSubsetMisbehaves(t *testing.T) {
	for _, test := range []struct {
		spec  Spec
		words string
		how   string
	}{
		{Spec{Kind: "subset-errors", Parts: []string{"*/users v2"}, Percent: 40}, "40% errors: az1/users v2, az2/users v2", "40 0s"},
		{Spec{Kind: "subset-slow", Parts: []string{"*/users v2"}, Delay: time.Second}, "1s slower: az1/users v2, az2/users v2", "0 1s"},
	} {
		z := &zoneMeans{}
		f := create(t, test.spec, whole{machine: &machine{names: []string{"az1/users v1", "az1/users v2", "az2/users v2"}}, zoneMeans: z})
		if f.String() != test.words {
			t.Errorf("it is called %q, want %q", f, test.words)
		}
		broken(t, f)
		mended(t, f)
		same(t, "asked", z.asked(), []string{"az1/users v2 " + test.how, "az2/users v2 " + test.how, "az2/users v2 0 0s", "az1/users v2 0 0s"})

		// One that did not answer may have heard.
		z.fail = map[string]error{"az1/users v2 " + test.how: errors.New("no answer")}
		if err := f.Break(limited(t)); !errors.Is(err, z.fail["az1/users v2 "+test.how]) {
			t.Errorf("break: %v", err)
		}
		mended(t, f)
		same(t, "asked", z.asked(), []string{"az1/users v2 " + test.how, "az1/users v2 0 0s"})
	}
}
