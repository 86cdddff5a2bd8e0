package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// plan lists the parts in the order in which they start. What they are told,
// equip knows.
func (l *Lab) plan() []*part {
	var parts []*part
	if l.opts.Namespaces {
		for _, z := range l.opts.Zones {
			parts = append(parts, &part{kind: etcdPart, name: z.Name + "/etcd", node: z.Name})
		}
		for _, node := range l.Nodes() {
			parts = append(parts, &part{kind: consulPart, name: node + "/consul", node: node})
		}
	} else {
		parts = append(parts, &part{kind: etcdPart, name: "etcd"})
	}
	for _, z := range l.opts.Zones {
		parts = append(parts, &part{kind: edgePart, name: z.Name + "/edge", node: z.Name})
	}
	for _, z := range l.opts.Zones {
		for _, version := range z.Versions {
			p := part{
				kind: instancePart, name: z.Name + "/" + sampleService + " " + version, node: z.Name,
				id: z.Name + "-" + version, version: version,
			}
			parts = append(parts, &p)
			for replica := 2; replica <= l.opts.Replicas; replica++ {
				another := p
				another.name, another.id = fmt.Sprintf("%s %d", p.name, replica), fmt.Sprintf("%s-%d", p.id, replica)
				parts = append(parts, &another)
			}
		}
	}
	for _, p := range parts {
		p.binary = l.program(p)
	}
	return parts
}

// program is what runs a part unless SetBinary says otherwise.
func (l *Lab) program(p *part) string {
	if p.kind == consulPart {
		return l.opts.Consul
	}
	return l.opts.Binary
}

// equip gives each part its arguments, and the settings that they name.
func (l *Lab) equip() error {
	if err := l.writeConfig(); err != nil {
		return err
	}
	for _, p := range l.parts {
		switch p.kind {
		case etcdPart:
			l.equipEtcd(p)
		case consulPart:
			if err := l.equipConsul(p); err != nil {
				return err
			}
		case edgePart:
			z, _ := l.zone(p.node)
			p.address, p.args = l.at(p.node, z.Data), []string{"edge", "-c", l.edgeFile(z), "--clock-file", l.ClockFile(z.Name)}
		case instancePart:
			l.equipInstance(p)
		}
	}
	return nil
}

// equipEtcd makes one member of each zone's in namespaces, else the only one.
func (l *Lab) equipEtcd(p *part) {
	if !l.opts.Namespaces {
		p.address = loopback(l.opts.Etcd)
		p.args = []string{
			"dev-etcd", "--data-dir", filepath.Join(l.dir, "etcd"), "--client", p.address, "--peer", loopback(l.opts.EtcdPeer),
		}
		return
	}
	var members []string
	for _, z := range l.opts.Zones {
		members = append(members, z.Name+"=http://"+l.at(z.Name, etcdPeerPort))
	}
	p.address = l.at(p.node, etcdPort)
	p.args = []string{
		"dev-etcd", "--name", p.node, "--data-dir", filepath.Join(l.dir, p.node, "etcd"),
		"--client", p.address, "--peer", l.at(p.node, etcdPeerPort), "--cluster", strings.Join(members, ","),
	}
}

// equipInstance has an instance of the sample service register with its own
// zone's edge, and move on from there.
func (l *Lab) equipInstance(p *part) {
	z, _ := l.zone(p.node)
	edges := []string{l.Edge(p.node).Admin}
	for _, other := range l.opts.Zones {
		if other.Name != p.node {
			edges = append(edges, l.Edge(other.Name).Admin)
		}
	}
	p.addressFile = filepath.Join(l.dir, p.node, p.id+".address")
	p.args = []string{
		"dev-instance", "--service", sampleService, "--zone", z.Name, "--region", z.Region, "--version", p.version,
		"--id", p.id, "--listen", l.at(p.node, 0), "--address-file", p.addressFile, "--edges", strings.Join(edges, ","),
	}
	if l.opts.Namespaces {
		p.args = append(p.args, "--token-file", l.secretFile("token"), "--ca-file", l.secretFile("ca.crt"))
	}
}
