package consul

import (
	"os"
	"path/filepath"
	"testing"
)

// deployed is where the files for real deployments are.
const deployed = "../../deploy/consul"

// policy returns the rules of deploy/consul.
func policy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
