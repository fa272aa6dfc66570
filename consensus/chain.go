package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// This file performs what the Switcher decides.

// Bounds of the switching goroutine.
const (
	switchTick = 50 * time.Millisecond // how often it looks at what no event tells
	askTimeout = 2 * time.Second       // for peers to say whether a segment has ended
)

// openLast opens whatever serves the last segment of the stored chain.
func (v *VirtualLog) openLast(ctx context.Context) error {
	opts := v.opts.Switcher
	opts.Alone = v.opts.Peers == nil || v.opts.Observe == nil
	if v.opts.Self != nil {
		opts.Self = v.opts.Self.Public().(ed25519.PublicKey)
	}
	s := &v.switching
	s.switcher, s.engines, s.events = NewSwitcher(opts), map[Epoch]Loglet{}, make(chan func(*SwitchInputs), 16)
	v.announce()
	for event := func(*SwitchInputs) {}; ; {
		if err := v.live(); err != nil {
			return err
		}
		if err := v.step(ctx, event); err != nil {
			return err
		}
		if s.switcher.Running() {
			return nil
		}
		select {
		case event = <-s.events:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// switchSegments steps the Switcher until the log closes.
func (v *VirtualLog) switchSegments(ctx context.Context) {
	ticker := time.NewTicker(switchTick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		extended := v.store.Extended() // before the look at the chain, so that nothing falls between
		event := func(*SwitchInputs) {}
		if !v.behind() {
			select {
			case <-extended:
			case <-ticker.C:
			case event = <-v.switching.events:
			case <-ctx.Done():
				return
			}
		}
		if v.halted.Load() != nil {
			v.stopEngines()
			return
		}
		if err := v.step(ctx, event); err != nil && ctx.Err() == nil {
			v.logger.Error("open loglet", "err", err)
		}
	}
}

// stopEngines ends this node's part in every segment, since it must not go on, and lets go of those who wait for another one.
func (v *VirtualLog) stopEngines() {
	for epoch := range v.switching.engines {
		v.retire(epoch)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	wake(&v.mu.changed)
}

// behind reports whether the stored chain goes on behind what the Switcher has been told.
func (v *VirtualLog) behind() bool {
	v.store.mu.RLock()
	defer v.store.mu.RUnlock()
	return Epoch(len(v.store.mu.segments)) > v.switching.switcher.seg.Epoch
}

// step steps the Switcher, and performs what it asks for until it asks for nothing more. The error is of an opening that failed.
func (v *VirtualLog) step(ctx context.Context, event func(*SwitchInputs)) error {
	s := &v.switching
	in := SwitchInputs{Lost: v.watchEngine()}
	event(&in)
	for {
		segments := v.store.Segments()
		in.Now, in.Last = time.Now(), &segments[len(segments)-1]
		if p, ok := v.store.Pending(); ok {
			in.Pending = p.Epoch - 1
		}
		if in.Last.Epoch > s.switcher.seg.Epoch {
			if err := v.shelve(segments); err != nil {
				return err
			}
			v.announce()
		}
		act := s.switcher.Step(in)
		for _, epoch := range act.Close {
			v.retire(epoch)
		}
		if act.Ask != nil {
			v.ask(ctx, *act.Ask)
		}
		if act.Open == nil {
			return nil
		}
		err := v.open(ctx, *act.Open)
		in = SwitchInputs{Opened: &OpenAnswer{Epoch: act.Open.Segment.Epoch, Err: err}}
		if err != nil && !(errors.Is(err, ErrNotMember) && act.Open.Role == Orders && !s.switcher.opts.Alone) {
			in.Now = time.Now()
			s.switcher.Step(in)
			return err
		}
		if err != nil {
			v.logger.Warn("this node does not order; it observes", "segment", act.Open.Segment.Epoch, "err", err)
			v.mu.Lock()
			v.mu.denied = err
			v.mu.Unlock()
		}
	}
}

// tell hands an event to the switching goroutine, unless the log closes.
func (v *VirtualLog) tell(event func(*SwitchInputs)) {
	select {
	case v.switching.events <- event:
	case <-v.closing:
	}
}

// announce lets the environment follow the chain, and forgets what was prepared for an epoch that has begun.
func (v *VirtualLog) announce() {
	segments := v.store.Segments()
	last := segments[len(segments)-1].Epoch
	v.mu.Lock()
	kept := v.mu.prepared[:0:0]
	for _, p := range v.mu.prepared {
		if p.Epoch > last {
			kept = append(kept, p)
		}
	}
	v.mu.prepared = kept
	v.mu.Unlock()
	if v.opts.OnChain != nil {
		v.opts.OnChain(segments, kept)
	}
}

// shelve lets the stored copy serve the segments that have ended. Whatever is for the last one waits until it is open.
func (v *VirtualLog) shelve(segments []Segment) error {
	var links []link
	for _, seg := range segments[:len(segments)-1] {
		copied, err := openStored(v.store, seg)
		if err != nil {
			return err
		}
		links = append(links, link{seg, copied})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.links, v.mu.denied = links, nil
	wake(&v.mu.changed)
	return nil
}

// open opens a loglet for the last segment, or another one than that which serves it.
func (v *VirtualLog) open(ctx context.Context, o Opening) error {
	loglet, err := v.openLoglet(ctx, o)
	if err != nil {
		err = fmt.Errorf("epoch %d: %w", o.Segment.Epoch, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.problem = err; err != nil {
		return err
	}
	v.switching.engines[o.Segment.Epoch] = loglet
	if d, ok := loglet.(Drainer); ok && o.Role == Orders {
		v.wait.Go(func() { v.watchDrained(o.Segment.Epoch, d.Drained()) })
	}
	v.metrics.epoch.Set(float64(o.Segment.Epoch))
	v.metrics.orders.Set(map[Role]float64{Orders: 1}[o.Role])
	v.mu.links, v.mu.role = append(slices.Clone(v.mu.links[:o.Segment.Epoch-1]), link{o.Segment, loglet}), o.Role
	wake(&v.mu.changed)
	v.logger.Info("log segment", "segment", o.Segment.Epoch, "lsn", o.Segment.Base, "engine", o.Segment.Spec.Engine, "role", o.Role.String())
	return nil
}

func (v *VirtualLog) openLoglet(ctx context.Context, o Opening) (Loglet, error) {
	engine, name := v.opts.Observe, "observer"
	if o.Role == Orders {
		name = o.Segment.Spec.Engine
		if engine = v.opts.Engines[name]; engine == nil {
			return nil, fmt.Errorf("%w: engine %q is not known to this ledgerd", ErrInvalid, name)
		}
	}
	if engine == nil {
		return nil, fmt.Errorf("%w: it was recovered, and this node lacks entries before its end, and has no peers to take them from", ErrNotMember)
	}
	loglet, err := engine.Open(ctx, v.store, o.Segment)
	if err != nil {
		return nil, fmt.Errorf("open engine %q: %w", name, err)
	}
	return loglet, nil
}

func (v *VirtualLog) watchDrained(epoch Epoch, drained <-chan struct{}) {
	select {
	case <-drained:
		v.tell(func(in *SwitchInputs) { in.Drained = []Epoch{epoch} })
	case <-v.closing:
	}
}

// retire closes a loglet that serves nobody any more.
func (v *VirtualLog) retire(epoch Epoch) {
	loglet := v.switching.engines[epoch]
	if loglet == nil {
		panic(fmt.Sprintf("consensus: epoch %d is to be closed and is not open", epoch))
	}
	delete(v.switching.engines, epoch)
	v.wait.Go(func() {
		if err := loglet.Close(); err != nil {
			v.logger.Error("close loglet", "segment", epoch, "err", err)
		}
		v.tell(func(in *SwitchInputs) { in.Closed = epoch })
	})
}

// ask asks peers whether a segment has ended. It asks about the one before it too: if that was recovered without this node, which holds its Seal, then this
// segment is not part of the log.
func (v *VirtualLog) ask(ctx context.Context, seg Segment) {
	v.wait.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		var before sync.WaitGroup
		if seg.Epoch > 1 {
			before.Go(func() { _, _ = v.askOne(ctx, v.store.Segments()[seg.Epoch-2]) })
		}
		ended, err := v.askOne(ctx, seg)
		if err != nil {
			v.logger.Debug("nobody says whether the segment has ended", "segment", seg.Epoch, "err", err)
		}
		before.Wait()
		v.tell(func(in *SwitchInputs) { in.Ended = &EndedAnswer{Epoch: seg.Epoch, Ended: ended} })
	})
}

// askOne asks peers whether a segment has ended. If by a recovery, this node has taken it when askOne returns, or must not go on.
func (v *VirtualLog) askOne(ctx context.Context, seg Segment) (ended bool, err error) {
	end, ended, err := v.opts.Peers.SegmentEnd(ctx, seg)
	if err != nil || !ended {
		return false, err
	}
	if end.Recovery == nil {
		if _, known, err := v.store.SegmentEnd(seg.Epoch); err != nil || known {
			return true, err // it has come here meanwhile, verified
		}
		if err := v.store.continuedByEnd(end); err != nil {
			v.logger.Warn("a peer tells of an end that is not one of this node's log", "segment", seg.Epoch, "lsn", uint64(end.Seal.LSN), "err", err)
			return false, nil
		}
		return true, nil
	}
	err = v.store.Await(*end.Recovery)
	switch {
	case errors.Is(err, ErrCutOff), errors.Is(err, ErrDiverged):
		v.halt(err)
	case err != nil:
		v.logger.Warn("a peer tells of a recovery that is of no use here", "segment", seg.Epoch, "err", err)
		return false, nil
	}
	return true, nil
}

// watchEngine looks at the last segment's loglet. It reports whether that knows of nobody who orders.
func (v *VirtualLog) watchEngine() (lost bool) {
	s := &v.switching
	loglet := s.engines[s.switcher.seg.Epoch]
	if loglet == nil || !s.switcher.Running() {
		return false
	}
	if stopper, ok := loglet.(Stopper); ok {
		switch err := stopper.Stopped(); {
		case errors.Is(err, ErrDiverged) && !s.explaining:
			seg := s.switcher.seg
			s.explaining = true
			v.wait.Go(func() { v.explain(err, seg) })
		case errors.Is(err, ErrEngineFailed):
			v.halt(err)
		}
	}
	return loglet.Status().State == StateElecting
}

// explain ends the log on this node. If what contradicts its history is a recovery, that is the reason to give: there is a way back.
func (v *VirtualLog) explain(err error, seg Segment) {
	if v.opts.Peers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		_, _ = v.askOne(ctx, seg)
	}
	v.halt(err)
}

// halt ends the log on this node: what it would say from now on could be wrong, or it would say nothing.
func (v *VirtualLog) halt(err error) {
	if !v.halted.CompareAndSwap(nil, &err) {
		return
	}
	v.logger.Error("this node must not go on", "err", err)
	if v.opts.OnHalt != nil {
		v.opts.OnHalt(err)
	}
}

func (v *VirtualLog) closeLoglets() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var errs []error
	for _, l := range v.switching.engines {
		errs = append(errs, l.Close())
	}
	for _, l := range v.mu.links {
		errs = append(errs, l.loglet.Close())
	}
	return errors.Join(errs...)
}
