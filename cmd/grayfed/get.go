package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
)

// callTimeout bounds what a command waits for an edge.
const callTimeout = 10 * time.Second

func newGetCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "get federation|services|instances|releases|routes|failover",
		Short: "Show what an edge knows",
		Long: `Shows what one edge knows: of the other edges, of services and their instances,
of the releases and routes that it runs on, and of who is in DNS.`,
		Example: `  grayfed get federation
  grayfed get instances user-service
  grayfed get routes --edge http://127.0.0.1:9082 -o yaml`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError(fmt.Errorf("say what to get: federation, services, instances, releases, routes or failover"))
		},
	}
	command.AddCommand(
		newGetSubcommand(getting{
			use: "federation", short: "Show the edges and how far each is", aliases: []string{"fed", "edges"},
			example: "  grayfed get federation\n  grayfed get federation -o json | jq -r '.edges[].status'",
		}, (*api.Client).Federation, federationTable),
		newGetSubcommand(getting{
			use: "services", short: "List services", aliases: []string{"service", "svc"},
			example: "  grayfed get services",
		}, (*api.Client).Services, servicesTable),
		newGetInstancesCommand(),
		newGetSubcommand(getting{
			use: "releases", short: "List releases", aliases: []string{"release"},
			example: "  grayfed get releases -o yaml",
		}, (*api.Client).Releases, releasesTable),
		newGetSubcommand(getting{
			use: "routes", short: "List the routes in force", aliases: []string{"route"},
			example: "  grayfed get routes",
		}, (*api.Client).Routes, routesTable),
		newGetSubcommand(getting{
			use: "failover", short: "Show who is in DNS, and why", aliases: []string{"dns"},
			example: "  grayfed get failover",
		}, (*api.Client).Failover, failoverTable),
	)
	return command
}

// getting is what help says of a subcommand of get.
type getting struct {
	use, short, example string
	aliases             []string
}

// newGetSubcommand fetches one value and prints it.
func newGetSubcommand[T any](g getting, fetch func(*api.Client, context.Context) (T, error), table func(T, io.Writer) error) *cobra.Command {
	var to connection
	var as format
	command := &cobra.Command{
		Use: g.use, Short: g.short, Example: g.example, Aliases: g.aliases,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := to.client(callTimeout)
			if err != nil {
				return err
			}
			defer client.Close()
			value, err := fetch(client, cmd.Context())
			if err != nil {
				return to.advise(err)
			}
			return as.write(cmd.OutOrStdout(), value, func(out io.Writer) error { return table(value, out) })
		},
	}
	to.register(command)
	as.register(command)
	return command
}

func newGetInstancesCommand() *cobra.Command {
	var to connection
	var as format
	command := &cobra.Command{
		Use:     "instances [SERVICE]",
		Short:   "List the instances of a service, or of all",
		Example: "  grayfed get instances\n  grayfed get instances user-service -o json",
		Aliases: []string{"instance"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("name one service, or none for all, and not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := to.client(callTimeout)
			if err != nil {
				return err
			}
			defer client.Close()
			list, err := instances(cmd.Context(), client, args)
			if err != nil {
				return to.advise(err)
			}
			return as.write(cmd.OutOrStdout(), list, func(out io.Writer) error { return instancesTable(list, out) })
		},
	}
	to.register(command)
	as.register(command)
	command.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return to.live(serviceNames)(cmd, args, typed)
	}
	return command
}

// instances are those of the service that is named, or of all services in one
// list, whose service is empty.
func instances(ctx context.Context, client *api.Client, named []string) (*api.Instances, error) {
	if len(named) > 0 {
		list, err := client.Instances(ctx, named[0])
		if err == nil && len(list.Instances) == 0 {
			err = known(ctx, client, named[0])
		}
		return list, err
	}
	services, err := client.Services(ctx)
	if err != nil {
		return nil, err
	}
	all := &api.Instances{Revision: services.Revision, Instances: []api.Instance{}}
	for _, s := range services.Services {
		list, err := client.Instances(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		all.Revision = max(all.Revision, list.Revision)
		all.Instances = append(all.Instances, list.Instances...)
	}
	return all, nil
}

// known tells a service that has no instance from a name that was mistyped.
func known(ctx context.Context, client *api.Client, service string) error {
	names, err := serviceNames(ctx, client, "")
	if err != nil || slices.Contains(names, service) {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("the edge knows no service %q, nor any other", service)
	}
	return fmt.Errorf("the edge knows no service %q; it knows %s", service, strings.Join(names, ", "))
}
