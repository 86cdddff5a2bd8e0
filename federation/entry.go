package federation

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Entry is where clients are sent by DNS to reach an edge, as the edge says of
// itself. It does not change while the edge lives, and can be compared.
type Entry struct {
	// Role is "primary" or "standby"; empty: the edge has no entry.
	Role      string    `json:"role"`
	Addresses Addresses `json:"addresses"`
	Port      uint16    `json:"port"`
	// Weight is its full share, relative to that of other entries, from 1.
	Weight int `json:"weight"`
	// TLS says that its data listener, the one of Edge.Data, speaks it.
	TLS bool `json:"tls,omitempty"`
}

// MaxAddresses bounds [Addresses].
const MaxAddresses = 8

// Addresses are up to MaxAddresses IP addresses that can be compared: those
// behind the last are zero.
type Addresses [MaxAddresses]netip.Addr

// AddressesOf are those of a list; what is beyond MaxAddresses is left out.
func AddressesOf(list []netip.Addr) (a Addresses) {
	copy(a[:], list)
	return a
}

// List returns the addresses.
func (a Addresses) List() []netip.Addr {
	n := 0
	for n < len(a) && a[n].IsValid() {
		n++
	}
	return append([]netip.Addr(nil), a[:n]...)
}

// MarshalJSON writes a list of texts.
func (a Addresses) MarshalJSON() ([]byte, error) { return json.Marshal(a.List()) }

// UnmarshalJSON reads a list of texts.
func (a *Addresses) UnmarshalJSON(data []byte) error {
	var list []netip.Addr
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	*a = AddressesOf(list)
	return nil
}
