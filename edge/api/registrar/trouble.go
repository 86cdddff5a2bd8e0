package registrar

import (
	"errors"
	"net/http"

	"github.com/grayfed/grayfed/edge/api"
)

// trouble is a kind of failure, by what is to be done about it.
type trouble uint8

const (
	noTrouble trouble = iota
	noEdge            // another edge may take it
	owned             // somebody else lives under the id
	refused           // what it says, or its token, is wrong
)

func troubleOf(err error) trouble {
	switch code := status(err); {
	case err == nil:
		return noTrouble
	case code == http.StatusConflict:
		return owned
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return noEdge
	case code >= 400 && code < 500:
		return refused
	}
	return noEdge
}

// status is that of an edge's refusal, 0 when it is none.
func status(err error) int {
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		return problem.Status
	}
	return 0
}
