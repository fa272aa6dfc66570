package consensus

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// First byte of the payload of a record of app `log`.
const (
	logKindSeal  = 1
	logKindBase  = 2
	logKindClaim = 3

	sealVersion = 2
)

// A Ready is the statement of a member of the next segment that it is ready to order it: it has prepared the request's epoch on a disk that it
// answers for, it holds the log up to At, and its application has played it that far. It is signed with the node key.
type Ready struct {
	Key    ed25519.PublicKey // node key
	At     LSN               // the same for all who are asked
	Digest Digest            // of the log up to At
	Head   Digest            // Fingerprint of the application at At
	Rules  uint32            // version of the rules by which its program executes
	Bytes  [ed25519.SignatureSize]byte
}

const readyBytes = ed25519.PublicKeySize + 8 + 32 + 32 + 4 + ed25519.SignatureSize

// SignReady makes the statement for a request.
func SignReady(key ed25519.PrivateKey, request Digest, at LSN, digest, head Digest, rules uint32) Ready {
	r := Ready{Key: bytes.Clone(key.Public().(ed25519.PublicKey)), At: at, Digest: digest, Head: head, Rules: rules}
	r.Bytes = [ed25519.SignatureSize]byte(ed25519.Sign(key, r.message(request)))
	return r
}

func (r Ready) message(request Digest) []byte {
	b := append([]byte(readySignTag), request[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At))
	b = append(b, r.Digest[:]...)
	b = append(b, r.Head[:]...)
	return binary.BigEndian.AppendUint32(b, r.Rules)
}

// Verify reports whether the statement was signed, by the key that it names, for a request.
func (r Ready) Verify(request Digest) bool {
	return len(r.Key) == ed25519.PublicKeySize && ed25519.Verify(r.Key, r.message(request), r.Bytes[:])
}

// Agrees reports whether two statements say the same of the log.
func (r Ready) Agrees(other Ready) bool {
	return r.At == other.At && r.Digest == other.Digest && r.Head == other.Head && r.Rules == other.Rules
}

// Encode returns the statement as nodes hand it to each other.
func (r Ready) Encode() []byte {
	w := &writer{}
	r.encode(w)
	return w.b
}

func (r Ready) encode(w *writer) {
	w.fixed(r.Key)
	w.u64(uint64(r.At))
	w.fixed(r.Digest[:])
	w.fixed(r.Head[:])
	w.u32(r.Rules)
	w.fixed(r.Bytes[:])
}

// DecodeReady is the strict inverse of Encode. It does not check the signature. The error is ErrInvalid.
func DecodeReady(b []byte) (Ready, error) {
	r := &reader{b: b}
	s := decodeReady(r)
	if err := r.end(); err != nil {
		return Ready{}, fmt.Errorf("ready statement: %w", err)
	}
	return s, nil
}

func decodeReady(r *reader) Ready {
	s := Ready{Key: bytes.Clone(r.take(ed25519.PublicKeySize)), At: LSN(r.u64()), Digest: r.digest(), Head: r.digest(), Rules: r.u32()}
	copy(s.Bytes[:], r.take(ed25519.SignatureSize))
	return s
}

// A Seal is the record that ends a segment and names the next: a request, the signatures that authorise it, and the statements of a quorum of the
// next members that they are ready.
type Seal struct {
	Request    Request
	Signatures []Signature // by ascending key, each key once
	Ready      []Ready     // by ascending key, each key once
}

// Encode returns the payload of the Seal's record. It brings signatures and statements into their order.
func (s Seal) Encode() []byte {
	w := &writer{b: []byte{logKindSeal, sealVersion}}
	w.bytes(s.Request.Encode())
	encodeSignatures(w, s.Signatures)
	ready := slices.Clone(s.Ready)
	slices.SortFunc(ready, func(a, b Ready) int { return bytes.Compare(a.Key, b.Key) })
	w.u32(uint32(len(ready)))
	for _, r := range ready {
		r.encode(w)
	}
	return w.b
}

// Record returns the Seal as a record to append. Its id is a function of the request: however often a request is tried again, and by whomever, its
// Seal gets into the log once.
func (s Seal) Record() Record {
	return Record{App: AppLog, ID: boundID(s.Request.Hash()), Payload: s.Encode()}
}

// boundID makes an id of the hash of what a record of app `log` means.
func boundID(h [sha256.Size]byte) RecordID {
	return RecordID{Session: binary.BigEndian.Uint64(h[:]) | 1, Seq: binary.BigEndian.Uint64(h[8:])}
}

