package consensus

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The formats are drawn in doc.go. All integers are big endian. Decoding is strict: what decodes encodes to the same bytes again, so that a byte
// string has one meaning and a meaning one byte string (hashes and signatures depend on it).

const (
	recordVersion  = 1
	entryVersion   = 1
	segmentVersion = 2
	markVersion    = 2

	recordIDBytes     = 16
	recordKeyBytes    = len(RecordKey{})
	recordHeaderBytes = 1 + 1 + recordIDBytes // version, length of app, id; app and payload not counted
	entryHeaderBytes  = 1 + 8 + 8 + 8 + sha256.Size
)

// Size returns the length of the encoded record.
func (r Record) Size() int { return recordHeaderBytes + len(r.App) + len(r.Payload) }

// AppendRecord appends the encoding of r, which must be valid, to dst: the form in which engines carry records and the store keeps them.
func AppendRecord(dst []byte, r Record) []byte {
	dst = append(dst, recordVersion, byte(len(r.App)))
	dst = append(dst, r.App...)
	dst = appendRecordID(dst, r.ID)
	return append(dst, r.Payload...)
}

// DecodeRecord decodes a whole record; b holds nothing else. The payload of the result points into b. The error is ErrInvalid or ErrTooLarge, and
// a record without an error satisfies Validate.
func DecodeRecord(b []byte) (Record, error) {
	switch {
	case len(b) > MaxRecordBytes:
		return Record{}, fmt.Errorf("%w: %d bytes encoded, the limit is %d", ErrTooLarge, len(b), MaxRecordBytes)
	case len(b) < recordHeaderBytes:
		return Record{}, fmt.Errorf("%w: record of %d bytes", ErrInvalid, len(b))
	case b[0] != recordVersion:
		return Record{}, fmt.Errorf("%w: record of version %d, want %d", ErrInvalid, b[0], recordVersion)
	}
	app := int(b[1])
	if len(b) < recordHeaderBytes+app {
		return Record{}, fmt.Errorf("%w: record of %d bytes with an app name of %d", ErrInvalid, len(b), app)
	}
	id := b[2+app:]
	r := Record{
		App:     string(b[2 : 2+app]),
		ID:      decodeRecordID(id),
		Payload: id[recordIDBytes:len(id):len(id)],
	}
	return r, r.Validate()
}

// keyTag separates the hashes that make keys from every other use of SHA-256.
const keyTag = "ledgerd/record/1\x00"

// Key returns the key of the record: the first half of a SHA-256 hash of all of it, as doc.go draws it. Records of app `log` leave the payload out, since
// there the id is bound to what the record means, which is checked: the Seals of one request are one record, whoever signed them.
func (r Record) Key() RecordKey {
	var buf [len(keyTag) + recordHeaderBytes + MaxAppBytes]byte
	h := sha256.New()
	h.Write(AppendRecord(append(buf[:0], keyTag...), Record{App: r.App, ID: r.ID}))
	if r.App != AppLog {
		h.Write(r.Payload)
	}
	var sum [sha256.Size]byte
	return RecordKey(h.Sum(sum[:0])[:recordKeyBytes])
}

func appendRecordID(dst []byte, id RecordID) []byte {
	dst = binary.BigEndian.AppendUint64(dst, id.Session)
	return binary.BigEndian.AppendUint64(dst, id.Seq)
}

func decodeRecordID(b []byte) RecordID {
	return RecordID{Session: binary.BigEndian.Uint64(b), Seq: binary.BigEndian.Uint64(b[8:])}
}

// AppendEntry appends the encoding of e to dst: the form in which the store keeps entries and nodes hand them to each other.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = append(dst, entryVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.LSN))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Epoch))
	dst = binary.BigEndian.AppendUint64(dst, e.UnixMilli)
	dst = append(dst, e.Digest[:]...)
	return AppendRecord(dst, e.Record)
}

