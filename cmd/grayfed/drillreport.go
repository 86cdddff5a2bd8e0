package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/chaos/report"
)

func newDrillReportCommand() *cobra.Command {
	var (
		html string
		as   format
	)
	command := &cobra.Command{
		Use:     "report FILE.json...",
		Short:   "Compare runs of drills, or make a page of one",
		Example: "  grayfed drill report reports/az-loss-*.json\n  grayfed drill report --html run.html run.json",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("name reports: grayfed drill report reports/*.json")
			case html != "" && len(args) > 1:
				return fmt.Errorf("--html is of one report and got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			runs := make([]*report.Run, 0, len(args))
			for _, file := range args {
				run, err := readReport(file)
				if err != nil {
					return err
				}
				runs = append(runs, run)
			}
			if html != "" {
				return writeReport(html, runs[0], report.WriteHTML)
			}
			slices.SortStableFunc(runs, func(a, b *report.Run) int { return a.Started.Compare(b.Started) })
			return as.write(cmd.OutOrStdout(), runs, func(out io.Writer) error { return report.Compare(out, runs) })
		},
	}
	command.Flags().StringVar(&html, "html", "", "write the page of one report to this file")
	completeFiles(command, "html", "html")
	as.register(command)
	return command
}

func readReport(file string) (*report.Run, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	run, err := report.ReadJSON(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return run, nil
}

func writeReport(file string, run *report.Run, write func(io.Writer, *report.Run) error) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write a report: %w", err)
	}
	return errors.Join(write(f, run), f.Close())
}
