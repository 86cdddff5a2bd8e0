package edge

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFirstRequestWaitsForTheView: who comes to an edge that has just started is
// served, though it is the snapshot of its life before that makes it so.
func TestFirstRequestWaitsForTheView(t *testing.T) {
	etcd, stopEtcd := startEtcd(t)
	p := settings(t, "az1", etcd)
	e := start(t, p)
	e.ready()
	e.instance("a", "v1")
	eventually(t, "served", e.wants("/users/1", "", "a"))
	e.stop()
	stopEtcd()

	again := start(t, p)
	if err := again.wants("/users/1", "", "a")(); err != nil {
		t.Errorf("the first request: %v", err)
	}
}

// TestNoViewInTime: an edge that has never seen the federation does not let
// clients wait for ever, and says what is missing.
func TestNoViewInTime(t *testing.T) {
	e := start(t, settings(t, "az1", "http://127.0.0.1:1"))
	status, body, _ := e.get("/users/1", "")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "no-instance") {
		t.Errorf("answered %d %s", status, body)
	}
	if log := e.log.String(); !strings.Contains(log, "without a view of the federation") || !strings.Contains(log, "etcd has not answered") {
		t.Errorf("it does not say why: %s", log)
	}
	if err := e.api.Ready(t.Context()); err == nil {
		t.Error("it says that it is ready")
	}
}

// TestStoppedBeforeTheView: an edge that ends before it has seen the federation
// lets in nobody who waits for it.
func TestStoppedBeforeTheView(t *testing.T) {
	e := start(t, settings(t, "az1", "http://127.0.0.1:1"))
	nc, err := net.Dial("tcp", e.edge.data.mainListener().Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, "GET /users/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	e.stop()
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("it was answered: %d, %v", n, err)
	}
	if log := e.log.String(); strings.Contains(log, "takes requests") {
		t.Errorf("it took requests: %s", log)
	}
}