// IsSeal reports whether a record claims to be a Seal.
func IsSeal(r Record) bool {
	return r.App == AppLog && len(r.Payload) > 0 && r.Payload[0] == logKindSeal
}

// DecodeSeal decodes the payload of a Seal's record, strictly. It checks no signature: ValidSeal does. The error is ErrInvalid.
func DecodeSeal(payload []byte) (Seal, error) {
	r := &reader{b: payload}
	if k := r.u8(); k != logKindSeal {
		r.fail("kind %d of a log record is not a Seal", k)
	}
	if v := r.u8(); v != sealVersion {
		r.fail("version %d of a Seal is unknown", v)
	}
	req := &reader{b: r.bytes()}
	s := Seal{Request: decodeRequest(req)}
	if err := req.end(); err != nil && r.err == nil {
		r.fail("request: %v", err)
	}
	s.Signatures = decodeSignatures(r)
	for range r.count(readyBytes) {
		statement := decodeReady(r)
		if n := len(s.Ready); n > 0 && bytes.Compare(s.Ready[n-1].Key, statement.Key) >= 0 {
			r.fail("ready statements out of order")
		}
		s.Ready = append(s.Ready, statement)
	}
	if err := r.end(); err != nil {
		return Seal{}, fmt.Errorf("seal: %w", err)
	}
	return s, nil
}

// SealOf decodes the Seal that a record holds. It checks no more than that it is one: ValidSeal does. The error is ErrInvalid.
func SealOf(r Record) (Seal, error) {
	if r.App != AppLog {
		return Seal{}, fmt.Errorf("%w: a Seal is a record of app %q, not %q", ErrInvalid, AppLog, r.App)
	}
	return DecodeSeal(r.Payload)
}

// ValidSeal decides whether r, ordered at lsn in seg, seals it. It is a pure function of its arguments, so that every replica decides alike
// (invariant 6). nil means that it does; otherwise the error is an ErrInvalid that gives the reason.
func ValidSeal(seg Segment, lsn LSN, r Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	s, err := SealOf(r)
	if err != nil {
		return err
	}
	if s.Record().ID != r.ID {
		return fmt.Errorf("%w: the Seal's record has the id %v, its request makes it %v", ErrInvalid, r.ID, s.Record().ID)
	}
	return s.valid(seg, lsn)
}

func (s Seal) valid(seg Segment, lsn LSN) error {
	if err := s.Request.Authorised(seg, s.Signatures); err != nil {
		return err
	}
	if lsn > s.Request.NotAfter {
		return fmt.Errorf("%w: seal at lsn %d was good up to %d", ErrInvalid, lsn, s.Request.NotAfter)
	}
	want := readyQuorum(s.Request.Spec)
	if have := s.ready(lsn); have < want {
		return fmt.Errorf("%w: %d members of epoch %d agree that they are ready, want %d", ErrInvalid, have, s.Request.Epoch, want)
	}
	return nil
}

// readyQuorum returns how many statements a Seal needs. A single member without a node key can make none, and nobody could take its place.
func readyQuorum(next Spec) int {
	if len(next.Members) == 1 && len(next.Members[0].NodeKey) == 0 {
		return 0
	}
	return next.Quorum()
}

