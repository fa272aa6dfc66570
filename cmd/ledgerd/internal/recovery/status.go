package recovery

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

const statusFormat = "ledgerd recovery status 1"

// nearDigests is how many of the last entries a status gives the digests of.
const nearDigests = 128

// A Status is what a node holds of the log.
type Status struct {
	Format    string              `json:"format"`
	Network   consensus.NetworkID `json:"network"`
	NodeKey   genesis.HexKey      `json:"nodeKey"`
	Tail      consensus.LSN       `json:"tail"` // the first LSN that it does not hold
	Digest    consensus.Digest    `json:"digest"`
	UnixMilli uint64              `json:"unixMilli"`
	Trimmed   consensus.LSN       `json:"trimmed"`
	Vouched   bool                `json:"vouched"` // the disk may vote in the next epoch
	Segments  []Segment           `json:"segments"`
	Pending   string              `json:"pending,omitempty"` // a signed recovery whose base it has not come to, in hexadecimal
	Digests   []At                `json:"digests"`           // by ascending LSN
	Unapplied *Unapplied          `json:"unapplied,omitempty"`
}

// Unapplied is how the log of a member would go on, were all applied that its engine has promised and not applied. Some of it may have been acknowledged: by the
// members that are lost, and this one.
type Unapplied struct {
	Tail      consensus.LSN    `json:"tail"`
	Digest    consensus.Digest `json:"digest"`
	UnixMilli uint64           `json:"unixMilli"`
	Term      uint64           `json:"term"` // of the last entry of raft's log, and its index: who has more by these has all that could have been acknowledged
	Index     uint64           `json:"index"`
	Digests   []At             `json:"digests"`
}

// A Segment is one of the chain. What counts of it are the bytes.
type Segment struct {
	Epoch    consensus.Epoch `json:"epoch"`
	Base     consensus.LSN   `json:"base"`
	Engine   string          `json:"engine"`
	Members  []uint64        `json:"members"`
	Recovery uint64          `json:"recovery,omitempty"`
	Bytes    string          `json:"bytes"`
}

// At is the digest of the log up to an LSN.
type At struct {
	LSN    consensus.LSN    `json:"lsn"`
	Digest consensus.Digest `json:"digest"`
}

// ReadStatus looks at a store. at are LSNs whose digests are wanted beside those that are given anyway.
func ReadStatus(store *consensus.Store, node ed25519.PublicKey, at ...consensus.LSN) (Status, error) {
	chain := store.Segments()
	last := chain[len(chain)-1]
	replica, err := store.Replica(last.Epoch)
	if err != nil {
		return Status{}, err
	}
	defer replica.Close()
	p := replica.Position()
	s := Status{
		Format: statusFormat, Network: last.Network, NodeKey: genesis.HexKey(node), Tail: p.Next, Digest: p.Digest, UnixMilli: p.UnixMilli, Trimmed: store.Trimmed(),
	}
	if s.Vouched, err = store.Vouched(last.Epoch + 1); err != nil {
		return Status{}, err
	}
	for _, seg := range chain {
		form := Segment{Epoch: seg.Epoch, Base: seg.Base, Engine: seg.Spec.Engine, Recovery: seg.Recovery, Bytes: hex.EncodeToString(seg.Encode())}
		for _, m := range seg.Spec.Members {
			form.Members = append(form.Members, m.ID)
		}
		s.Segments = append(s.Segments, form)
	}
	if r, ok := store.Pending(); ok {
		s.Pending = hex.EncodeToString(r.Encode())
	}
	for _, lsn := range samples(p.Next, at) {
		digest, err := store.DigestAt(lsn)
		switch {
		case err == nil:
			s.Digests = append(s.Digests, At{lsn, digest})
		case !errors.Is(err, consensus.ErrTrimmed):
			return Status{}, err
		}
	}
	return s, nil
}

// GoOn notes what verdicts on the items that are not applied say, and where raft's log ends. What lies behind a Seal among them is left: whether the segment was sealed
// there, the next one's members know.
func (s *Status) GoOn(verdicts []consensus.Verdict, term, index uint64) {
	u := &Unapplied{Tail: s.Tail, Digest: s.Digest, UnixMilli: s.UnixMilli, Term: term, Index: index}
	for _, v := range verdicts {
		if v.Next != nil {
			break
		}
		if v.Kind == consensus.Data {
			u.Tail, u.Digest, u.UnixMilli = v.LSN+1, v.Entry.Digest, v.Entry.UnixMilli
			u.Digests = append(u.Digests, At{v.LSN, v.Entry.Digest})
		}
	}
	if u.Tail > s.Tail {
		s.Unapplied = u
	}
}

// digestAt returns the digest up to an LSN, if the status has it.
func (s Status) digestAt(lsn consensus.LSN) (consensus.Digest, bool) {
	for _, list := range [][]At{s.Digests, s.unapplied()} {
		if i := slices.IndexFunc(list, func(a At) bool { return a.LSN == lsn }); i >= 0 {
			return list[i].Digest, true
		}
	}
	return consensus.Digest{}, false
}

func (s Status) unapplied() []At {
	if s.Unapplied == nil {
		return nil
	}
	return s.Unapplied.Digests
}

// samples returns the LSNs below a tail whose digests are given, ascending: the last ones, and before them multiples of growing powers of two, which logs of
// different lengths have in common.
func samples(tail consensus.LSN, more []consensus.LSN) (all []consensus.LSN) {
	for n := consensus.LSN(1); n <= nearDigests && n < tail; n++ {
		all = append(all, tail-n)
	}
	for step := consensus.LSN(1); step < tail; step *= 2 {
		if lsn := (tail - 1) / step * step; lsn > 0 {
			all = append(all, lsn)
		}
		if lsn := (tail-1)/step*step - step; lsn > 0 && lsn < tail {
			all = append(all, lsn)
		}
	}
	for _, lsn := range more {
		if lsn > 0 && lsn < tail {
			all = append(all, lsn)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// DecodeStatus reads a status file.
func DecodeStatus(text []byte) (Status, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var s Status
	if err := d.Decode(&s); err != nil {
		return Status{}, err
	}
	if s.Format != statusFormat {
		return Status{}, fmt.Errorf("not a %q", statusFormat)
	}
	if len(s.Segments) == 0 || len(s.NodeKey) == 0 {
		return Status{}, errors.New("it names no segment, or no node")
	}
	return s, nil
}

// chain decodes the segments.
func (s Status) chain() ([]consensus.Segment, error) {
	var chain []consensus.Segment
	for i, form := range s.Segments {
		raw, err := hex.DecodeString(form.Bytes)
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i+1, err)
		}
		seg, err := consensus.DecodeSegment(raw)
		if err != nil {
			return nil, err
		}
		if seg.Epoch != consensus.Epoch(i+1) || seg.Network != s.Network {
			return nil, fmt.Errorf("segment %d of the chain is epoch %d of network %v", i+1, seg.Epoch, seg.Network)
		}
		chain = append(chain, seg)
	}
	return chain, nil
}

// pending returns the count of the recovery that the node waits to complete; 0 if there is none of this epoch.
func (s Status) pending(epoch consensus.Epoch) (uint64, error) {
	raw, err := hex.DecodeString(s.Pending)
	if err != nil || len(raw) == 0 {
		return 0, err
	}
	r, err := consensus.DecodeSignedRecovery(raw)
	if err != nil || r.Epoch != epoch {
		return 0, err
	}
	return r.Count, nil
}
