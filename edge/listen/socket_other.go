//go:build !linux

package listen

import "net"

// newSocket has nothing better to offer here.
func newSocket(conn net.Conn) net.Conn { return conn }