// ready returns how many of the next members made a good statement that agrees with that of the others counted.
func (s Seal) ready(lsn LSN) int {
	request, most := s.Request.Hash(), 0
	var good []Ready
	for _, r := range s.Ready { // the keys are distinct: DecodeSeal
		if _, member := s.Request.Spec.Member(r.Key); member && r.At < lsn && r.Verify(request) {
			good = append(good, r)
		}
	}
	for _, a := range good {
		n := 0
		for _, b := range good {
			if a.Agrees(b) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A Base is the first item that a segment's engine orders: what its members take over. It takes no position in the log.
type Base struct {
	Identity Digest // of the epoch
	Base     LSN
	Digest   Digest // of the log before it
}

const baseVersion = 1

// BaseRecord returns the Base of a segment, as a record for its engine to order.
func BaseRecord(seg Segment) Record {
	w := &writer{b: []byte{logKindBase, baseVersion}}
	w.fixed(seg.Identity[:])
	w.u64(uint64(seg.Base))
	w.fixed(seg.BaseDigest[:])
	return Record{App: AppLog, ID: RecordID{Session: binary.BigEndian.Uint64(seg.Identity[:]) | 1, Seq: uint64(seg.Epoch)}, Payload: w.b}
}

// IsBase reports whether a record claims to be a segment's Base.
func IsBase(r Record) bool {
	return r.App == AppLog && len(r.Payload) > 0 && r.Payload[0] == logKindBase
}

func decodeBase(payload []byte) (Base, error) {
	r := &reader{b: payload}
	if k, v := r.u8(), r.u8(); k != logKindBase || v != baseVersion {
		r.fail("version %d of a Base is unknown", v)
	}
	b := Base{Identity: r.digest(), Base: LSN(r.u64()), Digest: r.digest()}
	if err := r.end(); err != nil {
		return Base{}, fmt.Errorf("base: %w", err)
	}
	return b, nil
}

// ValidBase returns an ErrInvalid for a record that is no Base of this epoch, and ErrDiverged for one that takes over another log than this node's.
func ValidBase(seg Segment, r Record) error {
	b, err := decodeBase(r.Payload)
	switch {
	case err != nil:
		return err
	case b.Identity != seg.Identity:
		return fmt.Errorf("%w: base of epoch identity %v, this is %v", ErrInvalid, b.Identity, seg.Identity)
	case b.Base != seg.Base || b.Digest != seg.BaseDigest:
		return fmt.Errorf("%w: the members begin epoch %d at lsn %d with digest %v, here it begins at %d with %v",
			ErrDiverged, seg.Epoch, b.Base, b.Digest, seg.Base, seg.BaseDigest)
	}
	return nil
}

// A Claim is what a member says of its history: the fingerprint of its application at an LSN that it has applied. Members put them into the log now
// and then; whoever finds himself contradicted by too many stops.
type Claim struct {
	Member uint64 // id in the segment whose log holds the claim
	Epoch  Epoch  // of that segment
	At     LSN
	Head   Digest // Fingerprint at At
	Bytes  [ed25519.SignatureSize]byte
}

const claimVersion = 1

// SignClaim makes a claim with the member's node key.
func SignClaim(key ed25519.PrivateKey, seg Segment, member uint64, at LSN, head Digest) Claim {
	c := Claim{Member: member, Epoch: seg.Epoch, At: at, Head: head}
	c.Bytes = [ed25519.SignatureSize]byte(ed25519.Sign(key, c.message(seg.Identity)))
	return c
}

func (c Claim) message(identity Digest) []byte {
	b := append([]byte(claimSignTag), identity[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Member)
	b = binary.BigEndian.AppendUint64(b, uint64(c.At))
	return append(b, c.Head[:]...)
}

// Record returns the claim as a record to append. Its id is a function of all of it.
func (c Claim) Record() Record {
	w := &writer{b: []byte{logKindClaim, claimVersion}}
	w.u64(c.Member)
	w.u64(uint64(c.Epoch))
	w.u64(uint64(c.At))
	w.fixed(c.Head[:])
	w.fixed(c.Bytes[:])
	return Record{App: AppLog, ID: boundID(sha256.Sum256(w.b)), Payload: w.b}
}

// DecodeClaim decodes the payload of a claim's record, strictly. It does not check the signature. The error is ErrInvalid.
func DecodeClaim(payload []byte) (Claim, error) {
	r := &reader{b: payload}
	if k, v := r.u8(), r.u8(); k != logKindClaim || v != claimVersion {
		r.fail("kind %d, version %d is not a claim", k, v)
	}
	c := Claim{Member: r.u64(), Epoch: Epoch(r.u64()), At: LSN(r.u64()), Head: r.digest()}
	copy(c.Bytes[:], r.take(ed25519.SignatureSize))
	if err := r.end(); err != nil {
		return Claim{}, fmt.Errorf("claim: %w", err)
	}
	return c, nil
}

func isClaim(r Record) bool {
	return r.App == AppLog && len(r.Payload) > 0 && r.Payload[0] == logKindClaim
}

// validClaim decides whether r, ordered at lsn in seg, is a member's claim about what lies before it. A pure function, as ValidSeal is.
func validClaim(seg Segment, lsn LSN, r Record) error {
	c, err := DecodeClaim(r.Payload)
	if err != nil {
		return err
	}
	m, ok := seg.Spec.MemberByID(c.Member)
	switch {
	case r.ID != boundID(sha256.Sum256(r.Payload)):
		return fmt.Errorf("%w: the claim's record has the id %v, which is not made of it", ErrInvalid, r.ID)
	case c.Epoch != seg.Epoch || c.At >= lsn || !ok || len(m.NodeKey) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: claim of member %d of epoch %d about lsn %d, at lsn %d of epoch %d", ErrInvalid, c.Member, c.Epoch, c.At, lsn, seg.Epoch)
	case !ed25519.Verify(m.NodeKey, c.message(seg.Identity), c.Bytes[:]):
		return fmt.Errorf("%w: claim that member %d did not sign", ErrInvalid, c.Member)
	}
	return nil
}
