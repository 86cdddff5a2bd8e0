package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// cable is a way to etcd that can be cut.
type cable struct {
	listener net.Listener
	ending   sync.WaitGroup

	mu    sync.Mutex
	ends  []net.Conn // mu
	isCut bool       // mu
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: listener}
	c.ending.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			if far, err := net.Dial("tcp", to); err != nil {
				_ = near.Close()
			} else {
				c.join(near, far)
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.cut()
		c.ending.Wait()
	})
	return c
}

func (c *cable) join(near, far net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, near, far)
	if c.isCut {
		_, _ = near.Close(), far.Close()
		return
	}
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		c.ending.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close()
		})
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, end := range c.ends {
		_ = end.Close()
	}
}

// An edge that alone has lost etcd still hears its instances and knows a
// neighbour that has it; what is drained there takes no requests any more.
func TestAnEdgeAloneWithoutEtcd(t *testing.T) {
	etcd, _ := startEtcd(t)
	way := newCable(t, strings.TrimPrefix(etcd, "http://"))
	first, second := settings(t, "az1", "http://"+way.listener.Addr().String()), settings(t, "az3", etcd)
	// Of another region, so that it adopts nothing by probing.
	second.Region = "south"
	first.Gossip.Peers, second.Gossip.Peers = []string{second.Gossip.Bind}, []string{first.Gossip.Bind}
	a, b := start(t, first), start(t, second)
	a.ready()
	b.ready()
	a.instance("heard", "v1")
	a.instance("silent", "v1")
	eventually(t, "the other edge has them", func() error {
		list, err := b.api.Instances(t.Context(), "users")
		if err == nil && len(list.Instances) != 2 {
			err = errors.New(toJSON(list))
		}
		return err
	})
	way.cut()
	heard := federation.Key{Service: "users", ID: "heard"}
	owners := func() (map[string]string, error) {
		list, err := b.api.Instances(t.Context(), "users")
		owners := make(map[string]string)
		for _, i := range list.Instances {
			owners[i.ID] = i.Owner
		}
		return owners, err
	}
	eventually(t, "a heartbeat reaches an edge that has etcd", func() error {
		if err := a.api.Heartbeat(t.Context(), heard); err != nil {
			t.Fatalf("heartbeat at the edge without etcd: %v", err)
		}
		got, err := owners()
		if err == nil && got["heard"] != "az3-edge" {
			err = fmt.Errorf("owners %v", got)
		}
		return err
	})
	if got, err := owners(); err != nil || got["silent"] != "az1-edge" {
		t.Errorf("owners %v, %v: what nobody heard of was adopted too", got, err)
	}
	for _, id := range []string{"heard", "silent"} {
		if _, err := a.api.Drain(t.Context(), federation.Key{Service: "users", ID: id}, api.WriteOptions{}); err != nil {
			t.Errorf("drain of %s: %v", id, err)
		}
	}
	eventually(t, "nothing is sent to what drains", func() error {
		if status, body, _ := a.get("/users/1", ""); status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}
