package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// rule is one of a router's routing rules: packets of a flow go by a table, or
// nowhere when that is 0.
type rule struct {
	flow
	input    string // the device that they come from; "" is any
	table    uint32
	priority uint32
}

// rules changes the routing rules of a namespace. It speaks to the kernel
// itself: a partition is several changes, and a process for each would draw it
// out over a quarter of a second.
type rules struct {
	mu       sync.Mutex
	socket   int    // mu; -1 once it is closed
	sequence uint32 // mu
}

// answerTimeout bounds the kernel's answer.
const answerTimeout = 5 // seconds

// openRules opens the rules of the calling thread's namespace.
func openRules() (*rules, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open routing rules: %w", err)
	}
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout}); err != nil {
		return nil, errors.Join(fmt.Errorf("open routing rules: %w", err), unix.Close(socket))
	}
	return &rules{socket: socket}, nil
}

func (r *rules) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := unix.Close(r.socket)
	r.socket = -1
	return err
}

// set adds a rule, or deletes it. Adding what is there and deleting what is not
// are errors.
func (r *rules) set(on bool, what rule) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind, flags := uint16(unix.RTM_DELRULE), uint16(unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if on {
		kind, flags = unix.RTM_NEWRULE, flags|unix.NLM_F_CREATE|unix.NLM_F_EXCL
	}
	r.sequence++
	message := what.encode(kind, flags, r.sequence)
	if err := unix.Sendto(r.socket, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("change a routing rule: %w", err)
	}
	answer := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(r.socket, answer, 0)
		if err != nil {
			return fmt.Errorf("change a routing rule: %w", err)
		}
		sequence, code, ok := acknowledged(answer[:n])
		switch {
		case !ok || sequence != r.sequence: // a late answer to one that was given up
		case code != 0:
			return fmt.Errorf("change a routing rule: %w", unix.Errno(code))
		default:
			return nil
		}
	}
}

// encode is the message of rtnetlink(7), by the kernel's fib_rules.h.
func (w *rule) encode(kind, flags uint16, sequence uint32) []byte {
	native := binary.NativeEndian
	action := byte(unix.FR_ACT_TO_TBL)
	if w.table == 0 {
		action = unix.FR_ACT_BLACKHOLE
	}
	message := make([]byte, unix.SizeofNlMsghdr, 128)
	native.PutUint16(message[4:], kind)
	native.PutUint16(message[6:], flags)
	native.PutUint32(message[8:], sequence)
	// Family, lengths of the two prefixes, service, table, two reserved bytes,
	// action, flags.
	message = append(message, unix.AF_INET, 32, 32, 0, 0, 0, 0, action, 0, 0, 0, 0)
	attribute := func(kind uint16, value []byte) {
		const head = unix.SizeofRtAttr
		message = native.AppendUint16(message, uint16(head+len(value)))
		message = native.AppendUint16(message, kind)
		message = append(message, value...)
		for len(message)%unix.NLMSG_ALIGNTO != 0 {
			message = append(message, 0)
		}
	}
	attribute(unix.FRA_SRC, w.from.AsSlice())
	attribute(unix.FRA_DST, w.to.AsSlice())
	attribute(unix.FRA_PRIORITY, native.AppendUint32(nil, w.priority))
	if w.table != 0 {
		attribute(unix.FRA_TABLE, native.AppendUint32(nil, w.table))
	}
	if w.input != "" {
		attribute(unix.FRA_IIFNAME, append([]byte(w.input), 0))
	}
	native.PutUint32(message, uint32(len(message)))
	return message
}

// acknowledged reads the kernel's answer to a message: its number, and the
// error, 0 for none.
func acknowledged(answer []byte) (sequence uint32, code int32, ok bool) {
	native := binary.NativeEndian
	if len(answer) < unix.SizeofNlMsghdr+4 || native.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return 0, 0, false
	}
	return native.Uint32(answer[8:]), -int32(native.Uint32(answer[unix.SizeofNlMsghdr:])), true
}
