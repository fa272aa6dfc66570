package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testEntry = Entry{
	LSN: 0x0102030405060708, Epoch: 9, UnixMilli: 1_700_000_000_123,
	Record: Record{App: "ledger-1", ID: RecordID{Session: 0xaabbccddeeff0011, Seq: 7}, Payload: []byte("payload")},
	Digest: Digest{1, 2, 3},
}

// TestFormats holds the encodings against the drawings in doc.go, byte by byte.
func TestFormats(t *testing.T) {
	const record = "01" + "08" + "6c65646765722d31" + "aabbccddeeff0011" + "0000000000000007" + "7061796c6f6164"
	require.Equal(t, record, hex.EncodeToString(AppendRecord(nil, testEntry.Record)))
	require.Equal(t, len(record)/2, testEntry.Record.Size())
	const entry = "01" + "0102030405060708" + "0000000000000009" + "0000018bcfe5687b" +
		"0102030000000000000000000000000000000000000000000000000000000000" + record
	require.Equal(t, entry, hex.EncodeToString(AppendEntry(nil, testEntry)))
}

// TestNextDigest computes a digest the slow way.
func TestNextDigest(t *testing.T) {
	prev := Digest{0xee}
	var b bytes.Buffer
	b.WriteString("ledgerd/entry/1\x00")
	b.Write(prev[:])
	for _, v := range []uint64{uint64(testEntry.LSN), uint64(testEntry.Epoch), testEntry.UnixMilli} {
		require.NoError(t, binary.Write(&b, binary.BigEndian, v))
	}
	b.WriteByte(8)
	b.WriteString("ledger-1")
	require.NoError(t, binary.Write(&b, binary.BigEndian, testEntry.Record.ID))
	require.NoError(t, binary.Write(&b, binary.BigEndian, uint32(7)))
	b.WriteString("payload")
	require.Equal(t, Digest(sha256.Sum256(b.Bytes())), NextDigest(prev, testEntry))
}

// TestNextDigestInjective moves every field, and every border between two of them.
func TestNextDigestInjective(t *testing.T) {
	changes := map[string]func(prev *Digest, e *Entry){
		"nothing":         func(*Digest, *Entry) {},
		"previous digest": func(prev *Digest, _ *Entry) { prev[31] ^= 1 },
		"lsn":             func(_ *Digest, e *Entry) { e.LSN++ },
		"epoch":           func(_ *Digest, e *Entry) { e.Epoch++ },
		"time":            func(_ *Digest, e *Entry) { e.UnixMilli++ },
		"app":             func(_ *Digest, e *Entry) { e.Record.App = "ledger-2" },
		"shorter app":     func(_ *Digest, e *Entry) { e.Record.App = "ledger-" },
		"session":         func(_ *Digest, e *Entry) { e.Record.ID.Session++ },
		"sequence":        func(_ *Digest, e *Entry) { e.Record.ID.Seq++ },
		"payload":         func(_ *Digest, e *Entry) { e.Record.Payload = []byte("Payload") },
		"longer payload":  func(_ *Digest, e *Entry) { e.Record.Payload = []byte("payload\x00") },
		"no payload":      func(_ *Digest, e *Entry) { e.Record.Payload = nil },
	}
	seen := map[Digest]string{}
	for name, change := range changes {
		prev, e := Digest{5}, testEntry
		change(&prev, &e)
		d := NextDigest(prev, e)
		require.Empty(t, seen[d], "%s has the digest of %s", name, seen[d])
		seen[d] = name
	}
	stored := testEntry
	stored.Digest = Digest{7}
	require.Equal(t, NextDigest(Digest{}, testEntry), NextDigest(Digest{}, stored), "the stored digest is not part of what is hashed")
}

func TestDecodeRecordRefuses(t *testing.T) {
	good := AppendRecord(nil, testEntry.Record)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":       {nil, ErrInvalid},
		"cut off":     {good[:recordHeaderBytes], ErrInvalid},
		"version":     {append([]byte{2}, good[1:]...), ErrInvalid},
		"app of 0":    {append([]byte{1, 0}, make([]byte, 30)...), ErrInvalid},
		"app of 200":  {append([]byte{1, 200}, make([]byte, 30)...), ErrInvalid},
		"bad app":     {bytes.Replace(good, []byte("ledger"), []byte("Ledger"), 1), ErrInvalid},
		"no id":       {AppendRecord(nil, Record{App: "a"}), ErrInvalid},
		"one too far": {AppendRecord(nil, Record{App: "a", ID: RecordID{1, 1}, Payload: make([]byte, MaxRecordBytes-18)}), ErrTooLarge},
	} {
		_, err := DecodeRecord(c.b)
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := DecodeRecord(AppendRecord(nil, Record{App: "a", ID: RecordID{1, 1}, Payload: make([]byte, MaxRecordBytes-19)}))
	require.NoError(t, err, "exactly as large as allowed")
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(AppendRecord(nil, testEntry.Record))
	f.Add([]byte{1, 1, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		require.NoError(t, r.Validate())
		require.Equal(t, b, AppendRecord(nil, r), "two encodings of one record")
		require.Equal(t, len(b), r.Size())
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendEntry(nil, testEntry))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := DecodeEntry(b); err == nil {
			require.Equal(t, b, AppendEntry(nil, e), "two encodings of one entry")
		}
	})
}

func FuzzDecodeSeal(f *testing.F) {
	c := newChain()
	f.Add(c.seal(2).Encode())
	f.Add(Seal{Request: Request{Spec: Spec{Engine: "x"}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeSeal(b); err == nil {
			require.Equal(t, b, s.Encode(), "two encodings of one Seal")
			require.NoError(t, s.Request.Spec.Validate())
		}
	})
}

func FuzzDecodeSegment(f *testing.F) {
	f.Add(newChain().segment().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeSegment(b); err == nil {
			require.Equal(t, b, s.Encode(), "two encodings of one segment")
		}
	})
}

func FuzzDecodeMark(f *testing.F) {
	f.Add(mark{applied: 1, next: 2, unixMilli: 3, digest: Digest{4}, sealed: true}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMark(b); err == nil {
			require.Equal(t, b, m.encode(), "two encodings of one mark")
		}
	})
}
