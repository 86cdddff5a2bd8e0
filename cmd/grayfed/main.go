// Command grayfed is a gray-release federation in one program: the edge of a
// zone, what registers instances with it, and what asks and steers it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/config"
)

// version is set when it is built: -ldflags '-X main.version=...'.
var version = "unknown"

// Exit codes. [registerCommand] returns its program's instead.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal ends everything in order; with the handler gone, the
	// second kills at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process around it; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	// What fails before a command begins is how it was called.
	begun := false
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitFailure
	if exit, ok := errors.AsType[exitError](err); ok {
		code, err = exit.code, exit.err
		if err == nil {
			return code
		}
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		// Each begins with its place, which editors and terminals can open.
		_, _ = fmt.Fprintln(stderr, problems)
		return code
	}
	_, _ = fmt.Fprintln(stderr, "grayfed: "+strings.TrimSpace(err.Error()))
	if _, usage := errors.AsType[usageErr](err); usage || !begun {
		return exitUsage
	}
	return code
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "grayfed",
		Short: "Gray releases over a federation of edges, one a zone",
		Long: `Gray releases over a federation of edges, one a zone: a request tagged
x-release-tag: NAME reaches a healthy instance of that release in whichever zone
has one.

Exit codes: 0 done, 1 failed, 2 called the wrong way, 3 a drill that could not be
run to its end. register returns its program's.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("grayfed {{.Version}}\n")
	root.AddCommand(
		newDevCommand(), newDevEtcdCommand(), newDevInstanceCommand(),
		newEdgeCommand(), newRegisterCommand(),
		newGetCommand(), newExplainCommand(), newDrainCommand(),
		newValidateCommand(), newDrillCommand(), newVersionCommand(),
	)
	return root
}

// knownCommand refuses what is no subcommand of a command that has some.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return fmt.Errorf("%s has no command %q; did you mean %s?", cmd.CommandPath(), args[0], strings.Join(like, " or "))
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%s has no command %q; it has %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes flags only and got %q; see %[1]s --help", cmd.CommandPath(), args[0])
	}
	return nil
}

// usageErr is a command called the wrong way.
type usageErr struct{ error }

// Unwrap returns what was wrong.
func (e usageErr) Unwrap() error { return e.error }

func usageError(err error) error { return usageErr{err} }

// exitError ends the program with a code of its own; err is what there is to
// say, nil when all has been said.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
