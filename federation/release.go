package federation

// Selector picks instances of a service by version and tags: all that it
// names must match. The zero Selector matches every instance.
type Selector struct {
	Version string            `json:"version,omitempty" yaml:"version"`
	Tags    map[string]string `json:"tags,omitempty" yaml:"tags"`
}

// Matches reports whether the instance is in the subset.
func (s Selector) Matches(i *Instance) bool {
	if s.Version != "" && s.Version != i.Version {
		return false
	}
	for name, want := range s.Tags {
		if got, ok := i.Tags[name]; !ok || got != want {
			return false
		}
	}
	return true
}

// Fallback is what a tagged request gets where no canary is usable.
type Fallback string

// The fallbacks.
const (
	// Strict ends the ladder after the canaries: 503 with the reason.
	Strict Fallback = "strict"
	// Permissive goes on to the baseline.
	Permissive Fallback = "permissive"
)

// Release is a tag, the subset that it selects in each service it covers, and
// how it falls back.
type Release struct {
	// Name is the tag: the value of x-release-tag.
	Name string `json:"name"`
	// Services maps each covered service to the selector of its canaries.
	Services map[string]Selector `json:"services"`
	Fallback Fallback            `json:"fallback"`
	// Paused: tags are answered by the baseline, reason release-paused.
	Paused bool `json:"paused,omitempty"`
}

// Service is what the operator says of a service.
type Service struct {
	Name string `json:"name"`
	// Baseline selects what untagged requests get. It is nil when no
	// selector is declared; then, as long as no release covers the service,
	// every instance is baseline.
	Baseline *Selector `json:"baseline,omitempty"`
	// ZoneCapacity declares, by zone, the weight that counts as that zone's
	// full capacity; a zone that is not named uses its ten-minute high-water
	// weight.
	ZoneCapacity map[string]int `json:"zoneCapacity,omitempty"`
	// HealthPath is what the active probe asks for; empty: "/healthz".
	HealthPath string `json:"healthPath,omitempty"`
	// Probe is how it asks: http, also when empty; grpc, by
	// grpc.health.v1.Health; or connect, which a connection satisfies.
	Probe string `json:"probe,omitempty"`
}
