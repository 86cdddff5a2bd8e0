package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge"
	"github.com/grayfed/grayfed/edge/config"
)

func newEdgeCommand() *cobra.Command {
	var file, clock string
	command := &cobra.Command{
		Use:   "edge -c FILE",
		Short: "Run the edge of one zone",
		Long: `Runs the edge of one zone with the settings in FILE: its gateway on the data
port, its HTTP API on the admin port, joined to the other edges by gossip and by
etcd. Routes, services and releases come from the documents that FILE names, and
are followed as they change. SIGTERM drains it.

Everything that is wrong with FILE is printed, one problem a line.`,
		Example: `  grayfed edge -c /etc/grayfed/edge.yaml
  grayfed validate /etc/grayfed/edge.yaml /etc/grayfed/documents   # first`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError(fmt.Errorf("name the settings: grayfed edge -c edge.yaml"))
			}
			settings, err := config.LoadProcess(file)
			if err != nil {
				return err
			}
			options := edge.Options{Process: settings, Version: version, Output: cmd.OutOrStdout()}
			if clock != "" {
				options.Now = edge.OffsetClock(clock)
			}
			e, err := edge.New(cmd.Context(), options)
			if err != nil {
				return err
			}
			return e.Run(cmd.Context())
		},
	}
	command.Flags().StringVarP(&file, "config", "c", "", "settings of the edge (edge.yaml)")
	command.Flags().StringVar(&clock, "clock-file", "", "file that sets the wall clock off, for drills: +1h")
	_ = command.Flags().MarkHidden("clock-file") // it is there
	completeFiles(command, "config", "yaml", "yml")
	return command
}
