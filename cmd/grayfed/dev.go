package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/chaos/lab"
)

// newDevCommand runs a whole federation on this machine.
func newDevCommand() *cobra.Command {
	var (
		data, admin, gossip, dns []int
		opts                     lab.Options
		runFor                   time.Duration
	)
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run three zones with a sample service on this machine",
		Long: `Runs zones az1 and az2 (region east) and the standby az3 (region south): an edge
in each, an etcd, and a sample user-service with version v1 in every zone and
v2-beta in az1 and az2. Every part is a process of its own: kill -9 any of them
and watch the others take over. Ctrl-C ends everything.`,
		Example: `  grayfed dev
  grayfed dev --for 30s
  grayfed dev --data-ports 18081,18082,18083 --etcd-port 12379`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDevFlags(cmd, opts.Namespaces, runFor); err != nil {
				return usageError(err)
			}
			if opts.Namespaces {
				return runNamespaces(cmd, opts, runFor)
			}
			for flag, ports := range map[string][]int{"--data-ports": data, "--admin-ports": admin, "--gossip-ports": gossip, "--dns-ports": dns} {
				if len(ports) != 3 {
					return usageError(fmt.Errorf("%s takes three ports, one a zone, and got %d", flag, len(ports)))
				}
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program's own file: %w", err)
			}
			opts.Binary, opts.Output = binary, cmd.OutOrStdout()
			opts.Zones, opts.OneRelease = lab.DefaultZones(), true
			for n := range opts.Zones {
				z := &opts.Zones[n]
				z.Data, z.Admin, z.Gossip, z.DNS = data[n], admin[n], gossip[n], dns[n]
			}
			opts.Ready = func(*lab.Lab) { printTour(cmd.OutOrStdout(), opts.Zones) }
			return runLab(cmd.Context(), opts, runFor)
		},
	}
	flags := command.Flags()
	flags.IntSliceVar(&data, "data-ports", []int{8081, 8082, 8083}, "data ports of az1, az2 and az3")
	flags.IntSliceVar(&admin, "admin-ports", []int{9081, 9082, 9083}, "admin ports of az1, az2 and az3")
	flags.IntSliceVar(&gossip, "gossip-ports", []int{7946, 7947, 7948}, "gossip ports (TCP and UDP) of az1, az2 and az3")
	flags.IntSliceVar(&dns, "dns-ports", []int{8601, 8602, 8603}, "ports (TCP and UDP) of the name servers of az1, az2 and az3")
	flags.IntVar(&opts.Etcd, "etcd-port", 2379, "port of the embedded etcd")
	flags.IntVar(&opts.EtcdPeer, "etcd-peer-port", 2380, "peer port of the embedded etcd")
	flags.StringVar(&opts.DataDir, "data-dir", "", "folder for data and generated configuration (default: a temporary one, removed at the end)")
	flags.BoolVar(&opts.Namespaces, "namespaces", false, "give each zone a network namespace and a Consul server; needs root")
	flags.StringVar(&opts.Reach, "reach", "direct", "with --namespaces, how edges reach other zones: direct or gateway (through their edges)")
	flags.BoolVar(&opts.AccessLog, "access-log", false, "print a line for every request")
	flags.DurationVar(&runFor, "for", 0, "end by itself after this time (default: run until Ctrl-C)")
	return command
}

// checkDevFlags refuses flags that would do nothing.
func checkDevFlags(cmd *cobra.Command, namespaces bool, runFor time.Duration) error {
	if runFor < 0 {
		return fmt.Errorf("--for is %s, and dev can only end in the future", runFor)
	}
	if !namespaces {
		if cmd.Flags().Changed("reach") {
			return errors.New("--reach goes with --namespaces: without, all zones share one network")
		}
		return nil
	}
	for _, name := range []string{"data-ports", "admin-ports", "gossip-ports", "dns-ports", "etcd-port", "etcd-peer-port"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s does not go with --namespaces, where each zone has an address of its own and the same ports", name)
		}
	}
	return nil
}

func runLab(ctx context.Context, opts lab.Options, runFor time.Duration) error {
	federation, err := lab.New(opts)
	if err != nil {
		return err
	}
	if runFor > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, runFor)
		defer cancel()
	}
	return federation.Run(ctx)
}

func printTour(out io.Writer, zones []lab.Zone) {
	first, last := zones[0], zones[len(zones)-1]
	_, _ = fmt.Fprintf(out, `
ready

  curl -s http://127.0.0.1:%[1]d/api/v1/users/42                               # v1 in az1
  curl -s -H 'x-release-tag: v2-beta' http://127.0.0.1:%[1]d/api/v1/users/42   # v2-beta in az1
  curl -s -H 'x-release-tag: v2-beta' http://127.0.0.1:%[2]d/api/v1/users/42   # az3 has none: v2-beta in az1 or az2
  curl -si -H 'x-release-tag: v2-beta' -H 'x-gray-explain: 1' http://127.0.0.1:%[1]d/api/v1/users/42 | grep -i x-gray
  curl -s http://127.0.0.1:%[3]d/v1/federation
  dig @127.0.0.1 -p %[4]d +short gateway.%[5]s                           # where DNS sends clients
  pkill -9 -f 'zone az1 .*version v2-beta'                                    # then ask az1 for v2-beta again

Ctrl-C ends everything.

`, first.Data, last.Data, first.Admin, first.DNS, lab.Domain)
}
