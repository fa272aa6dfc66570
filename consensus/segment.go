package consensus

import "fmt"

// genesisSegment is the first link of a chain, a function of the genesis alone.
func genesisSegment(network NetworkID, spec Spec) Segment {
	request := Request{NetworkID: network, Epoch: 1, Spec: spec}
	return Segment{
		Network:    network,
		Epoch:      1,
		Base:       1,
		BaseDigest: Digest(network),
		Identity:   EpochIdentity(network, 1, request.Hash(), 0),
		Spec:       spec,
	}
}

// nextSegment is the link that follows seg once the valid Seal in e has sealed it: a function of the committed log alone.
func nextSegment(seg Segment, e Entry) (Segment, error) {
	s, err := DecodeSeal(e.Record.Payload)
	if err != nil {
		return Segment{}, err
	}
	return Segment{
		Network:       seg.Network,
		Epoch:         seg.Epoch + 1,
		Base:          e.LSN + 1,
		BaseDigest:    e.Digest,
		BaseUnixMilli: e.UnixMilli,
		Identity:      EpochIdentity(seg.Network, seg.Epoch+1, s.Request.Hash(), 0),
		Spec:          s.Request.Spec,
	}, nil
}

// Encode returns the stored form of the segment.
func (s Segment) Encode() []byte {
	w := &writer{b: []byte{segmentVersion}}
	w.fixed(s.Network[:])
	w.u64(uint64(s.Epoch))
	w.u64(s.Recovery)
	w.u64(uint64(s.Base))
	w.fixed(s.BaseDigest[:])
	w.u64(s.BaseUnixMilli)
	w.fixed(s.Identity[:])
	s.Spec.encode(w)
	return w.b
}

// DecodeSegment is the strict inverse of Encode. The error is ErrInvalid.
func DecodeSegment(b []byte) (Segment, error) {
	r := &reader{b: b}
	if v := r.u8(); v != segmentVersion {
		r.fail("segment of version %d, want %d", v, segmentVersion)
	}
	s := Segment{
		Network:       NetworkID(r.digest()),
		Epoch:         Epoch(r.u64()),
		Recovery:      r.u64(),
		Base:          LSN(r.u64()),
		BaseDigest:    r.digest(),
		BaseUnixMilli: r.u64(),
		Identity:      r.digest(),
	}
	s.Spec = decodeSpec(r)
	if err := r.end(); err != nil {
		return Segment{}, fmt.Errorf("segment: %w", err)
	}
	return s, nil
}

// A SegmentEnd says how a segment ended: by its Seal, or, if it can order none, by a Recovery. Any node that has it may hand it to another that does not
// know: both carry the administrators' signatures, and the entries that lead up to the end are checked against its digest.
type SegmentEnd struct {
	Seal     Entry           // the last entry; zero after a recovery
	Proof    []byte          // of the engine, that the members ordered Seal; empty if it is trusted
	Recovery *SignedRecovery // nil if there was a Seal
}

// First byte of an encoded SegmentEnd.
const (
	endBySeal     = 1
	endByRecovery = 2
)

// Epoch returns the epoch that ended.
func (e SegmentEnd) Epoch() Epoch {
	if e.Recovery != nil {
		return e.Recovery.Epoch - 1
	}
	return e.Seal.Epoch
}

// Tail returns the first LSN that the segment does not have.
func (e SegmentEnd) Tail() LSN {
	if e.Recovery != nil {
		return e.Recovery.Base
	}
	return e.Seal.LSN + 1
}

// Overrides reports whether, of two ends of one segment, e is the one to go by: a recovery is the administrators' word against a Seal, and against one with a lower
// count.
func (e SegmentEnd) Overrides(other SegmentEnd) bool {
	switch {
	case e.Recovery == nil:
		return false
	case other.Recovery == nil:
		return true
	}
	return e.Recovery.Count > other.Recovery.Count
}

// next returns the segment that begins at the end of seg, which e is known to end.
func (e SegmentEnd) next(seg Segment) *Segment {
	if e.Recovery != nil {
		next := e.Recovery.Segment()
		return &next
	}
	next, err := nextSegment(seg, e.Seal)
	if err != nil {
		panic(fmt.Sprintf("consensus: a valid Seal at lsn %d does not decode: %v", e.Seal.LSN, err))
	}
	return &next
}

// Encode returns the stored form, which is also what nodes hand to each other.
func (e SegmentEnd) Encode() []byte {
	if e.Recovery != nil {
		return append([]byte{endByRecovery}, e.Recovery.Encode()...)
	}
	w := &writer{b: []byte{endBySeal}}
	w.bytes(AppendEntry(nil, e.Seal))
	w.bytes(e.Proof)
	return w.b
}

// DecodeSegmentEnd is the strict inverse of Encode. It checks neither signatures nor proof. The error is ErrInvalid.
func DecodeSegmentEnd(b []byte) (SegmentEnd, error) {
	e, err := decodeSegmentEnd(b)
	if err != nil {
		return SegmentEnd{}, fmt.Errorf("segment end: %w", err)
	}
	return e, nil
}

func decodeSegmentEnd(b []byte) (e SegmentEnd, err error) {
	r := &reader{b: b}
	switch v := r.u8(); v {
	case endByRecovery:
		s, err := DecodeSignedRecovery(r.b)
		return SegmentEnd{Recovery: &s}, err
	case endBySeal:
		raw := r.owned()
		if e.Proof = r.owned(); r.end() == nil {
			e.Seal, err = DecodeEntry(raw)
			return e, err
		}
	default:
		r.fail("version %d is unknown", v)
	}
	return e, r.err
}

// Verify returns an ErrInvalid unless e ends seg: the Seal or the Recovery at its end is one that seg's administrators authorised. How the digest came about
// is for whoever reads the entries to verify.
func (e SegmentEnd) Verify(seg Segment) error {
	if e.Recovery != nil {
		return e.Recovery.Authorised(seg)
	}
	if e.Seal.Epoch != seg.Epoch || e.Seal.LSN < seg.Base {
		return fmt.Errorf("%w: end of epoch %d at lsn %d, asked for epoch %d from %d", ErrInvalid, e.Seal.Epoch, e.Seal.LSN, seg.Epoch, seg.Base)
	}
	return ValidSeal(seg, e.Seal.LSN, e.Seal.Record)
}
