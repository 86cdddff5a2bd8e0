package federation

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Bounds of what an instance may say of itself. They keep a stored value
// below 16 KiB, far under etcd's 1.5 MiB, and labels printable.
const (
	MaxNameLength  = 128 // service, id, cluster, zone, region, version
	MaxTags        = 32
	MaxTagName     = 64
	MaxTagValue    = 256
	MaxPathLength  = 512
	MaxWeight      = 1000
	MaxCapacity    = 1_000_000
	MinTTL         = time.Second
	MaxTTL         = 24 * time.Hour
	DefaultWeight  = 100
	maxAddressSize = 64
)

// FieldError is one thing that is wrong with one field.
type FieldError struct {
	Field   string `json:"field"`   // path as in JSON: "tags.team"
	Found   string `json:"found"`   // what was there, shortened
	Allowed string `json:"allowed"` // what may be there
}

// FieldErrors lists all that is wrong with a document.
type FieldErrors []FieldError

// Error joins them in one line.
func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = fmt.Sprintf("%s: found %s, allowed %s", f.Field, f.Found, f.Allowed)
	}
	return strings.Join(parts, "; ")
}

func (e *FieldErrors) add(field, found, allowed string) {
	*e = append(*e, FieldError{Field: field, Found: found, Allowed: allowed})
}

// Quote is a found text for a FieldError: quoted, control characters escaped,
// at most 64 bytes of it.
func Quote(text string) string {
	if text == "" {
		return "nothing"
	}
	if len(text) > 64 {
		return strconv.QuoteToASCII(text[:64]) + "... (" + strconv.Itoa(len(text)) + " bytes)"
	}
	return strconv.QuoteToASCII(text)
}

const nameRule = "1 to 128 of a-z A-Z 0-9 . _ -, beginning with a letter or digit"

// ValidName reports whether text can name a service, an instance, a zone, a
// version, an edge or a release: 1 to 128 bytes of a-z A-Z 0-9 . _ -,
// beginning with a letter or digit. Such names need no escaping in a URL, an
// etcd key, a metric label or a header.
func ValidName(text string) bool {
	if len(text) == 0 || len(text) > MaxNameLength || !alphanumeric(text[0]) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Validate returns nil or a [FieldErrors] with everything that is wrong with
// what the instance says of itself. Where its address may lie is the operator's
// decision: see [AddressPolicy].
func (i *Instance) Validate() error {
	var wrong FieldErrors
	name := func(field, text string, required bool) {
		if (text != "" || required) && !ValidName(text) {
			wrong.add(field, Quote(text), nameRule)
		}
	}
	name("service", i.Service, true)
	name("id", i.ID, true)
	name("zone", i.Zone, true)
	name("cluster", i.Cluster, false)
	name("region", i.Region, false)
	name("version", i.Version, false)
	if _, err := parseAddress(i.Address); err != nil {
		wrong.add("address", Quote(i.Address), "IP address and port, like 10.0.0.7:8080 or [fd00::7]:8080")
	}
	if i.Weight < 0 || i.Weight > MaxWeight {
		wrong.add("weight", strconv.Itoa(i.Weight), "0 to 1000")
	}
	if i.Capacity < 0 || i.Capacity > MaxCapacity {
		wrong.add("capacity", strconv.Itoa(i.Capacity), "0 (not declared) to 1000000")
	}
	switch i.Protocol {
	case "", HTTP1, H2C, H2, HTTPS:
	default:
		wrong.add("protocol", Quote(string(i.Protocol)), "http/1.1, h2c, h2 or https")
	}
	if ttl := time.Duration(i.TTL); ttl != 0 && (ttl < MinTTL || ttl > MaxTTL) {
		wrong.add("ttl", ttl.String(), "0 (no heartbeats) or 1s to 24h")
	}
	if !validHealthPath(i.HealthPath) {
		wrong.add("healthPath", Quote(i.HealthPath), "a path beginning with /, at most 512 printable ASCII bytes")
	}
	validateTags(&wrong, i.Tags)
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

func validHealthPath(path string) bool {
	if path == "" {
		return true
	}
	return path[0] == '/' && len(path) <= MaxPathLength && printable(path, false)
}

func validateTags(wrong *FieldErrors, tags map[string]string) {
	if len(tags) > MaxTags {
		wrong.add("tags", strconv.Itoa(len(tags))+" tags", "at most 32")
		return
	}
	names := make([]string, 0, len(tags))
	for tag := range tags {
		names = append(names, tag)
	}
	sort.Strings(names)
	for _, tag := range names {
		if !ValidName(tag) || len(tag) > MaxTagName {
			wrong.add("tags", "name "+Quote(tag), "1 to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit")
		}
		if value := tags[tag]; len(value) > MaxTagValue || !printable(value, true) {
			wrong.add("tags."+shorten(tag), Quote(value), "at most 256 printable ASCII bytes")
		}
	}
}

func shorten(text string) string {
	if len(text) > MaxTagName {
		return text[:MaxTagName]
	}
	return text
}

func printable(text string, spaces bool) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == ' ' && !spaces {
			return false
		}
	}
	return true
}

func parseAddress(address string) (netip.AddrPort, error) {
	if len(address) > maxAddressSize {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes", len(address))
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if addr.Port() == 0 || addr.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("address %q has no usable port or a scope zone", address)
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}
