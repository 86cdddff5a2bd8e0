package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

func newDrainCommand() *cobra.Command {
	var to connection
	var as format
	command := &cobra.Command{
		Use:   "drain SERVICE/ID...",
		Short: "Send instances nothing new",
		Long: `Takes instances out of the choice for new requests; what they work on goes on, and
they stay registered. An instance that registers anew ends its drain. When one of
several cannot be drained the others are, and the exit code is 1.`,
		Example: `  grayfed drain user-service/az1-v2-beta
  grayfed get instances user-service -o json | jq -r '.instances[] | select(.zone=="az1") | .service+"/"+.id' | xargs grayfed drain`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name instances: grayfed drain SERVICE/ID (grayfed get instances lists them)")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := parseKeys(args)
			if err != nil {
				return usageError(err)
			}
			client, err := to.client(callTimeout)
			if err != nil {
				return err
			}
			defer client.Close()
			drained := []api.Instance{}
			var failed []error
			for _, key := range keys {
				instance, err := client.Drain(cmd.Context(), key, api.WriteOptions{})
				if err != nil {
					failed = append(failed, drainError(key, to.advise(err)))
					if _, refused := errors.AsType[*api.Problem](err); !refused {
						break // the edge does not answer
					}
					continue
				}
				drained = append(drained, *instance)
			}
			answer := struct {
				Instances []api.Instance `json:"instances"`
			}{drained}
			err = as.write(cmd.OutOrStdout(), answer, func(out io.Writer) error {
				for _, i := range drained {
					if _, err := fmt.Fprintf(out, "%s/%s drains\n", i.Service, i.ID); err != nil {
						return err
					}
				}
				return nil
			})
			return errors.Join(append(failed, err)...)
		},
	}
	to.register(command)
	as.register(command)
	command.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return to.live(instanceKeys)(cmd, args, typed)
	}
	return command
}

func parseKeys(args []string) ([]federation.Key, error) {
	keys := make([]federation.Key, len(args))
	for n, arg := range args {
		service, id, ok := strings.Cut(arg, "/")
		if !ok || !federation.ValidName(service) || !federation.ValidName(id) {
			return nil, fmt.Errorf("an instance is SERVICE/ID, like user-service/az1-v1, and not %q", arg)
		}
		keys[n] = federation.Key{Service: service, ID: id}
	}
	return keys, nil
}

func drainError(key federation.Key, err error) error {
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Status == http.StatusNotFound && problem.Type == api.ProblemNoInstance {
		return fmt.Errorf("%s is not registered; grayfed get instances %s lists those that are", key, key.Service)
	}
	return fmt.Errorf("drain %s: %w", key, err)
}
