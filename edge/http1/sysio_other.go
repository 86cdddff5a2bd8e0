//go:build !linux

package http1

import (
	"net"
	"syscall"
)

// rawConn has no direct access to offer here; net.Conn serves instead, at
// more cost.
func rawConn(net.Conn) syscall.RawConn { return nil }

func sysRecv(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }

func sysSend(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }

func sysQuiet(uintptr) bool { return false }

func peerGone(net.Conn) bool { return false }
