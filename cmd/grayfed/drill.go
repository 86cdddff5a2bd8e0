package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/chaos"
	"github.com/grayfed/grayfed/chaos/lab"
	"github.com/grayfed/grayfed/chaos/report"
)

// exitNotRun is of a drill that could not be run, or not to its end.
const exitNotRun = 3

// Targets that the program makes itself.
const (
	targetDev = "dev"
	targetLab = "lab"
)

func newDrillCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "drill",
		Short: "Break things under load, measure, and pass or fail",
		Long: `A drill sees that a federation is in its steady state, puts it under load,
breaks parts of it on a time line, mends them whatever happens, and judges what
clients felt, and whether the steady state holds again.

Exit codes of run: 0 passed, 1 failed, 2 called the wrong way, 3 could not be
run or was aborted.`,
		Example: `  grayfed drill list
  grayfed drill run edge-kill --target dev
  grayfed drill run az-loss --target lab --runs 20 --out reports`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(newDrillListCommand(), newDrillRunCommand(), newDrillReportCommand())
	return command
}

// listedDrill is a drill as list prints it.
type listedDrill struct {
	Name     string `json:"name"`
	Duration string `json:"duration"`
	Rate     int    `json:"rate"`
	NeedsDNS bool   `json:"needs_dns"`
	About    string `json:"about"`
}

func newDrillListCommand() *cobra.Command {
	var as format
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the drills of the catalogue",
		Example: "  grayfed drill list",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			drills, err := chaos.Catalogue()
			if err != nil {
				return err
			}
			list := make([]listedDrill, len(drills))
			rows := make([][]string, len(drills))
			for i, d := range drills {
				list[i] = listedDrill{d.Name, d.Load.Duration.String(), d.Load.Rate, d.NeedsDNS, d.About}
				about := d.About
				if d.NeedsDNS {
					about += " (needs DNS)"
				}
				rows[i] = []string{d.Name, list[i].Duration, strconv.Itoa(d.Load.Rate) + "/s", about}
			}
			return as.write(cmd.OutOrStdout(), list, func(out io.Writer) error {
				return writeTable(out, []string{"NAME", "LOAD", "RATE", "ABOUT"}, rows, "no drills")
			})
		},
	}
	as.register(command)
	return command
}

// drillRun is what run was called with.
type drillRun struct {
	target, out, log, binary string
	runs, rate               int
	seed                     int64
	dryRun                   bool
	as                       format
}

func newDrillRunCommand() *cobra.Command {
	var r drillRun
	command := &cobra.Command{
		Use:   "run NAME|FILE.yaml",
		Short: "Run a drill against dev, a lab or a real deployment",
		Long: `Runs a drill of the catalogue, or one in a file, against a target:

  dev    edges, etcd and instances on this machine's loopback, started for it
  lab    three zones as network namespaces, started for it; needs root
  FILE   a real deployment, as a YAML file describes it

Ctrl-C mends what is broken and ends it. A target file:

  name: staging
  edges:    # zone is the name that drills have for it
    - {zone: az1, data: "http://203.0.113.1", admin: "https://10.0.1.5:9081", token_file: token, ca_file: ca.pem}
    - {zone: az3, data: "http://203.0.113.3", admin: "https://10.0.3.5:9081", token_file: token, ca_file: ca.pem, standby: true}
  dns: {servers: ["203.0.113.53:53"], name: gateway.example.com}
  request:  # who answered is in the JSON keys version and zone, or in headers
    path: /api/v1/users/42
    baseline: v1
    permissive: {tag: v2-beta, version: v2-beta}
    strict: {tag: v2-strict, version: v2-beta}
    version_header: X-Version
    zone_header: X-Zone
  faults:   # by kind, with $GRAYFED_FAULT_PARTS, _FROM, _TO, _ZONES and so on
    kill: {break: [./kill.sh], mend: [./start.sh], timeout: 1m}`,
		Example: `  grayfed drill run subset-crash
  grayfed drill run az-loss --target lab --dry-run
  grayfed drill run edge-kill --target staging.yaml --runs 3 --out reports`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one drill: grayfed drill run edge-kill; grayfed drill list has them all")
			}
			return nil
		},
		ValidArgsFunction: completeDrills,
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.runs < 1 || r.runs > 1000 {
				return usageError(fmt.Errorf("--runs: found %d, allowed 1 to 1000", r.runs))
			}
			if r.rate < 0 || r.rate > 20_000 {
				return usageError(fmt.Errorf("--rate: found %d, allowed 1 to 20000 requests/s", r.rate))
			}
			if r.seed < 0 {
				return usageError(fmt.Errorf("--seed: found %d, allowed from 1", r.seed))
			}
			return r.run(cmd, args[0])
		},
	}
	flags := command.Flags()
	flags.StringVar(&r.target, "target", targetDev, "dev, lab, or a target file")
	flags.IntVar(&r.runs, "runs", 1, "how many times, each when the steady state holds again")
	flags.IntVar(&r.rate, "rate", 0, "requests/s (default: the drill's)")
	flags.Int64Var(&r.seed, "seed", 0, "what the first run draws its faults from, where the drill draws any; each run takes the next (default: the drill's)")
	flags.StringVar(&r.out, "out", "", "folder for a JSON and an HTML report of each run")
	flags.StringVar(&r.log, "log", "", "file for what the processes of dev or lab say (default: only the end, when they fail)")
	flags.StringVar(&r.binary, "binary", "", "the other version of the program for upgrades (default: this one)")
	flags.BoolVar(&r.dryRun, "dry-run", false, "print what would be done, and do nothing")
	complete(command, "target", cobra.FixedCompletions([]cobra.Completion{targetDev, targetLab}, cobra.ShellCompDirectiveDefault))
	completeFiles(command, "log")
	completeFiles(command, "binary")
	r.as.register(command)
	return command
}

