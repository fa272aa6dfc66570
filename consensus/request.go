package consensus

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
)

// A Request asks for the next segment of a chain. It is what administrators sign.
type Request struct {
	NetworkID NetworkID
	Epoch     Epoch // of the segment asked for: the current one's plus one
	Spec      Spec
	NotAfter  LSN // the last LSN its Seal may take: so that a forgotten request cannot come true much later
}

const requestVersion = 2

// Encode returns the canonical encoding of the request.
func (q Request) Encode() []byte {
	w := &writer{b: []byte{requestVersion}}
	w.fixed(q.NetworkID[:])
	w.u64(uint64(q.Epoch))
	w.u64(uint64(q.NotAfter))
	q.Spec.encode(w)
	return w.b
}

// DecodeRequest is strict: what it accepts is canonical and has a valid spec. The error is ErrInvalid.
func DecodeRequest(b []byte) (Request, error) {
	r := &reader{b: b}
	q := decodeRequest(r)
	if err := r.end(); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	return q, nil
}

func decodeRequest(r *reader) (q Request) {
	if v := r.u8(); v != requestVersion {
		r.fail("request of version %d, want %d", v, requestVersion)
	}
	q.NetworkID = NetworkID(r.digest())
	q.Epoch = Epoch(r.u64())
	q.NotAfter = LSN(r.u64())
	q.Spec = decodeSpec(r)
	return q
}

// Domain separation: a signature or hash made for one of these can never pass for another.
const (
	requestHashTag  = "ledgerd/request/1\x00"
	requestSignTag  = "ledgerd/reconfigure/1\x00"
	identityHashTag = "ledgerd/epoch/1\x00"
	readySignTag    = "ledgerd/ready/1\x00"
	claimSignTag    = "ledgerd/claim/1\x00"
	recoveryHashTag = "ledgerd/recovery/1\x00"
	recoverySignTag = "ledgerd/recover/1\x00"
)

// Hash names the request.
func (q Request) Hash() Digest {
	return sha256.Sum256(append([]byte(requestHashTag), q.Encode()...))
}

// SigningMessage is what an administrator signs with ed25519: a domain tag and the request's hash.
func (q Request) SigningMessage() []byte {
	h := q.Hash()
	return append([]byte(requestSignTag), h[:]...)
}

// Sign returns the signature of one administrator.
func (q Request) Sign(key ed25519.PrivateKey) Signature {
	return Signature{
		Key:   bytes.Clone(key.Public().(ed25519.PublicKey)),
		Bytes: [ed25519.SignatureSize]byte(ed25519.Sign(key, q.SigningMessage())),
	}
}

// Segment returns what is known of the segment that the request asks for before there is a Seal: all but its place in the log.
func (q Request) Segment() Segment {
	return Segment{Network: q.NetworkID, Epoch: q.Epoch, Identity: EpochIdentity(q.NetworkID, q.Epoch, q.Hash(), 0), Spec: q.Spec}
}

// Authorised returns an ErrInvalid, with the reason, unless the request asks for the segment after seg and enough of seg's administrators signed it.
func (q Request) Authorised(seg Segment, signatures []Signature) error {
	switch {
	case q.NetworkID != seg.Network:
		return fmt.Errorf("%w: request is for network %v, this is %v", ErrInvalid, q.NetworkID, seg.Network)
	case q.Epoch != seg.Epoch+1:
		return fmt.Errorf("%w: request asks for epoch %d, the next is %d", ErrInvalid, q.Epoch, seg.Epoch+1)
	case seg.Spec.Threshold == 0:
		return fmt.Errorf("%w: epoch %d has no administrators and cannot be sealed", ErrInvalid, seg.Epoch)
	case seg.Spec.keyed() && !q.Spec.keyed():
		return fmt.Errorf("%w: the next segment has members without node keys, or none; nobody could tell who is to order", ErrInvalid)
	}
	if good := seg.Spec.approvals(q.SigningMessage(), signatures); good < seg.Spec.Threshold {
		return fmt.Errorf("%w: %d good signatures of administrators of epoch %d, want %d", ErrInvalid, good, seg.Epoch, seg.Spec.Threshold)
	}
	return nil
}

// approvals returns how many of the administrators signed a message.
func (s Spec) approvals(message []byte, signatures []Signature) int {
	good := make(map[string]bool)
	for _, sig := range signatures {
		if isAdmin(s, sig.Key) && ed25519.Verify(sig.Key, message, sig.Bytes[:]) {
			good[string(sig.Key)] = true
		}
	}
	return len(good)
}

// keyed reports whether every member, of at least one, has a node key.
func (s Spec) keyed() bool {
	return len(s.Members) > 0 && !slices.ContainsFunc(s.Members, func(m Member) bool { return len(m.NodeKey) == 0 })
}

func isAdmin(s Spec, key ed25519.PublicKey) bool {
	return slices.ContainsFunc(s.Admins, func(k ed25519.PublicKey) bool { return bytes.Equal(k, key) })
}

// EpochIdentity names an epoch to its engine before its base is known: Raft's cluster id, CometBFT's chain id, the key of a signer's state.
func EpochIdentity(network NetworkID, epoch Epoch, request Digest, recovery uint64) Digest {
	w := &writer{b: []byte(identityHashTag)}
	w.fixed(network[:])
	w.u64(uint64(epoch))
	w.fixed(request[:])
	w.u64(recovery)
	return sha256.Sum256(w.b)
}

// A Signature is an administrator's, over a request or a recovery.
type Signature struct {
	Key   ed25519.PublicKey
	Bytes [ed25519.SignatureSize]byte
}

func encodeSignatures(w *writer, signatures []Signature) {
	sorted := slices.Clone(signatures)
	slices.SortFunc(sorted, func(a, b Signature) int { return bytes.Compare(a.Key, b.Key) })
	w.u32(uint32(len(sorted)))
	for _, sig := range sorted {
		w.fixed(sig.Key)
		w.fixed(sig.Bytes[:])
	}
}

// decodeSignatures is strict: the keys ascend, so that each is there once.
func decodeSignatures(r *reader) (signatures []Signature) {
	for range r.count(ed25519.PublicKeySize + ed25519.SignatureSize) {
		sig := Signature{Key: bytes.Clone(r.take(ed25519.PublicKeySize))}
		copy(sig.Bytes[:], r.take(ed25519.SignatureSize))
		if n := len(signatures); n > 0 && bytes.Compare(signatures[n-1].Key, sig.Key) >= 0 {
			r.fail("signatures out of order")
		}
		signatures = append(signatures, sig)
	}
	return signatures
}
