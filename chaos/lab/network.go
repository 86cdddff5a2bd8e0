package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/grayfed/grayfed/chaos/guard"
)

const (
	// namespaceFolder is where ip(8) keeps namespaces by name.
	namespaceFolder = "/run/netns"
	// router is the node that all others are connected by.
	router = "router"
	// clientNode is the caller's own namespace.
	clientNode = "client"
	// slotNodes is how many nodes the addresses of a slot have room for, the
	// client included.
	slotNodes = 16
)

// ErrNoNetwork is returned for faults of the network by a lab that has none of
// its own: one on loopback.
var ErrNoNetwork = errors.New("this lab runs on loopback: there is no network between its zones")

// network is the nodes of a lab, each a network namespace, joined by a router.
// Node number n of slot s has the address 10.77.(16s+n).2, the router's end of
// its link is 10.77.(16s+n).1; the client is number 0.
type network struct {
	slot  *slot
	nodes []string // the client first
	relay *relay
	rules *rules // of the router

	mu    sync.Mutex
	links map[pair]link // mu; what is wrong, from one node to another
}

// checkNamespaces says what a machine lacks.
func checkNamespaces() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab in network namespaces needs root: run it as root, or without namespaces")
	}
	for program, pack := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("a lab in network namespaces needs the program %s: install the package %s", program, pack)
		}
	}
	if _, err := os.Stat(tunDevice); err != nil {
		return fmt.Errorf("a lab in network namespaces needs a TUN device for slow links: %w", err)
	}
	return nil
}

// newNetwork makes the namespaces and what joins them.
func newNetwork(ctx context.Context, s *slot, nodes []string) (n *network, err error) {
	n = &network{slot: s, nodes: append([]string{clientNode}, nodes...), links: make(map[pair]link)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	routerNamespace := s.namespace(router)
	own := []string{"netns add " + routerNamespace}
	routing := []string{"link set lo up"}
	for number, node := range n.nodes {
		// Packets come back to the router from the relay's device: their
		// sender is not behind it, which is no offence here.
		routing = append(routing, "address add "+n.gateway(number)+"/30 dev "+node, "link set "+node+" up")
		if node == clientNode {
			own = append(own, "link add name client netns "+routerNamespace+" type veth peer name "+s.link(),
				"address add "+n.address(node)+"/30 dev "+s.link(), "link set "+s.link()+" up",
				"route add "+n.all()+" via "+n.gateway(number))
			continue
		}
		own = append(own, "netns add "+s.namespace(node),
			"link add name "+node+" netns "+routerNamespace+" type veth peer name eth0 netns "+s.namespace(node))
	}
	if err := ip(ctx, "", own...); err != nil {
		return n, fmt.Errorf("make network namespaces: %w", err)
	}
	if err := ip(ctx, routerNamespace, routing...); err != nil {
		return n, fmt.Errorf("set up the router: %w", err)
	}
	err = n.within(router, func() (err error) {
		if n.rules, err = openRules(); err == nil {
			err = routeAll()
		}
		return err
	})
	if err != nil {
		return n, err
	}
	for number, node := range n.nodes[1:] {
		err := ip(ctx, s.namespace(node), "link set lo up", "address add "+n.address(node)+"/30 dev eth0",
			"link set eth0 up", "route add default via "+n.gateway(number+1))
		if err != nil {
			return n, fmt.Errorf("set up %s: %w", node, err)
		}
	}
	if n.relay, err = n.openRelay(ctx); err != nil {
		return n, err
	}
	return n, n.filter()
}

// routeAll has the calling thread's namespace pass packets on.
func routeAll() error {
	for name, value := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "0", "conf/all/send_redirects": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set up the router: %w", err)
		}
	}
	return nil
}

// number is that of a node, and -1 where there is no such node.
func (n *network) number(node string) int { return slices.Index(n.nodes, node) }

// subnetOf is the third byte of the addresses of node number of a slot.
func subnetOf(slot, number int) int { return slot*slotNodes + number }

func hostOf(slot, number int) string { return fmt.Sprintf("10.77.%d.2", subnetOf(slot, number)) }

func (n *network) address(node string) string { return hostOf(n.slot.number, n.number(node)) }

func (n *network) gateway(number int) string {
	return fmt.Sprintf("10.77.%d.1", subnetOf(n.slot.number, number))
}

func (n *network) all() string { return fmt.Sprintf("10.77.%d.0/20", subnetOf(n.slot.number, 0)) }

func (n *network) namespace(node string) string { return n.slot.namespace(node) }

// close removes all that newNetwork made. It does not give the slot up.
func (n *network) close() error {
	var err error
	if n.relay != nil {
		err = n.relay.close()
	}
	if n.rules != nil {
		err = errors.Join(err, n.rules.close())
	}
	_, swept := n.slot.sweep(context.Background())
	return errors.Join(err, swept)
}

// within runs do on a thread in the node's namespace. A socket or a file that
// it opens there stays there.
func (n *network) within(node string, do func() error) error {
	if node == clientNode {
		return do()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := visit(n.namespace(node), do)
		if !errors.Is(err, errAway) {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine, and nothing else runs on it
		done <- err
	}()
	return <-done
}

// dial connects from within a node, whatever is wrong between the nodes.
func (n *network) dial(ctx context.Context, node, address string) (conn net.Conn, err error) {
	err = n.within(node, func() error {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// errAway: a thread did not get back into its own namespace.
var errAway = errors.New("return from a namespace")

// visit runs do in a namespace, on the calling thread, which must be locked. It
// comes back: a main thread that stayed would show its namespace as that of the
// whole process (/proc/self/net), and keep it alive.
func visit(namespace string, do func() error) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("enter namespace %s: %w", namespace, err)
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open(namespaceFolder + "/" + namespace)
	if err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", namespace, err)
	}
	err = guard.Do(do)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		err = errors.Join(err, fmt.Errorf("%w %s: %w", errAway, namespace, back))
	}
	return err
}

// ip runs commands of ip(8) in a namespace; "" is the caller's own.
func ip(ctx context.Context, namespace string, commands ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-netns", namespace}, args...)
	}
	return feed(exec.CommandContext(ctx, "ip", args...), strings.Join(commands, "\n"))
}

// feed runs a command on a text and returns an error in the command's words.
func feed(command *exec.Cmd, text string) error {
	var said bytes.Buffer
	command.Stdin, command.Stderr = strings.NewReader(text), &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", command.Args[0], err, oneLine(said.String()))
	}
	return nil
}
