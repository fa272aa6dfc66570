package consensus

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A Room bounds the bytes of what waits in an engine, such as appends. Its methods may be called concurrently.
type Room struct {
	left    *semaphore.Weighted
	closing <-chan struct{}
}

// NewRoom returns a Room for so many bytes, of which nobody gets any more once closing is closed.
func NewRoom(bytes int, closing <-chan struct{}) *Room {
	return &Room{semaphore.NewWeighted(int64(bytes)), closing}
}

// Acquire waits for room. ErrClosed, or ctx's error, if there is none in time. Only a full Room costs more than an atomic or two.
func (r *Room) Acquire(ctx context.Context, bytes int) error {
	if r.left.TryAcquire(int64(bytes)) {
		return nil
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() {
		select {
		case <-r.closing:
			cancel()
		case <-waiting.Done():
		}
	})
	err := r.left.Acquire(waiting, int64(bytes))
	cancel()
	if err != nil && ctx.Err() == nil {
		return ErrClosed
	}
	return err
}

// Release gives room back.
func (r *Room) Release(bytes int) { r.left.Release(int64(bytes)) }
