package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
)

// completionTimeout bounds what the shell waits for a live edge.
const completionTimeout = time.Second

// complete says what the shell offers for a flag of the command.
func complete(command *cobra.Command, flag string, offer cobra.CompletionFunc) {
	if err := command.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // the flag was not defined: a mistake in this program
	}
}

// completeFiles offers files for a flag: those with the extensions, or any.
func completeFiles(command *cobra.Command, flag string, extensions ...string) {
	complete(command, flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(extensions) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	})
}

// live offers what a running edge knows; nothing where none answers soon.
func (c *connection) live(list func(context.Context, *api.Client, string) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		client, err := c.client(completionTimeout)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer client.Close()
		names, err := list(cmd.Context(), client, typed)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if len(names) > 0 && strings.HasSuffix(names[0], "/") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return names, directive
	}
}

func serviceNames(ctx context.Context, client *api.Client, _ string) ([]string, error) {
	list, err := client.Services(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Services))
	for i, s := range list.Services {
		names[i] = s.Name
	}
	return names, nil
}

func releaseNames(ctx context.Context, client *api.Client, _ string) ([]string, error) {
	list, err := client.Releases(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Releases))
	for i, r := range list.Releases {
		names[i] = r.Name
	}
	return names, nil
}

// instanceKeys are services up to the slash, and SERVICE/ID after it.
func instanceKeys(ctx context.Context, client *api.Client, typed string) ([]string, error) {
	service, _, slash := strings.Cut(typed, "/")
	if !slash {
		names, err := serviceNames(ctx, client, typed)
		for i := range names {
			names[i] += "/"
		}
		return names, err
	}
	list, err := client.Instances(ctx, service)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(list.Instances))
	for i, instance := range list.Instances {
		keys[i] = service + "/" + instance.ID
	}
	return keys, nil
}
