package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// Peers are the other nodes one by one, as a reconfiguration and an observer need them, who must know who said what. A LogClient is for whom any answer will
// do. Its methods may be called concurrently, and end with an ErrNotServing that is an ErrClosed too when the Node is closed.
type Peers struct {
	client *LogClient
	known  func() []consensus.Member
}

// Peers returns the other nodes. Known are those who may be asked beside the members that a call names: members of later segments than the one it is about,
// and those of the configuration (View.Bootstrap). The function may be called concurrently, and does not block.
func (n *Node) Peers(known func() []consensus.Member) *Peers {
	return &Peers{client: n.LogClient(known), known: known}
}

// maxAsked is how many nodes are asked at a time.
const maxAsked = 16

// endGrace is how long the others are waited for when one has told of an end. A recovery that one of them knows is the administrators' last word, whatever members
// that were not fenced have sealed meanwhile.
const endGrace = 250 * time.Millisecond

// SegmentEnd asks the members of a segment, and whoever else is known, all at once, whether the segment has ended. Of the ends that satisfy Options.VerifyEnd, and come
// within endGrace of the first, a recovery is believed before a Seal, of two the one with the higher count, and of two Seals the first. ok is false if nobody who
// answered knows of one; the answers that are there when ctx ends count. It is an error, an ErrNotServing, if nobody answered.
func (p *Peers) SegmentEnd(ctx context.Context, seg consensus.Segment) (end consensus.SegmentEnd, ok bool, err error) {
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var mu sync.Mutex
	answers := 0
	var grace *time.Timer
	defer func() {
		if grace != nil {
			grace.Stop()
		}
	}()
	errs := p.client.askAll(asking, p.among(seg.Spec.Members), func(ctx context.Context, _ consensus.Member, log peerpbconnect.LogClient) error {
		resp, err := log.SegmentEnd(ctx, connect.NewRequest(&peerpb.SegmentEndRequest{Epoch: uint64(seg.Epoch)}))
		if err != nil {
			return err
		}
		var told consensus.SegmentEnd
		if resp.Msg.GetEnded() {
			if told, err = consensus.DecodeSegmentEnd(resp.Msg.GetEnd()); err == nil {
				err = p.client.node.opts.VerifyEnd(seg, told)
			}
			if err != nil {
				return nonsense(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		answers++
		if resp.Msg.GetEnded() {
			if !ok {
				grace = time.AfterFunc(endGrace, enough)
			}
			if !ok || told.Overrides(end) {
				end, ok = told, true
			}
		}
		return nil
	})
	if answers == 0 {
		return consensus.SegmentEnd{}, false, fmt.Errorf("end of epoch %d: %w", seg.Epoch, errors.Join(append(errs, ctx.Err())...))
	}
	return end, ok, nil
}

// Attest asks one node for a proof of the log up to an LSN (consensus.Attester), which is for the caller to verify.
func (p *Peers) Attest(ctx context.Context, m consensus.Member, lsn consensus.LSN) (proof []byte, err error) {
	if err = p.other(m); err == nil {
		err = p.client.attempt(ctx, m, p.client.node.opts.CallTimeout, func(ctx context.Context, log peerpbconnect.LogClient) error {
			resp, err := log.Attest(ctx, connect.NewRequest(&peerpb.AttestRequest{Lsn: uint64(lsn)}))
			if err == nil {
				proof = resp.Msg.GetProof()
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("proof of lsn %d: %w", lsn, err)
	}
	return proof, nil
}

// Prepare asks a member of the next segment to get ready, and returns what it states, which is about p and signed with the member's node key. It takes as
// long as the member does: ctx bounds it. An error of the member's satisfies errors.Is for the sentinels of package consensus, and says something of its log,
// not of this node's.
func (p *Peers) Prepare(ctx context.Context, m consensus.Member, prepare consensus.Prepare) (ready consensus.Ready, err error) {
	if err := p.other(m); err != nil {
		return ready, fmt.Errorf("prepare epoch %d: %w", prepare.Request.Epoch, err)
	}
	err = p.client.attempt(ctx, m, 0, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Prepare(ctx, connect.NewRequest(&peerpb.PrepareRequest{Prepare: prepare.Encode()}))
		if err != nil {
			return err
		}
		ready, err = consensus.DecodeReady(resp.Msg.GetReady())
		switch {
		case err != nil:
			return nonsense(err)
		case !bytes.Equal(ready.Key, m.NodeKey) || ready.At != prepare.At || !ready.Verify(prepare.Request.Hash()):
			return nonsense(fmt.Errorf("statement of %x about lsn %d, asked for %d, that is not this request's or not signed", ready.Key, ready.At, prepare.At))
		}
		return nil
	})
	if err != nil {
		return consensus.Ready{}, fmt.Errorf("prepare epoch %d: %w", prepare.Request.Epoch, err)
	}
	return ready, nil
}

// Status returns the state of one node's log.
func (p *Peers) Status(ctx context.Context, m consensus.Member) (consensus.Status, error) {
	if err := p.other(m); err != nil {
		return consensus.Status{}, fmt.Errorf("status of peer: %w", err)
	}
	status, err := p.client.statusOf(ctx, []consensus.Member{m})
	if err != nil {
		return consensus.Status{}, fmt.Errorf("status of peer: %w", err)
	}
	return status, nil
}

// Follow calls take with the log of one node from an LSN on, chunk by chunk, until take returns an error, which is returned as it is, or the node fails or
// ctx ends. The entries are dense, and begin where they were asked to; their digests are for take to verify. ErrTrimmed if the node has them no more.
func (p *Peers) Follow(ctx context.Context, m consensus.Member, from consensus.LSN, take func([]consensus.Entry) error) error {
	err := p.other(m)
	if err == nil {
		var taken error
		next := from
		err = p.client.followOne(ctx, m, &next, func(entries []consensus.Entry) bool {
			taken = take(entries)
			return taken == nil
		})
		if taken != nil {
			return taken
		}
	}
	return fmt.Errorf("follow peer from lsn %d: %w", from, err)
}

// Append lets one of the members order r: LogClient.Append, among them alone.
func (p *Peers) Append(ctx context.Context, among []consensus.Member, r consensus.Record) (consensus.LSN, error) {
	return p.only(among).Append(ctx, r)
}

// Tail asks one of the members: LogClient.Tail, among them alone.
func (p *Peers) Tail(ctx context.Context, among []consensus.Member, c consensus.Consistency) (consensus.LSN, error) {
	return p.only(among).Tail(ctx, c)
}

// only returns a client of these members, which remembers with the others who answered last.
func (p *Peers) only(members []consensus.Member) *LogClient {
	return &LogClient{node: p.client.node, members: func() []consensus.Member { return members }, last: p.client.last}
}

// Known returns the members, and whoever else is known: each node once, and not this one.
func (p *Peers) Known(members []consensus.Member) []consensus.Member { return p.among(members) }

func (p *Peers) among(members []consensus.Member) []consensus.Member {
	var all []consensus.Member
	seen := map[publicKey]bool{p.client.node.key: true}
	for _, some := range [][]consensus.Member{members, p.known()} {
		for _, m := range some {
			if key, ok := keyOf(m.NodeKey); ok && !seen[key] {
				seen[key] = true
				all = append(all, m)
			}
		}
	}
	return all
}

// other returns an ErrInvalid for a member that cannot be asked, since it has no key or is this node.
func (p *Peers) other(m consensus.Member) error {
	if key, ok := keyOf(m.NodeKey); !ok || key == p.client.node.key {
		return fmt.Errorf("%w: member %d is this node, or none that can be asked", consensus.ErrInvalid, m.ID)
	}
	return nil
}

// askAll makes a call at every one of the members, several at a time, and returns the errors when the last has ended; at least one if there are no members.
func (c *LogClient) askAll(ctx context.Context, members []consensus.Member, call func(context.Context, consensus.Member, peerpbconnect.LogClient) error) []error {
	if len(members) == 0 {
		return []error{fmt.Errorf("%w: nobody to ask", ErrNotServing)}
	}
	var mu sync.Mutex
	var errs []error
	var asking errgroup.Group
	asking.SetLimit(maxAsked)
	for _, m := range members {
		asking.Go(func() error {
			err := c.attempt(ctx, m, c.node.opts.CallTimeout, func(ctx context.Context, log peerpbconnect.LogClient) error {
				return call(ctx, m, log)
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, asNotServing(err))
			}
			return nil
		})
	}
	_ = asking.Wait() // the errors are in errs, all of them
	return errs
}
