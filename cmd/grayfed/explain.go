package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
)

func newExplainCommand() *cobra.Command {
	var (
		to      connection
		as      format
		request api.ExplainRequest
		headers []string
	)
	command := &cobra.Command{
		Use:   "explain PATH",
		Short: "Show how an edge decides on a request",
		Long: `Asks an edge what would become of a request, and why: the route, the release, the
instance that it would go to, the path and host that it would see there, and each rung of the ladder with what made it
taken or passed over. The request is sent nowhere.`,
		Example: `  grayfed explain /api/v1/users/42 --tag v2-beta
  grayfed explain '/api/v1/users/42?lang=en' --method POST --host api.example.com
  grayfed explain / --header 'x-tenant: acme' -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one path: grayfed explain /api/v1/users/42")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Path, request.Query, _ = strings.Cut(args[0], "?")
			if err := addHeaders(&request, headers); err != nil {
				return usageError(err)
			}
			client, err := to.client(callTimeout)
			if err != nil {
				return err
			}
			defer client.Close()
			answer, err := client.Explain(cmd.Context(), request)
			if err != nil {
				return to.advise(err)
			}
			return as.write(cmd.OutOrStdout(), answer, func(out io.Writer) error { return explainTable(request, answer, out) })
		},
	}
	flags := command.Flags()
	flags.StringVar(&request.Method, "method", "GET", "method of the request")
	flags.StringVar(&request.Host, "host", "", "host that it asks for")
	flags.StringVar(&request.Tag, "tag", "", "its x-release-tag")
	flags.StringVar(&request.ClientIP, "client-ip", "", "whom it comes from (decides routes with tags: trusted)")
	flags.StringArrayVar(&headers, "header", nil, "one of its headers, NAME:VALUE (repeatable)")
	to.register(command)
	as.register(command)
	complete(command, "method", cobra.FixedCompletions(
		[]cobra.Completion{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, cobra.ShellCompDirectiveNoFileComp))
	complete(command, "tag", to.live(releaseNames))
	command.ValidArgsFunction = cobra.NoFileCompletions
	return command
}

// addHeaders takes the values of --header; x-release-tag counts as --tag.
func addHeaders(request *api.ExplainRequest, headers []string) error {
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || name == "" {
			return fmt.Errorf("--header takes NAME:VALUE and got %q", header)
		}
		if request.Headers == nil {
			request.Headers = make(map[string]string)
		}
		if _, twice := request.Headers[name]; twice {
			return fmt.Errorf("--header takes each name once and got %q twice", name)
		}
		request.Headers[name] = strings.Trim(value, " \t")
	}
	return nil
}

func explainTable(request api.ExplainRequest, e *api.Explanation, out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s", request.Method, request.Path)
	if request.Tag != "" {
		fmt.Fprintf(&text, ", tag %s", request.Tag)
	}
	text.WriteString("\n  " + verdict(e) + "\n")
	upstream := e.UpstreamPath
	if upstream != "" && e.UpstreamHost != "" {
		upstream += " of " + e.UpstreamHost
	}
	for _, fact := range []struct{ name, value string }{
		{"detail", e.Detail}, {"route", e.Route}, {"upstream", upstream}, {"service", e.Service}, {"release", e.Release},
		{"subset", e.Subset}, {"rung", e.Rung}, {"zone", e.Zone}, {"reason", e.Reason},
	} {
		if fact.value != "" {
			fmt.Fprintf(&text, "  %-10s%s\n", fact.name, fact.value)
		}
	}
	if e.Endpoint != nil {
		fmt.Fprintf(&text, "  %-10s%s\n", "endpoint", candidate(e.Endpoint))
	}
	for n := range e.Next {
		name := ""
		if n == 0 {
			name = "then"
		}
		fmt.Fprintf(&text, "  %-10s%s\n", name, candidate(&e.Next[n]))
	}
	if len(e.Steps) == 0 {
		_, err := io.WriteString(out, text.String())
		return err
	}
	text.WriteString("\n")
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range e.Steps {
		why := s.Why
		if s.Lost {
			why = strings.TrimPrefix(why+"; zone is lost", "; ")
		}
		rows = append(rows, []string{
			s.Rung, s.Subset, s.Zone, fmt.Sprintf("%.4g%%", s.SharePercent),
			fmt.Sprintf("%d of %d", s.Usable, s.Registered), why,
		})
	}
	return writeTable(out, []string{"RUNG", "SUBSET", "ZONE", "SHARE", "USABLE", "WHY"}, rows, "")
}

// verdict is what becomes of the request, in a few words.
func verdict(e *api.Explanation) string {
	switch e.Outcome {
	case api.OutcomeRouted:
		if e.Endpoint != nil {
			return "goes to " + e.Endpoint.ID + " in " + e.Endpoint.Zone
		}
		return "goes on"
	case api.OutcomeNoRoute:
		return fmt.Sprintf("is answered %d: no route matches", e.Status)
	case api.OutcomeMethodNotAllowed:
		return fmt.Sprintf("is answered %d: its route does not take the method", e.Status)
	case api.OutcomeBadRequest:
		return fmt.Sprintf("is answered %d: it is not a good request", e.Status)
	case api.OutcomeUnavailable:
		return fmt.Sprintf("is answered %d: no rung has a usable instance", e.Status)
	}
	return fmt.Sprintf("%s (%d)", e.Outcome, e.Status) // an edge of a later version
}

func candidate(c *api.Candidate) string {
	text := c.ID + " at " + c.Address + " in " + c.Zone
	if c.Version != "" {
		text += ", version " + c.Version
	}
	if text += ", " + c.Rung; c.Through != "" {
		text += ", through edge " + c.Through
	}
	return text
}
