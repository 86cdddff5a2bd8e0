package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read, so that a stray file cannot take the edge's memory.
const (
	// MaxFileSize is of one file.
	MaxFileSize = 16 << 20
	// MaxDepth is of nested mappings and lists.
	MaxDepth = 64
	// maxExpansion is how many nodes aliases may add to a document.
	maxExpansion = 100_000
)

// readFile reads a file of at most MaxFileSize. Its error is a Problem.
func readFile(path string) ([]byte, *Problem) {
	refuse := func(found, allowed string) *Problem {
		return &Problem{File: path, Found: found, Allowed: allowed}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse(reason(err), "a readable file")
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	switch {
	case err != nil:
		return nil, refuse(reason(err), "a readable file")
	case len(data) > MaxFileSize:
		return nil, refuse(fmt.Sprintf("more than %d bytes", MaxFileSize), "at most 16 MiB")
	}
	return data, nil
}

// reason is an error without the path, which a Problem names already.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// parseYAML returns the root of each YAML document of a file; JSON is YAML.
// Empty documents are left out. It adds what is wrong to problems; documents
// before a syntax error are returned nevertheless, so that their problems are
// reported along with it.
func parseYAML(file string, data []byte, problems *Problems) (roots []*yaml.Node) {
	// The parser panics on some malformed input instead of returning an
	// error; such a file must not take the edge down.
	defer func() {
		if r := recover(); r != nil {
			problems.add(Problem{File: file, Found: "text that the YAML parser gave up on", Allowed: "YAML or JSON"})
		}
	}()
	reader := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := reader.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots
		}
		if err != nil {
			problems.add(syntaxProblem(file, err))
			return roots
		}
		if len(document.Content) != 1 || isNull(document.Content[0]) {
			continue
		}
		root := document.Content[0]
		if bounded(file, root, problems) {
			roots = append(roots, root)
		}
	}
}

// syntaxProblem takes the line out of the parser's message.
func syntaxProblem(file string, err error) Problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{File: file, Allowed: "YAML or JSON"}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(message); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // digits only; its largest value where it overflows
		message = message[len(m[0]):]
	}
	p.Found = "a syntax error (" + message + ")"
	return p
}

// bounded refuses a document that is nested too deeply, that has an alias to
// a node around it, or that aliases blow up.
func bounded(file string, root *yaml.Node, problems *Problems) bool {
	expansion := 0
	var walk func(n *yaml.Node, depth int, aliased bool) bool
	walk = func(n *yaml.Node, depth int, aliased bool) bool {
		refuse := func(found, allowed string) bool {
			problems.add(Problem{File: file, Line: n.Line, Column: n.Column, Found: found, Allowed: allowed})
			return false
		}
		if depth > MaxDepth {
			return refuse("mappings and lists nested too deeply, or an alias within itself", fmt.Sprintf("%d levels", MaxDepth))
		}
		if aliased {
			if expansion++; expansion > maxExpansion {
				return refuse("aliases that stand for too much", fmt.Sprintf("at most %d values by aliases", maxExpansion))
			}
		}
		if n.Kind == yaml.AliasNode {
			return walk(n.Alias, depth+1, true)
		}
		for _, child := range n.Content {
			if !walk(child, depth+1, aliased) {
				return false
			}
		}
		return true
	}
	return walk(root, 0, false)
}
