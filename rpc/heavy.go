package rpc

import (
	"context"
	"slices"
	"sync"
	"time"
)

// heavyPool gives few places to the requests that may cost much. Who may have none now waits in the queue of its client, and the clients take turns: one that has
// asked for much delays the others by the request in front of theirs, and not by all of its own. What is long, such as a trace, may hold half of the places, and so may
// one client, so that there is always a place that comes free soon, for somebody else; where there is but one place, it is everybody's.
type heavyPool struct {
	places    int // how many there are
	half      int // that long requests, or those of one client, may hold: at least 1
	maxQueue  int // requests that wait, of all clients
	maxClient int // of one

	mu struct {
		sync.Mutex
		taken   int
		long    int            // of these, by long requests
		held    map[string]int // of these, by client; no zeros
		waiting int            // Invariant: the sum of the queues' lengths
		// Invariant: none of those that wait may have a place now.
		queues map[string][]*heavyTicket // by client; none is empty
		turns  []string                  // the clients that wait, the one whose turn it is first
	}
}

// heavyRequest is what the pool has to know of a request.
type heavyRequest struct {
	client string // "": this process, whose requests have no limit of their own
	long   bool   // it may take TraceTimeout
}

// heavyTicket is a request that waits.
type heavyTicket struct {
	heavyRequest
	called chan struct{} // closed when it has a place
}

func newHeavyPool(places, maxQueue, maxClient int) *heavyPool {
	p := &heavyPool{places: places, half: max(places/2, 1), maxQueue: maxQueue, maxClient: maxClient}
	p.mu.held = make(map[string]int)
	p.mu.queues = make(map[string][]*heavyTicket)
	return p
}

// enter waits for a place, which leave gives back. Errors: -32005 if too many wait already, or if none became free within patience; ctx's.
func (p *heavyPool) enter(ctx context.Context, r heavyRequest, patience time.Duration) error {
	t, err := p.queue(r)
	if t == nil || err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.called:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = limitExceeded("the node is busy: no place among the %d for calls and searches became free in %v; traces may have %d of them, and so may one client", p.places, patience, p.half)
	}
	if !p.giveUp(r.client, t) { // it was called meanwhile
		p.leave(r)
	}
	return err
}

// queue takes a place, or returns a ticket to wait with.
func (p *heavyPool) queue(r heavyRequest) (*heavyTicket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.mu.queues[r.client]
	switch {
	case p.mayEnter(r):
		p.take(r)
		return nil, nil
	case p.mu.waiting >= p.maxQueue:
		return nil, limitExceeded("the node is busy: %d calls and searches are waiting, at most %d may", p.mu.waiting, p.maxQueue)
	case len(queue) >= p.maxClient:
		return nil, limitExceeded("too many calls and searches of one client are waiting, at most %d may", p.maxClient)
	}
	if len(queue) == 0 {
		p.mu.turns = append(p.mu.turns, r.client)
	}
	t := &heavyTicket{r, make(chan struct{})}
	p.mu.queues[r.client] = append(queue, t)
	p.mu.waiting++
	return t, nil
}

// mayEnter says whether a request may have a place now. p.mu is held, as for take and call.
func (p *heavyPool) mayEnter(r heavyRequest) bool {
	return p.mu.taken < p.places && (!r.long || p.mu.long < p.half) && (r.client == "" || p.mu.held[r.client] < p.half)
}

func (p *heavyPool) take(r heavyRequest) {
	p.mu.taken++
	p.mu.held[r.client]++
	if r.long {
		p.mu.long++
	}
}

// leave gives a place back, and hands out what may be had now: two places, if one was kept free for what is short and another one for the other clients.
func (p *heavyPool) leave(r heavyRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.taken--
	if p.mu.held[r.client]--; p.mu.held[r.client] == 0 {
		delete(p.mu.held, r.client)
	}
	if r.long {
		p.mu.long--
	}
	for p.call() {
	}
}

// call hands a place to the request that waits longest, of those that may have one, of the client whose turn it is. It is false if there is none.
func (p *heavyPool) call() bool {
	for turn, client := range p.mu.turns {
		queue := p.mu.queues[client]
		i := slices.IndexFunc(queue, func(t *heavyTicket) bool { return p.mayEnter(t.heavyRequest) })
		if i < 0 {
			continue
		}
		p.take(queue[i].heavyRequest)
		close(queue[i].called)
		p.mu.waiting--
		p.mu.turns = slices.Delete(p.mu.turns, turn, turn+1)
		if len(queue) == 1 {
			delete(p.mu.queues, client)
			return true
		}
		p.mu.queues[client] = slices.Delete(queue, i, i+1)
		p.mu.turns = append(p.mu.turns, client)
		return true
	}
	return false
}

// giveUp takes a ticket back. It is false if the ticket has been called.
func (p *heavyPool) giveUp(client string, t *heavyTicket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.mu.queues[client]
	for i := range queue {
		if queue[i] != t {
			continue
		}
		p.mu.waiting--
		if len(queue) > 1 {
			p.mu.queues[client] = append(queue[:i:i], queue[i+1:]...)
			return true
		}
		delete(p.mu.queues, client)
		for j, c := range p.mu.turns {
			if c == client {
				p.mu.turns = append(p.mu.turns[:j:j], p.mu.turns[j+1:]...)
				break
			}
		}
		return true
	}
	return false
}

// state returns how many places are taken, and how many requests wait for one.
func (p *heavyPool) state() (taken, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.taken, p.mu.waiting
}
