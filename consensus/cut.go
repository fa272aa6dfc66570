package consensus

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a Recovery cuts off a node's log is kept in a file, for people: the log has forgotten it, and no program reads it by itself.
//
//	0    1   version = 1
//	1    32  network id
//	33   32  identity of the epoch that the recovery began
//	65   8   first lsn
//	73   8   first lsn that is not in the file any more
//	81   32  digest of the log before the first
//	113      entries, each preceded by its length in four bytes
//	     32  SHA-256 of all that stands before
//
// It is whole or not there: written under another name, synced, and renamed.
const (
	cutVersion     = 1
	cutHeaderBytes = 1 + 32 + 32 + 8 + 8 + 32
	cutChunk       = 1024 // entries read at a time
)

// A Cut is the header of such a file.
type Cut struct {
	NetworkID NetworkID
	Identity  Digest // of the epoch that the recovery began
	From, To  LSN    // the entries are those of [From, To)
	Digest    Digest // of the log before From
}

func cutName(r Recovery, from, to LSN) string {
	return fmt.Sprintf("cut-epoch-%d-recovery-%d-lsn-%d-%d", r.Epoch, r.Count, from, to-1)
}

// keepCut writes the entries that a plan cuts off to its file.
func (s *Store) keepCut(r Recovery, c cutback) error {
	fs, tmp := s.opts.FS, c.File+".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("keep what is cut off: %w", err)
	}
	err = s.writeCut(f, Cut{r.NetworkID, c.Segment.Identity, c.Cut, c.Held, c.mark.digest})
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fs.Rename(tmp, c.File)
	}
	if err == nil {
		err = syncDir(fs, fs.PathDir(c.File))
	}
	if err != nil {
		return fmt.Errorf("keep what is cut off: %w", err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) writeCut(f io.Writer, c Cut) error {
	sum := sha256.New()
	buffer := bufio.NewWriterSize(f, 1<<20)
	out := io.MultiWriter(buffer, sum)
	w := &writer{b: []byte{cutVersion}}
	w.fixed(c.NetworkID[:])
	w.fixed(c.Identity[:])
	w.u64(uint64(c.From))
	w.u64(uint64(c.To))
	w.fixed(c.Digest[:])
	if _, err := out.Write(w.b); err != nil {
		return err
	}
	for at := c.From; at < c.To; {
		entries, err := s.read(context.Background(), at, c.To, cutChunk, MaxFollowBytes)
		if err != nil {
			return err
		}
		for _, e := range entries {
			w.b = w.b[:0]
			w.bytes(AppendEntry(nil, e))
			if _, err := out.Write(w.b); err != nil {
				return err
			}
		}
		at += LSN(len(entries))
	}
	if _, err := buffer.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffer.Flush()
}

// ReadCut calls take with the entries of a file that Store.Recover wrote, each verified against its predecessor's digest, and returns its header. What take has
// been given is only sure to be all if the error is nil. ErrCorrupt if the file is not what was written; an error of take ends it, and is returned.
func ReadCut(r io.Reader, take func(Entry) error) (Cut, error) {
	sum := sha256.New()
	in := io.TeeReader(r, sum)
	var head [cutHeaderBytes]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Cut{}, cutError(err)
	}
	h := &reader{b: head[:]}
	if v := h.u8(); v != cutVersion {
		return Cut{}, fmt.Errorf("%w: cut file of version %d, want %d", ErrCorrupt, v, cutVersion)
	}
	c := Cut{NetworkID: NetworkID(h.digest()), Identity: h.digest(), From: LSN(h.u64()), To: LSN(h.u64()), Digest: h.digest()}
	digest := c.Digest
	for lsn := c.From; lsn < c.To; lsn++ {
		e, err := readCutEntry(in)
		if err != nil {
			return c, err
		}
		if e.LSN != lsn {
			return c, corrupt(lsn, "the entry says that it is lsn %d", e.LSN)
		}
		if err := e.Verify(digest); err != nil {
			return c, err
		}
		if err := take(e); err != nil {
			return c, err
		}
		digest = e.Digest
	}
	return c, checkCutSum(r, sum)
}

func readCutEntry(in io.Reader) (Entry, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return Entry{}, cutError(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > entryHeaderBytes+MaxRecordBytes {
		return Entry{}, fmt.Errorf("%w: cut file: entry of %d bytes", ErrCorrupt, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return Entry{}, cutError(err)
	}
	e, err := DecodeEntry(b)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: cut file: %v", ErrCorrupt, err)
	}
	return e, nil
}

func checkCutSum(r io.Reader, sum hash.Hash) error {
	have, err := io.ReadAll(io.LimitReader(r, sha256.Size+1))
	if err != nil {
		return err
	}
	if string(have) != string(sum.Sum(nil)) {
		return fmt.Errorf("%w: cut file: the sum at its end is wrong", ErrCorrupt)
	}
	return nil
}

func cutError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut file ends too early", ErrCorrupt)
	}
	return err
}
