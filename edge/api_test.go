package edge

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/admin"
	"github.com/grayfed/grayfed/registry"
)

func TestRegistryErrorsInTheWordsOfTheAPI(t *testing.T) {
	for ours, theirs := range map[error]error{
		registry.ErrNotFound:           admin.ErrNotFound,
		registry.ErrPreconditionFailed: admin.ErrPreconditionFailed,
		registry.ErrConflict:           admin.ErrConflict,
		registry.ErrUnavailable:        admin.ErrUnavailable,
	} {
		cause := fmt.Errorf("drain users/u1: %w", ours)
		got := apiError(cause)
		if !errors.Is(got, theirs) || !errors.Is(got, ours) || strings.Count(got.Error(), ours.Error()) != 1 {
			t.Errorf("%v became %v", cause, got)
		}
	}
	owned, ok := errors.AsType[*admin.OwnedError](apiError(fmt.Errorf("register: %w", &registry.OwnedError{Owner: "az2-edge"})))
	if !ok || owned.Owner != "az2-edge" {
		t.Errorf("an owned id became %v", owned)
	}
	if err := errors.New("something else"); apiError(nil) != nil || apiError(err) != err { //nolint:errorlint // the very same
		t.Error("an error that the API does not know is changed")
	}
}
