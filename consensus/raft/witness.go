package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"ledgerd/consensus"
)

// A witness remembers, outside the write-ahead log, which of the member's writes was the last to be synced. After a crash, a damaged end of the
// write-ahead log is taken for a torn write and dropped (package consensus, "The end of the write-ahead log"). If it was rot, the member has forgotten
// votes and acknowledgements; the witness knows, and the member does not take part. Like the store's, it is overwritten after each sync and never synced
// itself: what it says is true, if perhaps old.
//
//	0   8   number of the write, which is stored with the hard state too
//	8   32  epoch identity
//	40  4   CRC-32C of these
type witness struct {
	file     vfs.File
	identity consensus.Digest
}

const witnessBytes = 8 + 32 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func witnessPath(o consensus.StoreOptions, epoch consensus.Epoch) string {
	return o.FS.PathJoin(o.Dir, fmt.Sprintf("synced-raft-%d", epoch))
}

func openWitness(o consensus.StoreOptions, seg consensus.Segment) (*witness, error) {
	f, err := o.FS.OpenReadWrite(witnessPath(o, seg.Epoch), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open raft's witness: %w", err)
	}
	return &witness{f, seg.Identity}, nil
}

// read returns the number of the last synced write, or 0 if the witness has nothing to say.
func (w *witness) read() (uint64, error) {
	var b [witnessBytes]byte
	if _, err := w.file.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return 0, nil // new, or its first write was torn
	} else if err != nil {
		return 0, fmt.Errorf("read raft's witness: %w", err)
	}
	body, sum := b[:witnessBytes-4], binary.BigEndian.Uint32(b[witnessBytes-4:])
	if crc32.Checksum(body, castagnoli) != sum || consensus.Digest(body[8:]) != w.identity {
		return 0, nil
	}
	return binary.BigEndian.Uint64(body), nil
}

func (w *witness) write(n uint64) error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, witnessBytes), n)
	b = append(b, w.identity[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := w.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write raft's witness: %w", err)
	}
	return nil
}
