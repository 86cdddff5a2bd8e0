package federation_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

func TestEntriesOfEdgesAreKeptAsJSON(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")}
	edge := federation.Edge{ID: "e1", Entry: federation.Entry{
		Role: "standby", Port: 443, Weight: 50, Addresses: federation.AddressesOf(addresses),
	}}
	data, err := json.Marshal(edge)
	if err != nil || !strings.Contains(string(data), `"addresses":["203.0.113.5","2001:db8::5"]`) {
		t.Fatalf("%s, %v", data, err)
	}
	var back federation.Edge
	if err := json.Unmarshal(data, &back); err != nil || back != edge {
		t.Errorf("back is %+v, %v", back, err)
	}
	data, err = json.Marshal(federation.Edge{ID: "e1"})
	if err != nil || strings.Contains(string(data), "entry") {
		t.Errorf("no entry: %s, %v", data, err)
	}
	if err := json.Unmarshal([]byte(`{"entry":{"addresses":["ten"]}}`), &back); err == nil {
		t.Error("an address that is none was taken")
	}
}
