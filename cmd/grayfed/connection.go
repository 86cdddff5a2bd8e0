package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grayfed/grayfed/edge/api"
)

const (
	defaultEdge = "http://127.0.0.1:9081"
	edgeEnv     = "GRAYFED_EDGE"
)

// credentials are what edges off loopback want.
type credentials struct {
	tokenFile string
	caFile    string
}

func (c *credentials) register(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the token for the edge's API")
	flags.StringVar(&c.caFile, "ca-file", "", "PEM file with the CA of the edge's certificate (default: the system's)")
	completeFiles(command, "token-file")
	completeFiles(command, "ca-file", "pem", "crt")
}

// token is what the file holds; empty without a file.
func (c *credentials) token() (string, error) {
	if c.tokenFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token (--token-file): %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("--token-file %s: found %d bytes, allowed one token on one line", c.tokenFile, len(text))
	}
	return token, nil
}

// tls is nil when the system's roots are to be trusted.
func (c *credentials) tls() (*tls.Config, error) {
	if c.caFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA (--ca-file): %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca-file %s: found no certificate, allowed PEM", c.caFile)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// connection is how a command reaches an edge.
type connection struct {
	credentials
	edge string
}

func (c *connection) register(command *cobra.Command) {
	command.Flags().StringVar(&c.edge, "edge", "", "URL of an edge's API (default: $"+edgeEnv+", else "+defaultEdge+")")
	complete(command, "edge", cobra.NoFileCompletions)
	c.credentials.register(command)
}

// client is one for the edge that the flags, the environment or the default
// name.
func (c *connection) client(timeout time.Duration) (*api.Client, error) {
	url := defaultEdge
	if env := os.Getenv(edgeEnv); env != "" {
		url = env
	}
	if c.edge != "" {
		url = c.edge
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	trust, err := c.tls()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.ClientOptions{URL: url, Token: token, TLS: trust, Timeout: timeout})
	if err != nil {
		return nil, usageError(err)
	}
	return client, nil
}

// advise adds what to do to an edge's error.
func (c *connection) advise(err error) error {
	if _, ok := errors.AsType[*api.UnreachableError](err); ok {
		if c.edge == "" && os.Getenv(edgeEnv) == "" {
			return fmt.Errorf("%w; name another with --edge or %s", err, edgeEnv)
		}
		return err
	}
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	switch {
	case problem.Status == http.StatusUnauthorized && c.tokenFile == "":
		return fmt.Errorf("%w; name a file with a token: --token-file", err)
	case problem.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w; the token in %s is none of this edge's", err, c.tokenFile)
	case problem.Type == api.ProblemRole:
		return fmt.Errorf("%w; use a token with the role write", err)
	}
	return err
}
