package comet

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"

	"ledgerd/consensus"
)

// report is what this member tells the others.
func (l *Loglet) report(sealed bool) report {
	return report{height: l.replica.Applied(), base: uint64(max(0, l.blocks.Base())), sealed: sealed}
}

// checkDrained looks whether every member has reported the Seal.
func (l *Loglet) checkDrained() {
	if !l.ready.Load() || !l.replica.Position().Sealed {
		return
	}
	for _, m := range l.members {
		if r, ok := l.gossip.heard(peerID(m)); !ok || !r.sealed {
			return
		}
	}
	l.drain.Do(func() { time.AfterFunc(drainGrace, func() { close(l.drained) }) })
}

// drainGrace is how long a member that has heard of all the others stays, so that they hear of it.
const drainGrace = 250 * time.Millisecond

// strandedAfter is how long a member that says it has the block which this node needs next may take to send it.
const strandedAfter = 30 * time.Second

// stranded reports whether this node cannot go on, since the others have dropped the block that comes next for it: so many say so that they cannot all lie, and no other
// has it, or sends it.
func (l *Loglet) stranded() bool {
	next := l.replica.Applied() + 1
	gone, offered := 0, false
	for _, m := range l.members {
		r, ok := l.gossip.heard(peerID(m))
		switch {
		case !ok || !l.peers.Peers().Has(peerID(m)) || r.height < next:
		case r.base > next:
			gone++
		default:
			offered = true
		}
	}
	l.mu.Lock()
	waiting := time.Since(l.mu.moved)
	l.mu.Unlock()
	return gone > len(l.seg.Spec.Members)-l.seg.Spec.Quorum() && (!offered || waiting > strandedAfter)
}

// memberAt returns the id of the member whose validator has an address.
func (l *Loglet) memberAt(address []byte) string {
	for _, m := range l.seg.Spec.Members {
		if bytes.Equal(cmted25519.PubKey(m.ConsensusKey).Address(), address) {
			return strconv.FormatUint(m.ID, 10)
		}
	}
	return fmt.Sprintf("%X", address)
}

// connected returns how many of the members this node is connected to, itself included.
func (l *Loglet) connected() int {
	n := 1
	for _, m := range l.members {
		if l.peers.Peers().Has(peerID(m)) {
			n++
		}
	}
	return n
}

// Status is consensus.Loglet.Status.
func (l *Loglet) Status() consensus.LogletStatus {
	l.mu.Lock()
	stopped := l.mu.err
	l.mu.Unlock()
	s := l.replica.Status(Name, stopped)
	s.Detail = l.detail()
	switch {
	case s.State != consensus.StateOrdering:
	case l.stranded():
		s.State = consensus.StateTrimmed
	case l.connected() < l.seg.Spec.Quorum():
		s.State = consensus.StateElecting
	}
	return s
}

func (l *Loglet) detail() map[string]string {
	round := l.consensus.GetRoundState()
	l.mu.Lock()
	queued := len(l.mu.waiting)
	l.mu.Unlock()
	pieces, last := l.app.offences.sum()
	pending, _ := l.evidence.PendingEvidence(-1)
	d := map[string]string{
		"proposer": l.memberAt(round.Validators.GetProposer().Address),
		"height":   strconv.FormatUint(l.replica.Applied(), 10), "round": strconv.Itoa(int(round.Round)),
		"quorum": strconv.Itoa(l.seg.Spec.Quorum()), "queued": strconv.Itoa(queued), "pool": strconv.Itoa(l.pool.Size()),
		"refused":  strconv.FormatUint(l.gossip.refusals(), 10),
		"evidence": strconv.FormatUint(pieces+uint64(len(pending)), 10),
	}
	if last != "" {
		d["offender"] = last
	}
	d[memberKey(l.self)] = "height " + d["height"]
	for _, m := range l.members {
		d[memberKey(m)] = "missing"
		if r, ok := l.gossip.heard(peerID(m)); ok && l.peers.Peers().Has(peerID(m)) {
			d[memberKey(m)] = fmt.Sprintf("height %d", r.height)
		}
	}
	return d
}

func memberKey(m consensus.Member) string { return "member." + strconv.FormatUint(m.ID, 10) }

// Metrics are what the engine shows of itself. A nil one shows nothing.
type Metrics struct {
	height, round, connected, pool, evidence prometheus.Gauge
}

// NewMetrics registers the engine's metrics, once for all epochs.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "ledgerd", Subsystem: "comet", Name: name, Help: help})
	}
	m := &Metrics{
		height:    gauge("height", "Height of the last block applied, in the epoch that runs."),
		round:     gauge("round", "Round at the height that is being agreed on. Above 0: a proposer is late, or votes are split."),
		connected: gauge("connected_members", "Members that this node is connected to, itself included."),
		pool:      gauge("pool_transactions", "Transactions that wait for a block."),
		evidence:  gauge("evidence", "Pieces of evidence, committed and pending, that a member has signed two things for one place."),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.height, m.round, m.connected, m.pool, m.evidence} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// observe sets the metrics from a loglet that runs.
func (m *Metrics) observe(l *Loglet) {
	if m == nil || !l.ready.Load() || l.replica.Position().Sealed {
		return
	}
	pending, _ := l.evidence.PendingEvidence(-1)
	pieces, _ := l.app.offences.sum()
	m.height.Set(float64(l.replica.Applied()))
	m.round.Set(float64(l.consensus.GetRoundState().Round))
	m.connected.Set(float64(l.connected()))
	m.pool.Set(float64(l.pool.Size()))
	m.evidence.Set(float64(pieces + uint64(len(pending))))
}
