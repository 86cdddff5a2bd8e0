package lab

import (
	"fmt"
	"io"
	"net"
)

// port is one that a lab on loopback needs.
type port struct {
	owner, flag string
	number      int
	udp         bool
}

func (l *Lab) ports() []port {
	ports := []port{
		{"etcd", "--etcd-port", l.opts.Etcd, false},
		{"etcd's peer listener", "--etcd-peer-port", l.opts.EtcdPeer, false},
	}
	for _, z := range l.opts.Zones {
		ports = append(ports,
			port{z.Name + "'s data listener", "--data-ports", z.Data, false},
			port{z.Name + "'s admin listener", "--admin-ports", z.Admin, false},
			port{z.Name + "'s gossip", "--gossip-ports", z.Gossip, false},
			port{z.Name + "'s gossip", "--gossip-ports", z.Gossip, true},
		)
		if z.DNS != 0 {
			ports = append(ports,
				port{z.Name + "'s name server", "--dns-ports", z.DNS, false},
				port{z.Name + "'s name server", "--dns-ports", z.DNS, true},
			)
		}
	}
	return ports
}

// probe reports a port that somebody else listens on.
func probe(p port) error {
	address := loopback(p.number)
	var closer io.Closer
	var err error
	if p.udp {
		closer, err = net.ListenPacket("udp", address)
	} else {
		closer, err = net.Listen("tcp", address)
	}
	if err != nil {
		return fmt.Errorf("%s cannot have %s: %w; choose another with %s", p.owner, address, err, p.flag)
	}
	return closer.Close()
}