func completeDrills(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	drills, err := chaos.Catalogue()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, d := range drills {
		names = append(names, cobra.CompletionWithDesc(d.Name, d.About))
	}
	return names, cobra.ShellCompDirectiveDefault
}

func (r *drillRun) run(cmd *cobra.Command, name string) error {
	drill, err := chaos.Find(name)
	if err != nil {
		return exitError{exitNotRun, err}
	}
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	if r.binary == "" {
		r.binary = own
	}
	options := chaos.Options{Drill: drill, Runs: r.runs, Rate: r.rate, Seed: r.seed, Binary: r.binary, Version: version}
	plan, err := r.plan(options, own)
	if err != nil {
		return exitError{exitNotRun, err} // before a lab is started for nothing
	}
	if r.dryRun {
		_, err := io.WriteString(cmd.OutOrStdout(), plan)
		return err
	}
	if r.out != "" {
		if err := os.MkdirAll(r.out, 0o755); err != nil {
			return exitError{exitNotRun, fmt.Errorf("folder for reports: %w", err)}
		}
	}
	ctx, ignore := mendFirst(cmd)
	defer ignore()
	options.Progress = report.NewProgress(cmd.ErrOrStderr(), terminal(cmd.ErrOrStderr()))
	options.Done = func(run *report.Run) error { return r.save(cmd, run) }
	var runs []*report.Run
	use := func(ctx context.Context, target *chaos.Target) (err error) {
		for _, note := range target.Notes {
			options.Progress.Say(note)
		}
		options.Target = target
		runs, err = chaos.Run(ctx, options)
		return err
	}
	if err := r.with(ctx, cmd, own, use); err != nil {
		if len(runs) > 0 {
			err = errors.Join(err, r.print(cmd, runs))
		}
		return exitError{exitNotRun, err}
	}
	return r.conclude(cmd, runs)
}

// with calls use with the target that the flags name.
func (r *drillRun) with(ctx context.Context, cmd *cobra.Command, own string, use func(context.Context, *chaos.Target) error) (err error) {
	if r.target != targetDev && r.target != targetLab {
		target, err := chaos.ReadTarget(r.target)
		if err != nil {
			return err
		}
		defer target.Close()
		return use(ctx, target)
	}
	output := &tailWriter{}
	options := r.lab(own)
	options.Output = output
	if r.log != "" {
		file, err := os.Create(r.log)
		if err != nil {
			return fmt.Errorf("log of the %s's processes: %w", r.target, err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		options.Output = io.MultiWriter(file, output)
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "starting target %s\n", r.target)
	err = chaos.WithLab(ctx, r.target, options, use)
	if err != nil && ctx.Err() == nil && r.log == "" {
		_, _ = cmd.ErrOrStderr().Write(output.bytes())
	}
	return err
}

func (r *drillRun) lab(own string) lab.Options {
	options := lab.Options{Binary: own, Output: io.Discard}
	if r.target == targetLab {
		options.Namespaces, options.Replicas = true, replicas
	}
	return options
}

// plan is what a run would do, for people. It fails where the run could not
// begin, as far as that can be told without the target.
func (r *drillRun) plan(options chaos.Options, own string) (string, error) {
	var err error
	switch r.target {
	case targetDev, targetLab:
		options.Target, err = chaos.LabPlan(r.target, r.lab(own))
	default:
		options.Target, err = chaos.ReadTarget(r.target)
	}
	if err != nil {
		return "", err
	}
	defer options.Target.Close()
	options.Progress = report.NewProgress(io.Discard, false)
	return chaos.Plan(options)
}

// mendFirst lets nothing end or suspend the program while something may be
// broken: not a second Ctrl-C, nor Ctrl-Z, nor a terminal or a pipe that is gone.
func mendFirst(cmd *cobra.Command) (context.Context, func()) {
	ctx, hangUp := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	heard := make(chan os.Signal, 8)
	signal.Notify(heard, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGTSTP)
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case s := <-heard:
				switch s {
				case syscall.SIGPIPE:
				case syscall.SIGTSTP:
					_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "\nnot suspended: what is broken would stay so; Ctrl-C mends it and ends the drill")
				default:
					_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "\nstopping: what is broken is mended first")
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		close(done)
		<-told
		signal.Stop(heard)
		hangUp()
	}
}

// save writes both reports of a run, the other also where one fails.
func (r *drillRun) save(cmd *cobra.Command, run *report.Run) error {
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), report.Verdict(run))
	if r.out == "" {
		return nil
	}
	name := filepath.Join(r.out, fmt.Sprintf("%s-%s", run.Drill, run.Started.Format("20060102T150405.000Z")))
	write := func(file string, write func(io.Writer, *report.Run) error) error {
		if err := writeReport(file, run, write); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "  "+file)
		return nil
	}
	return errors.Join(write(name+".json", report.WriteJSON), write(name+".html", report.WriteHTML))
}

func (r *drillRun) print(cmd *cobra.Command, runs []*report.Run) error {
	return r.as.write(cmd.OutOrStdout(), runs, func(out io.Writer) error { return report.Compare(out, runs) })
}

// conclude prints the runs and is the exit code.
func (r *drillRun) conclude(cmd *cobra.Command, runs []*report.Run) error {
	if err := r.print(cmd, runs); err != nil {
		return exitError{exitNotRun, err} // a drill that was not heard has not failed
	}
	code := exitOK
	for _, run := range runs {
		switch run.Verdict {
		case report.Passed:
		case report.Failed:
			code = max(code, exitFailure)
		default:
			code = exitNotRun
		}
	}
	if code == exitOK {
		return nil
	}
	return exitError{code: code}
}
