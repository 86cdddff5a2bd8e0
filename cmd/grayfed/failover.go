package main

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

func failoverTable(f *api.Failover, out io.Writer) error {
	var rows [][]string
	for _, e := range f.Entries {
		id := e.Edge
		if id == f.Edge {
			id += "*"
		}
		addresses := make([]string, 0, len(e.Addresses))
		for _, address := range e.Addresses {
			addresses = append(addresses, net.JoinHostPort(address, strconv.Itoa(e.Port)))
		}
		rows = append(rows, []string{
			id, e.Zone, e.Role, strconv.Itoa(e.Weight), strconv.FormatFloat(e.SharePercent, 'f', 1, 64) + "%",
			e.Consul, e.Gossip, e.Probe, strings.Join(addresses, " "),
		})
	}
	head := []string{"EDGE", "ZONE", "ROLE", "WEIGHT", "SHARE", "CONSUL", "GOSSIP", "PROBE", "ADDRESSES"}
	if err := writeTable(out, head, rows, "no edge has an entry in DNS"); err != nil {
		return err
	}
	if f.Decision == nil {
		_, err := fmt.Fprintf(out, "\n%s has no failover section\n", f.Edge)
		return err
	}
	d, where := f.Decision, "out"
	if d.In {
		where = "in with weight " + strconv.Itoa(d.Weight)
	}
	lines := []string{fmt.Sprintf("\n* answered; it is %s since %s: %s", where, d.Since.UTC().Format(time.RFC3339), d.Reason)}
	switch c := f.Consul; {
	case !c.Configured:
		lines = append(lines, "consul: none")
	case c.Leader:
		lines = append(lines, "consul: a leader confirmed the entries "+milliseconds(c.ConfirmedMS)+" ago")
	case c.ConfirmedMS < 0:
		lines = append(lines, "consul: no leader has ever answered")
	default:
		lines = append(lines, "consul: no leader has answered for "+milliseconds(c.ConfirmedMS))
	}
	if f.Consul.Configured && !f.Consul.Registered {
		lines = append(lines, "consul: this edge is not registered")
	}
	if f.Consul.Error != "" {
		lines = append(lines, "consul: "+f.Consul.Error)
	}
	if d := f.DNS; d != nil {
		lines = append(lines, fmt.Sprintf("dns: gateway.%s at %s, kept for %s", d.Domain, d.Address, milliseconds(d.TTLMS)))
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}
