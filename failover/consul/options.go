package consul

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/federation"
)

const (
	defaultService = "grayfed-gateway"

	// Consul's own bounds of what describes a service (agent/structs:
	// metaMaxKeyPairs, metaKeyMaxLength, metaValueMaxLength).
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

// Options configure a [Publisher].
type Options struct {
	// Address is where the agent's API is: "http://host:port",
	// "https://host:port" or "unix:///path". Of the CONSUL_ variables of the
	// environment none counts.
	Address string
	// TokenFile has the ACL token in its first line. It is read again for each
	// request, and the entry registered again when it has changed: the agent
	// goes on with the token that an entry came with. "": no token.
	TokenFile string
	// CAFile, CertFile and KeyFile name PEM files, for https alone. Without
	// CAFile the system's roots count; CertFile and KeyFile go together and
	// are read again for each connection.
	CAFile, CertFile, KeyFile string

	// Service is the name under which all edges of the federation register.
	// "grayfed-gateway".
	Service string
	// Edge is this edge's id; the entry's id is Service, "-" and Edge.
	Edge string
	// Entry is this edge's own. Its Edge may be empty; its Weight, 1 when 0,
	// counts until the first decision.
	Entry failover.Entry
	// Meta is told beside the entry, for people.
	Meta map[string]string
	// CheckURL is asked by the agent each second, for at most one, and must
	// answer 200 as long as the edge lives, in or out: out is told apart from
	// that, at once. "": not asked, and a dead edge is found by its silence,
	// after 20 s, or by its node's death.
	CheckURL string
	// CheckSkipVerify has the agent take any certificate of CheckURL.
	CheckSkipVerify bool

	// OnView gets each view that a leader confirmed, twice a second and when
	// something changes, one at a time. It must return quickly.
	OnView func(View)

	Log *slog.Logger
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	o.Service = cmp.Or(o.Service, defaultService)
	o.Entry.Edge = cmp.Or(o.Entry.Edge, o.Edge)
	o.Entry.Weight = cmp.Or(o.Entry.Weight, 1)
	o.Entry.Addresses = slices.Clone(o.Entry.Addresses)
	o.Meta = maps.Clone(o.Meta)
	if o.OnView == nil {
		o.OnView = func(View) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate checks options that have their defaults.
func (o Options) validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf("consul: "+format, args...)) }
	if _, err := parseAddress(o.Address); err != nil {
		refuse("%w", err)
	}
	if !strings.HasPrefix(o.Address, "https://") && (o.CAFile != "" || o.CertFile != "" || o.KeyFile != "") {
		refuse("certificates are for an https address")
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		refuse("certificate and key go together")
	}
	if !federation.ValidName(o.Service) {
		refuse("service %s is not a name", federation.Quote(o.Service))
	}
	if o.Entry.Edge != o.Edge {
		refuse("entry is of edge %s, not of %s", federation.Quote(o.Entry.Edge), federation.Quote(o.Edge))
	}
	if err := validEntry(o.Entry); err != nil {
		refuse("entry: %w", err)
	}
	if n := len(o.Meta) + len(metaKeys); n > maxMetaPairs {
		refuse("meta has %d pairs, allowed %d", len(o.Meta), maxMetaPairs-len(metaKeys))
	}
	for _, key := range slices.Sorted(maps.Keys(o.Meta)) {
		if slices.Contains(metaKeys[:], key) {
			refuse("meta: %s is the entry's own", key)
		}
		if err := validMeta(key, o.Meta[key]); err != nil {
			refuse("meta: %w", err)
		}
	}
	if o.CheckURL != "" {
		u, err := url.Parse(o.CheckURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			refuse("check URL %s: allowed http://host:port/path or https://host:port/path", federation.Quote(o.CheckURL))
		}
	}
	return errors.Join(errs...)
}

func validMeta(key, value string) error {
	if key == "" || len(key) > maxMetaKey || len(value) > maxMetaValue {
		return fmt.Errorf("%s has %d bytes, allowed %d for a key of 1 to %d", federation.Quote(key), len(value), maxMetaValue, maxMetaKey)
	}
	if strings.ContainsFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}) {
		return fmt.Errorf("key %s: allowed a-z A-Z 0-9 - _", federation.Quote(key))
	}
	return nil
}
