package consensus

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
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
	seen := make(map[uint64]bool, len(s.Members))
	for i, m := range s.Members {
		switch {
		case m.ID == 0 || seen[m.ID]:
			return fmt.Errorf("%w: spec: member %d has the id %d, which must not be 0 and be there once", ErrInvalid, i, m.ID)
		case !optionalKey(m.NodeKey) || !optionalKey(m.ConsensusKey):
			return fmt.Errorf("%w: spec: member %d has a key that is not %d bytes", ErrInvalid, m.ID, ed25519.PublicKeySize)
		case max(len(m.PeerAddress), len(m.CometAddresses[0]), len(m.CometAddresses[1])) > maxAddressBytes:
			return fmt.Errorf("%w: spec: member %d has an address of more than %d bytes", ErrInvalid, m.ID, maxAddressBytes)
		}
		seen[m.ID] = true
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

func (s Spec) encode(w *writer) {
	w.str(s.Engine)
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

// A Request asks for the next segment of a chain. It is what administrators sign.
type Request struct {
	NetworkID NetworkID
	Epoch     Epoch // of the segment asked for: the current one's plus one
	Spec      Spec
	NotAfter  LSN // the last LSN its Seal may take: so that a forgotten request cannot come true much later
}

const requestVersion = 1

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

// EpochIdentity names an epoch to its engine before its base is known: Raft's cluster id, CometBFT's chain id, the key of a signer's state.
func EpochIdentity(network NetworkID, epoch Epoch, request Digest, recovery uint64) Digest {
	w := &writer{b: []byte(identityHashTag)}
	w.fixed(network[:])
	w.u64(uint64(epoch))
	w.fixed(request[:])
	w.u64(recovery)
	return sha256.Sum256(w.b)
}

// A Signature is an administrator's, over a request.
type Signature struct {
	Key   ed25519.PublicKey
	Bytes [ed25519.SignatureSize]byte
}

// A Seal is the record that ends a segment and names the next: a request with the signatures that authorise it.
type Seal struct {
	Request    Request
	Signatures []Signature // by ascending key, each key once
}

const (
	logKindSeal = 1 // first byte of a payload of app `log`
	sealVersion = 1
)

// Encode returns the payload of the Seal's record. It brings the signatures into their order.
func (s Seal) Encode() []byte {
	sigs := slices.Clone(s.Signatures)
	slices.SortFunc(sigs, func(a, b Signature) int { return bytes.Compare(a.Key, b.Key) })
	w := &writer{b: []byte{logKindSeal, sealVersion}}
	w.bytes(s.Request.Encode())
	w.u32(uint32(len(sigs)))
	for _, sig := range sigs {
		w.fixed(sig.Key)
		w.fixed(sig.Bytes[:])
	}
	return w.b
}

// Record returns the Seal as a record to append.
func (s Seal) Record(id RecordID) Record { return Record{App: AppLog, ID: id, Payload: s.Encode()} }

// DecodeSeal decodes the payload of a Seal's record, strictly. It checks no signature: ValidSeal does. The error is ErrInvalid.
func DecodeSeal(payload []byte) (Seal, error) {
	r := &reader{b: payload}
	if k := r.u8(); k != logKindSeal {
		r.fail("kind %d of a log record is unknown", k)
	}
	if v := r.u8(); v != sealVersion {
		r.fail("version %d of a Seal is unknown", v)
	}
	req := &reader{b: r.bytes()}
	s := Seal{Request: decodeRequest(req)}
	if err := req.end(); err != nil && r.err == nil {
		r.fail("request: %v", err)
	}
	for range r.count(ed25519.PublicKeySize + ed25519.SignatureSize) {
		sig := Signature{Key: bytes.Clone(r.take(ed25519.PublicKeySize))}
		copy(sig.Bytes[:], r.take(ed25519.SignatureSize))
		if n := len(s.Signatures); n > 0 && bytes.Compare(s.Signatures[n-1].Key, sig.Key) >= 0 {
			r.fail("signatures out of order")
		}
		s.Signatures = append(s.Signatures, sig)
	}
	if err := r.end(); err != nil {
		return Seal{}, fmt.Errorf("seal: %w", err)
	}
	return s, nil
}

// ValidSeal decides whether r, ordered at lsn in seg, seals it. It is a pure function of its arguments, so that every replica decides alike
// (invariant 6). nil means that it does; otherwise the error is an ErrInvalid that gives the reason.
//
// A Seal of version 1 carries no statements of the next members that they are ready, so it can only hand over to at most one member, of which
// there is no quorum to ask.
func ValidSeal(seg Segment, lsn LSN, r Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.App != AppLog {
		return fmt.Errorf("%w: a Seal is a record of app %q, not %q", ErrInvalid, AppLog, r.App)
	}
	s, err := DecodeSeal(r.Payload)
	if err != nil {
		return err
	}
	return s.valid(seg, lsn)
}

func (s Seal) valid(seg Segment, lsn LSN) error {
	q := s.Request
	switch {
	case q.NetworkID != seg.Network:
		return fmt.Errorf("%w: seal is for network %v, this is %v", ErrInvalid, q.NetworkID, seg.Network)
	case q.Epoch != seg.Epoch+1:
		return fmt.Errorf("%w: seal asks for epoch %d, the next is %d", ErrInvalid, q.Epoch, seg.Epoch+1)
	case lsn > q.NotAfter:
		return fmt.Errorf("%w: seal at lsn %d was good up to %d", ErrInvalid, lsn, q.NotAfter)
	case len(q.Spec.Members) > 1:
		return fmt.Errorf("%w: a Seal of version %d cannot hand over to %d members", ErrInvalid, sealVersion, len(q.Spec.Members))
	case seg.Spec.Threshold == 0:
		return fmt.Errorf("%w: epoch %d has no administrators and cannot be sealed", ErrInvalid, seg.Epoch)
	}
	good, message := 0, q.SigningMessage()
	for _, sig := range s.Signatures { // the keys are distinct: DecodeSeal
		if isAdmin(seg.Spec, sig.Key) && ed25519.Verify(sig.Key, message, sig.Bytes[:]) {
			good++
		}
	}
	if good < seg.Spec.Threshold {
		return fmt.Errorf("%w: %d good signatures of administrators of epoch %d, want %d", ErrInvalid, good, seg.Epoch, seg.Spec.Threshold)
	}
	return nil
}

func isAdmin(s Spec, key ed25519.PublicKey) bool {
	return slices.ContainsFunc(s.Admins, func(k ed25519.PublicKey) bool { return bytes.Equal(k, key) })
}

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
