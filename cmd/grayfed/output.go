package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// format is the value of -o. The zero value is the table.
type format string

const (
	asTable format = "table"
	asJSON  format = "json"
	asYAML  format = "yaml"
)

// String, Set and Type make it a flag.
func (f *format) String() string {
	if *f == "" {
		return string(asTable)
	}
	return string(*f)
}

// Set implements the flag.
func (f *format) Set(text string) error {
	switch format(text) {
	case asTable, asJSON, asYAML:
		*f = format(text)
		return nil
	}
	return errors.New("want table, json or yaml")
}

// Type is how help names the value.
func (f *format) Type() string { return "table|json|yaml" }

func (f *format) register(command *cobra.Command) {
	command.Flags().VarP(f, "output", "o", "how to print it")
	complete(command, "output", cobra.FixedCompletions([]cobra.Completion{
		string(asTable), string(asJSON), string(asYAML),
	}, cobra.ShellCompDirectiveNoFileComp))
}

// write prints a value: as JSON, as YAML with the same keys in the same order,
// or as people read it.
func (f *format) write(out io.Writer, value any, table func(io.Writer) error) error {
	switch *f {
	case asJSON:
		text, err := marshal(value)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	case asYAML:
		text, err := marshal(value)
		if err != nil {
			return err
		}
		return writeYAML(out, text)
	default:
		return table(out)
	}
}

func marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("print as JSON: %w", err)
	}
	return text.Bytes(), nil
}

// writeYAML rewrites JSON, which is YAML in flow style, in block style.
func writeYAML(out io.Writer, text []byte) error {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return fmt.Errorf("print as YAML: %w", err)
	}
	blockStyle(&node)
	encoder := yaml.NewEncoder(out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return fmt.Errorf("print as YAML: %w", err)
	}
	return encoder.Close()
}

func blockStyle(node *yaml.Node) {
	node.Style = 0
	if len(node.Content) == 0 && node.Kind != yaml.ScalarNode {
		node.Style = yaml.FlowStyle // {} and [] have no other form
	}
	for _, child := range node.Content {
		blockStyle(child)
	}
}

// writeTable prints columns under their heads, or what to say when there are
// no rows.
func writeTable(out io.Writer, head []string, rows [][]string, none string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, none)
		return err
	}
	columns := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			if i < len(row)-1 {
				cell += "\t"
			}
			if _, err := io.WriteString(columns, cell); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(columns, "\n"); err != nil {
			return err
		}
	}
	return columns.Flush()
}

// count is "1 route", "2 routes".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
