package feed

import (
	"context"
	"fmt"
	"net/http"

	"ledgerd/rpc/feed/protocol"
)

// peer is who has clients of the feed.
type peer struct {
	open int // clients; guarded by Feed.clients
	// searching has a token for each of its searches that goes on or is about to. It has room for as many as there may be of all. So the others wait for
	// no more than that many of one peer, however many clients it has.
	searching chan struct{}
}

// enter counts a client in, until leave. It is an error if there are too many, or the feed is stopping.
func (f *Feed) enter(transport string, r *http.Request) (p *peer, leave func(), err error) {
	name, local := f.opts.Peer(r)
	f.clients.Lock()
	defer f.clients.Unlock()
	if f.clients.stopped {
		return nil, nil, protocol.Errorf(protocol.CodeOverloaded, "the node is stopping")
	}
	p = f.clients.peers[name]
	if p == nil {
		p = &peer{searching: make(chan struct{}, cap(f.searching))}
	}
	switch one := max(1, f.opts.MaxClients/2); {
	case f.clients.open >= f.opts.MaxClients:
		f.metrics.refused.WithLabelValues(string(protocol.CodeOverloaded)).Inc()
		return nil, nil, protocol.Errorf(protocol.CodeOverloaded, "too many clients of the feed, at most %d", f.opts.MaxClients)
	case !local && p.open >= one:
		f.metrics.refused.WithLabelValues(string(protocol.CodeOverloaded)).Inc()
		return nil, nil, protocol.Errorf(protocol.CodeOverloaded, "too many clients of the feed from one address, at most %d", one)
	}
	f.clients.open++
	p.open++
	f.clients.peers[name] = p
	f.clients.Add(1)
	f.metrics.clients.WithLabelValues(transport).Inc()
	return p, func() {
		f.clients.Lock()
		f.clients.open--
		if p.open--; p.open == 0 {
			delete(f.clients.peers, name)
		}
		f.clients.Unlock()
		f.metrics.clients.WithLabelValues(transport).Dec()
		f.clients.Done()
	}, nil
}

// acquire lets few search the past at a time, so that they do not take the processors from everything else, and peers take turns. What is near the head is not
// held up.
func (f *Feed) acquire(ctx context.Context, p *peer, past bool) (release func(), err error) {
	if !past {
		return func() {}, nil
	}
	for i, tokens := range []chan struct{}{p.searching, f.searching} {
		select {
		case tokens <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-p.searching
			}
			return nil, fmt.Errorf("search: %w", ctx.Err())
		}
	}
	return func() { <-f.searching; <-p.searching }, nil
}
