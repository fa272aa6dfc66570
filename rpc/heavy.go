package rpc

import (
	"context"
	"sync"
	"time"
)

// heavyPool gives few places to the requests that may cost much. Who finds none free waits in the queue of its client, and the clients take turns: one that has
// asked for much delays the others by the request in front of theirs, and not by all of its own.
type heavyPool struct {
	places    int // how many there are
	maxQueue  int // requests that wait, of all clients
	maxClient int // of one

	mu struct {
		sync.Mutex
		taken   int
		waiting int                       // Invariant: the sum of the queues' lengths; 0 while a place is free
		queues  map[string][]*heavyTicket // by client; none is empty
		turns   []string                  // the clients that wait, the one whose turn it is first
	}
}

// heavyTicket is a request that waits.
type heavyTicket struct{ called chan struct{} } // closed when it has a place

func newHeavyPool(places, maxQueue, maxClient int) *heavyPool {
	p := &heavyPool{places: places, maxQueue: maxQueue, maxClient: maxClient}
	p.mu.queues = make(map[string][]*heavyTicket)
	return p
}

// enter waits for a place, which leave gives back. Errors: -32005 if too many wait already, or if none became free within patience; ctx's.
func (p *heavyPool) enter(ctx context.Context, client string, patience time.Duration) error {
	t, err := p.queue(client)
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
		err = limitExceeded("the node is busy: %d calls and searches are running, and no place among them became free in %v", p.places, patience)
	}
	if !p.giveUp(client, t) { // it was called meanwhile
		p.leave()
	}
	return err
}

// queue takes a place, or returns a ticket to wait with.
func (p *heavyPool) queue(client string) (*heavyTicket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.mu.queues[client]
	switch {
	case p.mu.taken < p.places:
		p.mu.taken++
		return nil, nil
	case p.mu.waiting >= p.maxQueue:
		return nil, limitExceeded("the node is busy: %d calls and searches are waiting, at most %d may", p.mu.waiting, p.maxQueue)
	case len(queue) >= p.maxClient:
		return nil, limitExceeded("too many calls and searches of one client are waiting, at most %d may", p.maxClient)
	}
	if len(queue) == 0 {
		p.mu.turns = append(p.mu.turns, client)
	}
	t := &heavyTicket{make(chan struct{})}
	p.mu.queues[client] = append(queue, t)
	p.mu.waiting++
	return t, nil
}

// leave hands a place to the request that waits longest of the client whose turn it is.
func (p *heavyPool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.waiting == 0 {
		p.mu.taken--
		return
	}
	client := p.mu.turns[0]
	p.mu.turns = p.mu.turns[1:]
	queue := p.mu.queues[client]
	close(queue[0].called)
	p.mu.waiting--
	if len(queue) == 1 {
		delete(p.mu.queues, client)
		return
	}
	p.mu.queues[client] = queue[1:]
	p.mu.turns = append(p.mu.turns, client)
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
