package chaos

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sshStandIn notes whom it is to reach with which arguments, and sees that it
// gets a script. 192.0.2.12 cannot be reached, and what 192.0.2.21 runs fails.
const sshStandIn = `#!/bin/sh
set -eu
while [ "$1" = -o ]; do shift 2; done
sh -n
echo "$*" >>"$CALLS"
case $1 in
root@192.0.2.12) echo "ssh: connect to host: No route to host" >&2; exit 255 ;;
root@192.0.2.21) echo "not serving" >&2; exit 1 ;;
esac
`

// TestBySSH: which machines the example's commands log in to, and what they say
// when that fails. What they do there takes machines with systemd.
func TestBySSH(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../deploy/drills")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(sshStandIn), 0o700); err != nil {
		t.Fatal(err)
	}
	const edge = "grayfed-edge http://127.0.0.1:9181/readyz "
	for _, c := range []struct {
		name        string
		what, fault string // the environment, in words
		calls       []string
		says        string
		code        int
	}{
		{name: "one edge", what: "break", fault: "KIND=kill PARTS=az3/edge",
			calls: []string{"198.51.100.13 sh -s break kill " + edge + "198.51.100.13,198.51.100.21,client"}},
		{name: "a pattern", what: "mend", fault: "KIND=subset-crash PARTS=az2/user-service?v2-beta*",
			calls: []string{"192.0.2.24 sh -s mend kill user-service-beta - 192.0.2.12,192.0.2.23,192.0.2.24,client"}},
		{name: "all of Consul but one", what: "break", fault: "KIND=consul-gone", code: 1,
			calls: []string{
				"192.0.2.11 sh -s break kill consul - 192.0.2.11,192.0.2.21,192.0.2.22,client",
				"192.0.2.12 sh -s break kill consul - 192.0.2.12,192.0.2.23,192.0.2.24,client",
				"198.51.100.13 sh -s break kill consul - 198.51.100.13,198.51.100.21,client",
				"203.0.113.14 sh -s break kill consul - 203.0.113.14,client", "203.0.113.15 sh -s break kill consul - 203.0.113.15,client",
			},
			says: "az2/consul at 192.0.2.12: ssh: connect to host: No route to host\n"},
		{name: "a zone, its clients too", what: "break", fault: "KIND=partition FROM=az3 CLIENT=1",
			calls: []string{
				"198.51.100.13 sh -s break partition grayfed-edge - 198.51.100.13,198.51.100.21",
				"198.51.100.21 sh -s break partition user-service - 198.51.100.13,198.51.100.21",
			}},
		{name: "does not come back", what: "mend", fault: "KIND=kill PARTS=az1/user-service?v1", code: 1,
			calls: []string{"192.0.2.21 sh -s mend kill user-service - 192.0.2.11,192.0.2.21,192.0.2.22,client"},
			says:  "az1/user-service v1 at 192.0.2.21: not serving\n"},
		{name: "nobody knows", what: "mend", fault: "KIND=freeze PARTS=az2/edge", code: 1,
			calls: []string{"192.0.2.12 sh -s mend freeze " + edge + "192.0.2.12,192.0.2.23,192.0.2.24,client"},
			says: "az2/edge at 192.0.2.12: ssh: connect to host: No route to host\n" +
				"az2/edge at 192.0.2.12: no answer: what is broken there mends itself 15 minutes after it was broken\n"},
		{name: "no such part", what: "break", fault: "KIND=kill PARTS=az9/edge", code: 1, says: "nothing was broken: the file machines has no az9/edge\n"},
		{name: "no such part to mend", what: "mend", fault: "KIND=kill PARTS=az9/edge"},
		{name: "one of two", what: "break", fault: "KIND=partition FROM=az1\naz9", code: 1, says: "nothing was broken: the file machines has no az9/*\n"},
		{name: "a fault it does not do", what: "break", fault: "KIND=loss FROM=az1", code: 1, says: "nothing was broken: by-ssh.sh does not do a fault loss\n"},
		{name: "a fault it did not do", what: "mend", fault: "KIND=loss FROM=az1"},
		{name: "no fault", what: "break", code: 2, says: "usage: by-ssh.sh break|mend, with the fault in GRAYFED_FAULT_KIND and so on\n"},
		{name: "no word", what: "repair", fault: "KIND=kill PARTS=az1/edge", code: 2, says: "usage: by-ssh.sh break|mend, with the fault in GRAYFED_FAULT_KIND and so on\n"},
	} {
		calls := filepath.Join(t.TempDir(), "calls")
		command := exec.Command(filepath.Join(dir, "by-ssh.sh"), c.what)
		command.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "CALLS=" + calls}
		for assignment := range strings.SplitSeq(c.fault, " ") {
			if assignment != "" {
				command.Env = append(command.Env, "GRAYFED_FAULT_"+assignment)
			}
		}
		var said bytes.Buffer
		command.Stdout, command.Stderr = &said, &said
		_ = command.Run() // the exit code says it
		if code := command.ProcessState.ExitCode(); code != c.code || said.String() != c.says {
			t.Errorf("%s: it ends with %d and says\n%s\nwant %d and\n%s", c.name, code, said.String(), c.code, c.says)
		}
		text, err := os.ReadFile(calls)
		if err != nil && len(c.calls) > 0 {
			t.Error(err)
		}
		found := strings.Fields(strings.ReplaceAll(string(text), " ", "_"))
		for i := range found {
			found[i] = strings.TrimPrefix(strings.ReplaceAll(found[i], "_", " "), "root@")
		}
		slices.Sort(found)
		if !slices.Equal(found, c.calls) {
			t.Errorf("%s: it logs in to\n%s\nwant\n%s", c.name, strings.Join(found, "\n"), strings.Join(c.calls, "\n"))
		}
	}
}