// DecodeEntry decodes a whole entry; the payload of the result points into b. It does not check the digest, which takes the predecessor's: see
// Entry.Verify. The error is ErrInvalid or ErrTooLarge.
func DecodeEntry(b []byte) (Entry, error) {
	if len(b) < entryHeaderBytes {
		return Entry{}, fmt.Errorf("%w: entry of %d bytes", ErrInvalid, len(b))
	}
	if b[0] != entryVersion {
		return Entry{}, fmt.Errorf("%w: entry of version %d, want %d", ErrInvalid, b[0], entryVersion)
	}
	e := Entry{
		LSN:       LSN(binary.BigEndian.Uint64(b[1:])),
		Epoch:     Epoch(binary.BigEndian.Uint64(b[9:])),
		UnixMilli: binary.BigEndian.Uint64(b[17:]),
		Digest:    Digest(b[25:entryHeaderBytes]),
	}
	var err error
	if e.Record, err = DecodeRecord(b[entryHeaderBytes:]); err != nil {
		return Entry{}, fmt.Errorf("entry: %w", err)
	}
	return e, nil
}

// digestTag separates these hashes from every other use of SHA-256, and carries the version of what is hashed.
const digestTag = "ledgerd/entry/1\x00"

// digestHeaderBytes bounds what precedes the payload, so that it is hashed from the stack.
const digestHeaderBytes = len(digestTag) + sha256.Size + 8 + 8 + 8 + 1 + MaxAppBytes + recordIDBytes + 4

// NextDigest returns the digest of the log whose last entry is e and whose digest up to e's predecessor is prev. It does not look at e.Digest.
// The function is injective up to collisions of SHA-256: every field of variable length is preceded by its length.
func NextDigest(prev Digest, e Entry) Digest {
	var buf [digestHeaderBytes]byte
	b := append(buf[:0], digestTag...)
	b = append(b, prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.LSN))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Epoch))
	b = binary.BigEndian.AppendUint64(b, e.UnixMilli)
	b = append(b, byte(len(e.Record.App)))
	b = append(b, e.Record.App...)
	b = appendRecordID(b, e.Record.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Record.Payload)))
	h := sha256.New()
	h.Write(b)
	h.Write(e.Record.Payload)
	var d Digest
	h.Sum(d[:0])
	return d
}

// Verify checks e against the digest of the log before it, and returns a CorruptError if they do not fit.
func (e Entry) Verify(prev Digest) error {
	if want := NextDigest(prev, e); want != e.Digest {
		return corrupt(e.LSN, "digest is %v, computed %v", e.Digest, want)
	}
	return nil
}

// writer and reader are the encoding of what has many fields of variable length: each is preceded by its length in four bytes.

type writer struct{ b []byte }

func (w *writer) u8(v byte)      { w.b = append(w.b, v) }
func (w *writer) u32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) fixed(v []byte) { w.b = append(w.b, v...) }
func (w *writer) bytes(v []byte) { w.u32(uint32(len(v))); w.b = append(w.b, v...) }
func (w *writer) str(v string)   { w.u32(uint32(len(v))); w.b = append(w.b, v...) }

// A reader keeps its first error and returns zeros from then on, so that a decoder is as straight as its encoder.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("%d bytes wanted, %d left", n, len(r.b))
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) digest() (d Digest) {
	copy(d[:], r.take(len(d)))
	return d
}

// count reads the number of elements that follow, each of at least min bytes: so a lying count cannot make the decoder allocate.
func (r *reader) count(min int) int {
	n := r.u32()
	if uint64(n)*uint64(min) > uint64(len(r.b)) {
		r.fail("%d elements of at least %d bytes in %d bytes", n, min, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte { return r.take(int(r.u32())) }
func (r *reader) str() string   { return string(r.bytes()) }

// owned is bytes copied; nil if there are none.
func (r *reader) owned() []byte { return append([]byte(nil), r.bytes()...) }

// end returns the first error, or one about bytes that are left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes left over", len(r.b))
	}
	return r.err
}
