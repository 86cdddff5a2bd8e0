package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/config"
)

func newValidateCommand() *cobra.Command {
	var as format
	command := &cobra.Command{
		Use:   "validate PATH...",
		Short: "Check settings and documents without an edge",
		Long: `Checks files, and the *.yaml, *.yml and *.json files of folders, as an edge would:
edge.yaml by itself, all documents as one set. Prints every problem with its
file, line, column and field, what was found and what is allowed, and warns of
what is legal but probably not meant. Shows what becomes of a sample path on each
route that rewrites paths. Exit code 1 when there are problems.`,
		Example: `  grayfed validate edge.yaml documents/
  grayfed validate -o json documents/ | jq .problems`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name files or folders: grayfed validate edge.yaml documents/")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error {
			report, err := config.Validate(paths)
			var problems config.Problems
			if err != nil && !errors.As(err, &problems) {
				return err
			}
			v := newValidation(report, problems)
			if err := as.write(cmd.OutOrStdout(), v, v.print); err != nil {
				return err
			}
			if len(problems) > 0 {
				return exitError{code: exitFailure}
			}
			return nil
		},
	}
	as.register(command)
	return command
}

// validation is what validate prints.
type validation struct {
	Valid bool     `json:"valid"`
	Files []string `json:"files"`
	Edges []string `json:"edges"` // the files that are settings
	// What the documents hold; 0 when they are not valid.
	Routes   int    `json:"routes"`
	Services int    `json:"services"`
	Releases int    `json:"releases"`
	Hash     string `json:"hash,omitempty"` // as edges show it
	// Rewrites are the routes that rewrite paths, each with a sample.
	Rewrites []rewritten `json:"rewrites"`
	Problems []finding   `json:"problems"`
	Warnings []finding   `json:"warnings"`
}

// rewritten is a path that a route matches and what its upstream sees.
type rewritten struct {
	Route    string `json:"route"`
	Path     string `json:"path"`
	Upstream string `json:"upstream_path"`
}

// finding is a config.Problem.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"`
	Found   string `json:"found"`
	Allowed string `json:"allowed"`
}

func newValidation(report *config.Report, problems config.Problems) *validation {
	v := &validation{
		Valid:    len(problems) == 0,
		Files:    append([]string{}, report.Files...),
		Edges:    append([]string{}, report.Processes...),
		Rewrites: []rewritten{},
		Problems: findings(problems), Warnings: findings(nil),
	}
	if d := report.Documents; d != nil {
		v.Routes, v.Services, v.Releases = len(d.Routes), len(d.Services), len(d.Releases)
		v.Hash, v.Warnings = d.Hash, findings(d.Warnings)
		for n := range d.Routes {
			if path, upstream, ok := d.Routes[n].SampleRewrite(); ok {
				v.Rewrites = append(v.Rewrites, rewritten{d.Routes[n].ID, path, upstream})
			}
		}
	}
	return v
}

func findings(problems []config.Problem) []finding {
	list := make([]finding, len(problems))
	for i, p := range problems {
		list[i] = finding(p)
	}
	return list
}

func (v *validation) print(out io.Writer) error {
	for _, p := range v.Problems {
		if _, err := fmt.Fprintln(out, config.Problem(p)); err != nil {
			return err
		}
	}
	for _, w := range v.Warnings {
		if _, err := fmt.Fprintln(out, "warning:", config.Problem(w)); err != nil {
			return err
		}
	}
	for _, r := range v.Rewrites {
		if _, err := fmt.Fprintf(out, "route %s: %s is %s upstream\n", r.Route, r.Path, r.Upstream); err != nil {
			return err
		}
	}
	wrong := make(map[string]bool)
	for _, p := range v.Problems {
		wrong[p.File] = true
	}
	summary := count(len(v.Problems), "problem") + " in " + count(len(wrong), "file")
	if v.Valid {
		summary = fmt.Sprintf("%s valid: %s, %s, %s, %s; %s", count(len(v.Files), "file"),
			count(len(v.Edges), "edge"), count(v.Routes, "route"), count(v.Services, "service"),
			count(v.Releases, "release"), count(len(v.Warnings), "warning"))
	}
	_, err := fmt.Fprintln(out, summary)
	return err
}
