package registrar

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// Options say what is registered, and where.
type Options struct {
	Key federation.Key
	// Registration is what the instance says of itself. Its TTL is 1 s to
	// 24 h; nil is [api.DefaultTTL].
	Registration api.Registration
	// Edges are the URLs of the edges' APIs, the nearest first. One is
	// required.
	Edges []string
	// Token and TLS are for all edges, see [api.ClientOptions].
	Token string
	TLS   *tls.Config
	Log   *slog.Logger
}

func (o *Options) validate() error {
	switch {
	case len(o.Edges) == 0:
		return errors.New("register an instance: no edge is named")
	case o.Log == nil:
		return errors.New("register an instance: no log is given")
	}
	if ttl := o.ttl(); ttl < federation.MinTTL || ttl > federation.MaxTTL {
		return fmt.Errorf("register an instance: ttl is %s, allowed %s to %s", ttl, federation.MinTTL, federation.MaxTTL)
	}
	return nil
}

func (o *Options) ttl() time.Duration {
	if o.Registration.TTL == nil {
		return api.DefaultTTL
	}
	return time.Duration(*o.Registration.TTL)
}

// callTimeout bounds one call: two edges that keep silent must leave time for
// a third to hear the heartbeat within the TTL.
func (o *Options) callTimeout() time.Duration {
	return min(max(o.ttl()/6, 500*time.Millisecond), 5*time.Second)
}
