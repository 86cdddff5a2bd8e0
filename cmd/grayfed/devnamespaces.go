package main

import (
	"fmt"
	"io"
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
	_, _ = fmt.Fprintf(out, "\nready\n\n  nodes  %s\n  parts  %s\n", strings.Join(l.Nodes(), ", "), strings.Join(l.Parts(), "\n         "))
	for _, zone := range lab.DefaultZones() {
		edge := l.Edge(zone.Name)
		_, _ = fmt.Fprintf(out, "\n  curl -s -H 'x-release-tag: v2-beta' %s/api/v1/users/42\n  %s\n", edge.Data, edge.Admin)
	}
	_, _ = fmt.Fprint(out, "\nCtrl-C ends everything.\n\n")
}
