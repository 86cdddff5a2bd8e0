package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/chaos/lab"
)

// replicas are the instances of each version in each zone, so that one can die
// without its version.
const replicas = 2

// runNamespaces runs the lab with a network of its own.
func runNamespaces(cmd *cobra.Command, opts lab.Options, runFor time.Duration) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	opts.Binary, opts.Output, opts.Replicas = binary, cmd.OutOrStdout(), replicas
	opts.Ready = func(l *lab.Lab) { printLab(cmd.OutOrStdout(), l) }
	return runLab(cmd.Context(), opts, runFor)
}

func printLab(out io.Writer, l *lab.Lab) {
	zones := lab.DefaultZones()
	_, _ = fmt.Fprintf(out, "\nready\n\n  nodes  %s\n  parts  %s\n\n", strings.Join(l.Nodes(), ", "), strings.Join(l.Parts(), "\n         "))
	for _, zone := range zones {
		_, _ = fmt.Fprintf(out, "  curl -s -H 'x-release-tag: v2-beta' %s/api/v1/users/42   # enters %s\n", l.Edge(zone.Name).Data, zone.Name)
	}
	server, _, _ := net.SplitHostPort(l.DNSServers()[0])
	caFile, tokenFile := l.Credentials()
	_, _ = fmt.Fprintf(out, `  dig @%s +short gateway.%s
  grayfed get failover --edge %s --ca-file %s --token-file %s
  ip netns exec %s ss -tlnp   # a look around in a zone
  kill -9 any of the processes, and see the others take over

Ctrl-C ends everything.

`, server, lab.Domain, l.Edge(zones[0].Name).Admin, caFile, tokenFile, l.Namespace(zones[0].Name))
}
