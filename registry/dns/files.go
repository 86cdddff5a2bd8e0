package dns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolvConf is what resolv.conf(5) says, with the limits and defaults of the
// standard library.
type resolvConf struct {
	servers  []netip.AddrPort
	search   []string // with a final dot
	ndots    int
	timeout  time.Duration // of one question to one server
	attempts int           // rounds over the servers
}

const maxServers = 3

// readResolvConf reads a file; one that does not exist says nothing.
func readResolvConf(path string) (*resolvConf, error) {
	c := &resolvConf{ndots: 1, timeout: 5 * time.Second, attempts: 2}
	err := eachLine(path, func(fields []string) {
		switch fields[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(fields[min(1, len(fields)-1)]); err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, netip.AddrPortFrom(addr, 53))
			}
		case "domain", "search": // the last one counts
			c.search = nil
			for _, suffix := range fields[1:] {
				if suffix = strings.TrimSuffix(suffix, "."); suffix != "" {
					c.search = append(c.search, strings.ToLower(suffix)+".")
				}
			}
		case "options":
			for _, option := range fields[1:] {
				c.option(option)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if len(c.servers) == 0 {
		c.servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	}
	return c, nil
}

func (c *resolvConf) option(text string) {
	name, value, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(value)
	if err != nil {
		return
	}
	switch name {
	case "ndots":
		c.ndots = min(max(n, 0), 15)
	case "timeout":
		c.timeout = time.Duration(min(max(n, 1), 30)) * time.Second
	case "attempts":
		c.attempts = min(max(n, 1), 5)
	}
}

// candidates are the names to try for a host, in order: a name with fewer than
// ndots dots is tried under the search list first.
func (c *resolvConf) candidates(host string) []string {
	const maxName = 254 // with the final dot
	names := make([]string, 0, len(c.search)+1)
	for _, suffix := range c.search {
		names = append(names, host+"."+suffix)
	}
	if asItIs := host + "."; strings.Count(host, ".") >= c.ndots {
		names = slices.Insert(names, 0, asItIs)
	} else {
		names = append(names, asItIs)
	}
	return slices.DeleteFunc(names, func(name string) bool { return len(name) > maxName })
}

// readHosts returns the addresses that a file in the format of hosts(5) gives
// a host, by family.
func readHosts(path, host string) (addrs [2][]netip.Addr, err error) {
	err = eachLine(path, func(fields []string) {
		if !slices.ContainsFunc(fields[1:], func(name string) bool {
			return strings.EqualFold(strings.TrimSuffix(name, "."), host)
		}) {
			return
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			return
		}
		family := ipv4
		if addr = addr.Unmap(); addr.Is6() {
			family = ipv6
		}
		addrs[family] = append(addrs[family], addr)
	})
	for family := range addrs {
		addrs[family] = sorted(addrs[family])
	}
	return addrs, err
}

// eachLine calls use with the fields of every line that has any.
func eachLine(path string, use func(fields []string)) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line, _, _ = strings.Cut(line, ";")
		if fields := strings.Fields(line); len(fields) > 0 {
			use(fields)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
