package consensus

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
)

// A Recovery begins a segment behind one that can never order a Seal: a quorum of its members is gone for good. It is the administrators' word in the place
// of the members': the log before Base is taken for what the dead segment has ordered, and whatever lies behind it on a disk that was away is cut off
// (Store.Recover). So a record that the dead segment has acknowledged may be lost, and the members that do not answer must be kept from going on by
// themselves before it is applied.
//
// The dead segment stays in the chain, as one that ended before Base without a Seal. It may be empty: so a segment is recovered that was sealed into and
// never began.
//
// Of several recoveries of a segment, that with the highest Count holds: where a mistake was made, or a longer log has turned up since, another one replaces
// the first on the disks that took it. Two with the same count are the administrators' mistake, which nodes meet with a refusal.
type Recovery struct {
	NetworkID NetworkID
	Epoch     Epoch  // of the segment that it begins: the dead one's plus one
	Count     uint64 // number among the recoveries of the dead segment, from 1; Segment.Recovery of the one that begins
	Base      LSN    // of the segment that it begins
	Digest    Digest // of the log before Base
	UnixMilli uint64 // the log's clock there
	Spec      Spec   // of the segment that it begins
}

const recoveryVersion = 1

// Encode returns the canonical encoding of the recovery.
func (r Recovery) Encode() []byte {
	w := &writer{b: []byte{recoveryVersion}}
	w.fixed(r.NetworkID[:])
	w.u64(uint64(r.Epoch))
	w.u64(r.Count)
	w.u64(uint64(r.Base))
	w.fixed(r.Digest[:])
	w.u64(r.UnixMilli)
	r.Spec.encode(w)
	return w.b
}

// DecodeRecovery is strict: what it accepts is canonical and has a valid spec. The error is ErrInvalid.
func DecodeRecovery(b []byte) (Recovery, error) {
	r := &reader{b: b}
	if v := r.u8(); v != recoveryVersion {
		r.fail("recovery of version %d, want %d", v, recoveryVersion)
	}
	c := Recovery{
		NetworkID: NetworkID(r.digest()),
		Epoch:     Epoch(r.u64()),
		Count:     r.u64(),
		Base:      LSN(r.u64()),
		Digest:    r.digest(),
		UnixMilli: r.u64(),
	}
	c.Spec = decodeSpec(r)
	if err := r.end(); err != nil {
		return Recovery{}, fmt.Errorf("recovery: %w", err)
	}
	return c, nil
}

// Hash names the recovery.
func (r Recovery) Hash() Digest {
	return sha256.Sum256(append([]byte(recoveryHashTag), r.Encode()...))
}

// SigningMessage is what an administrator signs with ed25519: a domain tag and the recovery's hash.
func (r Recovery) SigningMessage() []byte {
	h := r.Hash()
	return append([]byte(recoverySignTag), h[:]...)
}

// Sign returns the signature of one administrator.
func (r Recovery) Sign(key ed25519.PrivateKey) Signature {
	return Signature{
		Key:   bytes.Clone(publicOf(key)),
		Bytes: [ed25519.SignatureSize]byte(ed25519.Sign(key, r.SigningMessage())),
	}
}

// Segment returns the segment that the recovery begins.
func (r Recovery) Segment() Segment {
	return Segment{
		Network:       r.NetworkID,
		Epoch:         r.Epoch,
		Recovery:      r.Count,
		Base:          r.Base,
		BaseDigest:    r.Digest,
		BaseUnixMilli: r.UnixMilli,
		Identity:      EpochIdentity(r.NetworkID, r.Epoch, r.Hash(), r.Count),
		Spec:          r.Spec,
	}
}

// A SignedRecovery is a Recovery with the signatures that authorise it. Any node that has it may hand it to another.
type SignedRecovery struct {
	Recovery
	Signatures []Signature // by ascending key, each key once
}

// Encode returns the stored form, which is also what nodes hand to each other. It brings the signatures into their order.
func (s SignedRecovery) Encode() []byte {
	w := &writer{}
	w.bytes(s.Recovery.Encode())
	encodeSignatures(w, s.Signatures)
	return w.b
}

// DecodeSignedRecovery is the strict inverse of Encode. It checks no signature: Authorised does. The error is ErrInvalid.
func DecodeSignedRecovery(b []byte) (SignedRecovery, error) {
	r := &reader{b: b}
	raw := r.owned()
	s := SignedRecovery{Signatures: decodeSignatures(r)}
	err := r.end()
	if err == nil {
		s.Recovery, err = DecodeRecovery(raw)
	}
	if err != nil {
		return SignedRecovery{}, fmt.Errorf("signed recovery: %w", err)
	}
	return s, nil
}

// Authorised returns an ErrInvalid, with the reason, unless this recovers the segment dead and enough of its administrators signed it. Whether the log before
// its base is that of a node, only the node's store can tell.
func (s SignedRecovery) Authorised(dead Segment) error {
	switch {
	case s.NetworkID != dead.Network:
		return fmt.Errorf("%w: the recovery is for network %v, this is %v", ErrInvalid, s.NetworkID, dead.Network)
	case s.Epoch != dead.Epoch+1:
		return fmt.Errorf("%w: the recovery begins epoch %d, which does not follow on %d", ErrInvalid, s.Epoch, dead.Epoch)
	case s.Count == 0:
		return fmt.Errorf("%w: a recovery without a count", ErrInvalid)
	case s.Base < dead.Base:
		return fmt.Errorf("%w: the recovery begins epoch %d at lsn %d, epoch %d begins at %d only", ErrInvalid, s.Epoch, s.Base, dead.Epoch, dead.Base)
	case dead.Spec.Threshold == 0:
		return fmt.Errorf("%w: epoch %d has no administrators and cannot be recovered", ErrInvalid, dead.Epoch)
	case dead.Spec.keyed() && !s.Spec.keyed():
		return fmt.Errorf("%w: the next segment has members without node keys, or none; nobody could tell who is to order", ErrInvalid)
	}
	if good := dead.Spec.approvals(s.SigningMessage(), s.Signatures); good < dead.Spec.Threshold {
		return fmt.Errorf("%w: %d good signatures of administrators of epoch %d, want %d", ErrInvalid, good, dead.Epoch, dead.Spec.Threshold)
	}
	return nil
}

// continues returns an ErrDiverged unless a log that has come to the recovery's base is the one that was recovered.
func (r Recovery) continues(digest Digest, unixMilli uint64) error {
	if digest != r.Digest || unixMilli != r.UnixMilli {
		return fmt.Errorf("%w: epoch %d was recovered with digest %v at lsn %d and time %d, this node's log has %v and %d",
			ErrDiverged, r.Epoch-1, r.Digest, r.Base-1, r.UnixMilli, digest, unixMilli)
	}
	return nil
}
