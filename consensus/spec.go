package consensus

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Bounds of a Spec. They keep a Seal with its signatures well inside MaxRecordBytes.
const (
	maxMembers      = 256
	maxAdmins       = 256
	maxParams       = 256
	maxEngineBytes  = 32
	maxAddressBytes = 256
	maxParamBytes   = 1024
	MaxLedgerBytes  = 256 << 10
)

// Validate returns everything that is wrong with the spec, joined, each an ErrInvalid.
func (s Spec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: spec: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if err := validName("engine", s.Engine, maxEngineBytes); err != nil {
		errs = append(errs, err)
	}
	if s.Faults > ByzantineFaults {
		bad("fault model %d is unknown", s.Faults)
	}
	if len(s.Params) > maxParams {
		bad("%d parameters, at most %d", len(s.Params), maxParams)
	}
	for k, v := range s.Params {
		if k == "" || len(k) > maxParamBytes || len(v) > maxParamBytes {
			bad("parameter %.32q: name and value take at most %d bytes, and the name at least 1", k, maxParamBytes)
		}
	}
	errs = append(errs, s.validateMembers(), s.validateAdmins())
	if len(s.Ledger) > MaxLedgerBytes {
		bad("%d bytes of ledger parameters, at most %d", len(s.Ledger), MaxLedgerBytes)
	}
	return errors.Join(errs...)
}

func (s Spec) validateMembers() error {
	if len(s.Members) > maxMembers {
		return fmt.Errorf("%w: spec: %d members, at most %d", ErrInvalid, len(s.Members), maxMembers)
	}
	seen, keys := make(map[uint64]bool, len(s.Members)), make(map[string]bool, len(s.Members))
	for i, m := range s.Members {
		switch {
		case m.ID == 0 || seen[m.ID]:
			return fmt.Errorf("%w: spec: member %d has the id %d, which must not be 0 and be there once", ErrInvalid, i, m.ID)
		case !optionalKey(m.NodeKey) || !optionalKey(m.ConsensusKey):
			return fmt.Errorf("%w: spec: member %d has a key that is not %d bytes", ErrInvalid, m.ID, ed25519.PublicKeySize)
		case len(m.NodeKey) > 0 && keys[string(m.NodeKey)]:
			return fmt.Errorf("%w: spec: member %d has the node key of another one", ErrInvalid, m.ID)
		case max(len(m.PeerAddress), len(m.CometAddresses[0]), len(m.CometAddresses[1])) > maxAddressBytes:
			return fmt.Errorf("%w: spec: member %d has an address of more than %d bytes", ErrInvalid, m.ID, maxAddressBytes)
		}
		seen[m.ID], keys[string(m.NodeKey)] = true, true
	}
	return nil
}

func optionalKey(k ed25519.PublicKey) bool { return len(k) == 0 || len(k) == ed25519.PublicKeySize }

func (s Spec) validateAdmins() error {
	if len(s.Admins) > maxAdmins {
		return fmt.Errorf("%w: spec: %d administrators, at most %d", ErrInvalid, len(s.Admins), maxAdmins)
	}
	for i, k := range s.Admins {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: spec: administrator %d has a key of %d bytes", ErrInvalid, i, len(k))
		}
		for _, other := range s.Admins[:i] {
			if bytes.Equal(k, other) {
				return fmt.Errorf("%w: spec: administrator %x is there twice", ErrInvalid, k)
			}
		}
	}
	if s.Threshold < 0 || s.Threshold > len(s.Admins) || (s.Threshold == 0 && len(s.Admins) > 0) {
		return fmt.Errorf("%w: spec: threshold %d of %d administrators", ErrInvalid, s.Threshold, len(s.Admins))
	}
	return nil
}

// Quorum returns how many of the members it takes to order: a majority against crashes, more than two thirds against lies. 0 without members.
func (s Spec) Quorum() int {
	switch n := len(s.Members); {
	case n == 0:
		return 0
	case s.Faults == ByzantineFaults:
		return 2*n/3 + 1
	default:
		return n/2 + 1
	}
}

// Member returns the member that a node key belongs to.
func (s Spec) Member(nodeKey ed25519.PublicKey) (Member, bool) {
	for _, m := range s.Members {
		if len(m.NodeKey) > 0 && bytes.Equal(m.NodeKey, nodeKey) {
			return m, true
		}
	}
	return Member{}, false
}

// MemberByID returns the member with an id.
func (s Spec) MemberByID(id uint64) (Member, bool) {
	for _, m := range s.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

func (s Spec) encode(w *writer) {
	w.str(s.Engine)
	w.u8(byte(s.Faults))
	w.u32(uint32(len(s.Params)))
	for _, k := range slices.Sorted(maps.Keys(s.Params)) {
		w.str(k)
		w.str(s.Params[k])
	}
	w.u32(uint32(len(s.Members)))
	for _, m := range s.Members {
		w.u64(m.ID)
		w.bytes(m.NodeKey)
		w.bytes(m.ConsensusKey)
		w.str(m.PeerAddress)
		w.str(m.CometAddresses[0])
		w.str(m.CometAddresses[1])
	}
	w.u32(uint32(len(s.Admins)))
	for _, k := range s.Admins {
		w.bytes(k)
	}
	w.u32(uint32(s.Threshold))
	w.bytes(s.Ledger)
}

func decodeSpec(r *reader) (s Spec) {
	s.Engine = r.str()
	s.Faults = FaultModel(r.u8())
	if n := r.count(8); n > 0 {
		s.Params = make(map[string]string, n)
		last := ""
		for range n {
			k := r.str()
			if k <= last { // also refuses the empty name
				r.fail("parameter %.32q after %.32q", k, last)
			}
			last = k
			s.Params[k] = r.str()
		}
	}
	for range r.count(8 + 5*4) {
		s.Members = append(s.Members, Member{
			ID:             r.u64(),
			NodeKey:        r.owned(),
			ConsensusKey:   r.owned(),
			PeerAddress:    r.str(),
			CometAddresses: [2]string{r.str(), r.str()},
		})
	}
	for range r.count(4 + ed25519.PublicKeySize) {
		s.Admins = append(s.Admins, r.owned())
	}
	s.Threshold = int(r.u32())
	s.Ledger = r.owned()
	if r.err == nil {
		if err := s.Validate(); err != nil {
			r.fail("%v", err)
		}
	}
	return s
}
