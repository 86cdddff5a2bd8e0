package main

import (
	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/chaos/lab/etcd"
	"github.com/grayfed/grayfed/chaos/lab/sample"
)

// newDevEtcdCommand is a child of dev.
func newDevEtcdCommand() *cobra.Command {
	var opts etcd.Options
	command := &cobra.Command{
		Use:    "dev-etcd",
		Short:  "Run the etcd of grayfed dev",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return etcd.Run(cmd.Context(), opts) },
	}
	flags := command.Flags()
	flags.StringVar(&opts.Name, "name", "lab", "name of this member")
	flags.StringVar(&opts.DataDir, "data-dir", "", "data folder")
	flags.StringVar(&opts.Client, "client", "127.0.0.1:2379", "address for clients")
	flags.StringVar(&opts.Peer, "peer", "127.0.0.1:2380", "address for peers")
	flags.StringVar(&opts.Cluster, "cluster", "", "all members: name=http://host:port,... (default: this one alone)")
	return command
}

// newDevInstanceCommand is a child of dev.
func newDevInstanceCommand() *cobra.Command {
	var opts sample.Options
	command := &cobra.Command{
		Use:    "dev-instance",
		Short:  "Run a sample instance of grayfed dev",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Output = cmd.OutOrStdout()
			return sample.Run(cmd.Context(), opts)
		},
	}
	flags := command.Flags()
	flags.StringVar(&opts.Service, "service", "user-service", "service name")
	flags.StringVar(&opts.Zone, "zone", "", "zone")
	flags.StringVar(&opts.Region, "region", "", "region")
	flags.StringVar(&opts.Version, "version", "", "version")
	flags.StringVar(&opts.ID, "id", "", "id of the instance (default: zone-version)")
	flags.StringVar(&opts.Listen, "listen", "127.0.0.1:0", "address for requests")
	flags.StringVar(&opts.AddressFile, "address-file", "", "file to write the address to once it listens")
	flags.StringVar(&opts.TokenFile, "token-file", "", "file with the token for the edges")
	flags.StringVar(&opts.CAFile, "ca-file", "", "file with who signed the edges' certificates")
	flags.StringSliceVar(&opts.Edges, "edges", nil, "HTTP APIs of the edges, the nearest first")
	return command
}
