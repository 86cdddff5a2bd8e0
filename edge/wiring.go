package edge

import (
	"context"
	"errors"
	"time"

	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/federation/gossip"
)

// tick is how often what ages is looked at, and what this edge says of itself
// is brought up to date.
const tick = time.Second

// edgeChanged takes the joined view of an edge from peers.
func (e *Edge) edgeChanged(edge federation.Edge, gone bool) {
	e.gateway.SetPeer(edge, gone)
	if gone {
		e.catalog.RemoveEdge(edge.ID)
	} else {
		if edge.ID == e.self.ID {
			edge.Status = federation.EdgeAlive
		}
		e.catalog.PutEdge(edge)
	}
}

// heardEdge takes news of another edge from gossip. When it was the last live
// one of its zone, requests that wait there are moved on.
func (e *Edge) heardEdge(edge federation.Edge) {
	if e.peers.hear(edge) {
		e.gateway.SetZoneLost(edge.Zone, e.peers.zoneLost(edge.Zone))
		e.edgeEvent(edge)
	}
	if e.failover != nil {
		wake(e.failover.news)
	}
}

// errNobodyFresh: etcd is away for all, as far as this edge knows.
var errNobodyFresh = errors.New("no living edge is answered by etcd")

// relayHeartbeat gives a heartbeat to the nearest edge that etcd answers.
func (e *Edge) relayHeartbeat(ctx context.Context, key federation.Key) error {
	id := e.peers.nearestFresh(&e.self)
	if id == "" {
		return errNobodyFresh
	}
	return e.gossip.RelayHeartbeat(ctx, id, key)
}

// ownEvidence takes this edge's own judgements from the health monitor.
func (e *Edge) ownEvidence(records []federation.HealthRecord) {
	e.ejectionEvents(records)
	e.catalog.ObserveHealth(time.Now(), records...)
	e.gossip.PublishHealth(records...)
}

// followCatalog carries every change of the catalog to those that decide on
// it, until ctx ends.
func (e *Edge) followCatalog(ctx context.Context) error {
	subscription := e.catalog.Subscribe()
	defer subscription.Close()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	// Announcing changes the snapshot too, by what it says of this edge: only
	// a new revision is worth a word between two ticks.
	announced := int64(-1)
	take := func() {
		snap, changed, all := subscription.Take()
		e.gateway.SetSnapshot(snap, changed, all)
		e.monitor.Update(snap, changed, all)
		if snap.Revision != announced {
			announced = snap.Revision
			e.announce(snap)
		}
	}
	whole := e.registry.Ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-subscription.C():
			take()
		case <-whole:
			whole = nil
			take()
			close(e.viewed)
		case <-e.announceNow:
			e.announce(e.catalog.Snapshot())
		case now := <-ticker.C:
			e.catalog.Expire(now)
			e.peers.expire()
			e.gossip.SetKnown(e.peers.addresses(e.self.ID))
			e.gateway.Refresh(now)
			e.announce(e.catalog.Snapshot())
		}
	}
}

// announce tells the other edges how far this one is.
func (e *Edge) announce(snap *federation.Snapshot) {
	status := e.registry.Status()
	state := gossip.State{
		Revision: snap.Revision,
		Clock:    e.clock.Now(),
		Digest:   snap.Digest.String(),
		Config:   e.configHash(),
		Lag:      status.Lag,
	}
	if e.failover != nil {
		state.Share = e.failover.share()
	}
	e.gossip.SetState(state)
	self := e.self
	self.Status = federation.EdgeAlive
	self.Revision, self.Clock, self.Digest = state.Revision, state.Clock, state.Digest
	self.Config, self.Lag, self.Share = state.Config, federation.Duration(state.Lag), state.Share
	e.peers.hear(self)
}
