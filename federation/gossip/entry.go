package gossip

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/grayfed/grayfed/federation"
)

// entryRoles are the roles by number, from 1.
var entryRoles = [...]string{"primary", "standby"}

func appendEntry(b []byte, e *federation.Entry) []byte {
	role := slices.Index(entryRoles[:], e.Role) + 1
	if role == 0 {
		return b
	}
	entry := appendNumber(nil, tagEntryRole, uint64(role))
	entry = appendNumber(entry, tagEntryPort, uint64(e.Port))
	entry = appendNumber(entry, tagEntryWeight, uint64(max(e.Weight, 0)))
	if e.TLS {
		entry = appendNumber(entry, tagEntryTLS, 1)
	}
	for _, address := range e.Addresses.List() {
		entry = appendBytes(entry, tagEntryAddress, address.Unmap().AsSlice())
	}
	return appendBytes(b, tagMetaEntry, entry)
}

// decodeEntry reads an entry. One with a role of a later version is none that
// this version could treat rightly: the zero one.
func decodeEntry(body []byte) (e federation.Entry, err error) {
	var role uint64
	var addresses []netip.Addr
	err = eachField(body, func(f field) (err error) {
		var n uint64
		switch f.tag {
		case tagEntryRole:
			role, err = f.number()
		case tagEntryPort:
			if n, err = f.number(); err == nil && n > 65535 {
				err = fmt.Errorf("%w: port", errMalformed)
			}
			e.Port = uint16(n)
		case tagEntryWeight:
			if n, err = f.number(); err == nil && n > federation.MaxWeight {
				err = fmt.Errorf("%w: weight", errMalformed)
			}
			e.Weight = int(n)
		case tagEntryTLS:
			n, err = f.number()
			e.TLS = n != 0
		case tagEntryAddress:
			address, ok := netip.AddrFromSlice(f.value)
			if !ok || len(addresses) == federation.MaxAddresses {
				return fmt.Errorf("%w: address", errMalformed)
			}
			addresses = append(addresses, address.Unmap())
		}
		return err
	})
	switch {
	case err != nil:
		return federation.Entry{}, err
	case role == 0 || role > uint64(len(entryRoles)):
		return federation.Entry{}, nil
	case len(addresses) == 0 || e.Port == 0 || e.Weight == 0:
		return federation.Entry{}, fmt.Errorf("%w: entry", errMalformed)
	}
	e.Role, e.Addresses = entryRoles[role-1], federation.AddressesOf(addresses)
	return e, nil
}
