package gossip

import (
	"fmt"

	"github.com/grayfed/grayfed/federation"
)

// encodeMeta is what membership itself carries of an edge: what does not
// change while it lives.
func encodeMeta(name string, e *federation.Edge) []byte {
	b := newMessage(kindMeta, nameHash(name))
	b = appendOrigin(b, origin{edge: e.ID, incarnation: e.Incarnation})
	b = appendText(b, tagMetaFederation, name)
	b = appendText(b, tagMetaCluster, e.Cluster)
	b = appendText(b, tagMetaZone, e.Zone)
	b = appendText(b, tagMetaRegion, e.Region)
	b = appendText(b, tagMetaData, e.Data)
	b = appendEntry(b, &e.Entry)
	b = appendText(b, tagMetaAdmin, e.Admin)
	return appendText(b, tagMetaPeer, e.Peer)
}

// decodeMeta returns the edge that a node says it is, and its federation. The
// federation's hash is not checked, so that a foreign one can be named.
func decodeMeta(data []byte) (e federation.Edge, name string, err error) {
	if len(data) < headerLength || data[0] != schema || kind(data[1]) != kindMeta {
		return e, "", fmt.Errorf("%w: node metadata", errMalformed)
	}
	var o origin
	err = eachField(data[headerLength:], func(f field) (err error) {
		switch f.tag {
		case tagMetaFederation:
			name, err = f.text(federation.MaxNameLength)
		case tagMetaCluster:
			e.Cluster, err = f.text(federation.MaxNameLength)
		case tagMetaZone:
			e.Zone, err = f.text(federation.MaxNameLength)
		case tagMetaRegion:
			e.Region, err = f.text(federation.MaxNameLength)
		case tagMetaData:
			e.Data, err = f.text(512)
		case tagMetaAdmin:
			e.Admin, err = f.text(512)
		case tagMetaPeer:
			e.Peer, err = f.text(512)
		case tagMetaEntry:
			e.Entry, err = decodeEntry(f.value)
		default:
			err = o.read(f)
		}
		return err
	})
	if err == nil {
		err = o.check()
	}
	e.ID, e.Incarnation = o.edge, o.incarnation
	return e, name, err
}
