package edge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestStopsRunInReverseAndAllOfThem(t *testing.T) {
	var order []string
	var s stops
	for _, name := range []string{"a", "b", "c"} {
		s.push(name, func() error {
			order = append(order, name)
			if name == "b" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := s.run()
	if !slices.Equal(order, []string{"c", "b", "a"}) || err == nil || !strings.Contains(err.Error(), "stop b: stuck") {
		t.Errorf("stopped %v with %v", order, err)
	}
	if err := s.run(); err != nil || len(order) != 3 {
		t.Error("stopped twice")
	}
}

func TestGroupEndsWithTheFirstFailure(t *testing.T) {
	g := newGroup(context.Background())
	var s stops
	ended := make(chan struct{})
	g.start(&s, "steady", func(ctx context.Context) error {
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	broken := errors.New("broken")
	g.start(&s, "frail", func(context.Context) error { return broken })
	<-g.failed.Done()
	if cause := context.Cause(g.failed); !errors.Is(cause, broken) || !strings.HasPrefix(cause.Error(), "frail: ") {
		t.Errorf("cause %v", cause)
	}
	select {
	case <-ended:
		t.Error("the other part was ended out of order")
	default:
	}
	if err := s.run(); err != nil {
		t.Errorf("the failure was told twice: %v", err)
	}
	<-ended
}
