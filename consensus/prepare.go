package consensus

import "fmt"

// A Prepare asks a member of the next segment to get ready for it, and to say so (Ready). Whoever asks shows that the administrators want the segment;
// At is where all who are asked are to state what they have.
type Prepare struct {
	Request    Request
	Signatures []Signature
	At         LSN
}

const prepareVersion = 1

// Encode returns the form in which nodes hand it to each other.
func (p Prepare) Encode() []byte {
	w := &writer{b: []byte{prepareVersion}}
	w.bytes(p.Request.Encode())
	encodeSignatures(w, p.Signatures)
	w.u64(uint64(p.At))
	return w.b
}

// DecodePrepare is the strict inverse of Encode. It does not check the signatures. The error is ErrInvalid.
func DecodePrepare(b []byte) (Prepare, error) {
	r := &reader{b: b}
	if v := r.u8(); v != prepareVersion {
		r.fail("prepare of version %d, want %d", v, prepareVersion)
	}
	raw := r.bytes()
	p := Prepare{Signatures: decodeSignatures(r), At: LSN(r.u64())}
	err := r.end()
	if err == nil {
		p.Request, err = DecodeRequest(raw)
	}
	if err != nil {
		return Prepare{}, fmt.Errorf("prepare: %w", err)
	}
	return p, nil
}
