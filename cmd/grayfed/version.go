package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	var as format
	command := &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is",
		Example: "  grayfed version\n  grayfed version -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			about := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return as.write(cmd.OutOrStdout(), about, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "grayfed %s (%s, %s)\n", about.Version, about.Go, about.Platform)
				return err
			})
		},
	}
	as.register(command)
	return command
}
