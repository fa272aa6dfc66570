package rpc

import (
	"sync"

	"ledgerd/consensus"
)

// engineNames knows which engine orders each epoch, so that every block can tell.
type engineNames struct {
	segments func() []consensus.Segment // nil: there are none
	mu       sync.RWMutex
	names    map[consensus.Epoch]string
}

// of returns the name of an epoch's engine; empty for an epoch that this node's log does not have. It asks the log for those that it has not heard of.
func (e *engineNames) of(epoch consensus.Epoch) string {
	e.mu.RLock()
	name, ok := e.names[epoch]
	e.mu.RUnlock()
	if ok || e.segments == nil {
		return name
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names = make(map[consensus.Epoch]string)
	for _, s := range e.segments() {
		e.names[s.Epoch] = s.Spec.Engine
	}
	return e.names[epoch]
}
