package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A witness remembers, outside the write-ahead log, how far the log was synced. Recovery takes a damaged end of the write-ahead log for a torn write
// and drops it (doc.go, "The end of the write-ahead log"); if the witness knows better, it was rot.
//
// It is one small file that is overwritten after each synced commit, and never synced itself: that costs a microsecond, and what it says is always
// true, if perhaps old. After a crash of the process it is exact; after a power failure it is as old as the kernel's last write-back, and if its write
// was torn it says nothing.
type witness struct{ file vfs.File }

const (
	witnessName    = "synced"
	witnessVersion = 1
	witnessBytes   = 1 + 8 + len(Digest{}) + 4 // version, next LSN, digest before it, CRC-32C of these
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openWitness(fs vfs.FS, dir string) (*witness, error) {
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, witnessName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	return &witness{f}, nil
}

// read returns the first LSN that was not synced and the digest before it; 0 if the witness has nothing to say.
func (w *witness) read() (LSN, Digest, error) {
	var b [witnessBytes]byte
	if _, err := w.file.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return 0, Digest{}, nil // new, or its first write was torn
	} else if err != nil {
		return 0, Digest{}, fmt.Errorf("read witness: %w", err)
	}
	body, sum := b[:witnessBytes-4], binary.BigEndian.Uint32(b[witnessBytes-4:])
	if crc32.Checksum(body, castagnoli) != sum || body[0] != witnessVersion {
		return 0, Digest{}, nil
	}
	return LSN(binary.BigEndian.Uint64(body[1:])), Digest(body[9:]), nil
}

func (w *witness) write(next LSN, digest Digest) error {
	b := make([]byte, 0, witnessBytes)
	b = append(b, witnessVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(next))
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := w.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	return nil
}

// checkWitness compares what was recovered with what was synced.
func (s *Store) checkWitness(head mark) error {
	next, digest, err := s.witness.read()
	if err != nil || next <= 1 {
		return err
	}
	if next > head.next {
		return corrupt(head.next, "the log was synced up to lsn %d, and ends at %d: the end of the write-ahead log is damaged", next-1, head.next-1)
	}
	have, err := s.digestAt(next - 1)
	if errors.Is(err, ErrTrimmed) {
		return nil
	}
	if err == nil && have != digest {
		err = corrupt(next-1, "digest is %v, the witness says %v", have, digest)
	}
	return err
}
