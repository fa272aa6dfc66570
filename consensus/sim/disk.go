package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"ledgerd/consensus"
)

// disk is a node's file system, which can be had as a crash would leave it: with what was synced, and with some, all or none of what was not.
//
// What is not synced lies in pebble's buffers until a goroutine of pebble's writes it, and so what the files hold at any moment is not the seed's to
// decide. Right before an fsync it is: everything is written, nothing of it is synced, and whoever wants it synced waits. So a crash that is to leave
// something of what was not synced takes place there: in the write that is under way, or in one of its own that changes nothing.
type disk struct {
	mem *vfs.MemFS
	fs  vfs.FS // what the store sees

	mu struct { // the hook is called on pebble's goroutines
		sync.Mutex
		armed       bool
		all, synced *vfs.MemFS // at the moment of the fsync
	}
}

// newDisk returns a disk; mem nil: an empty one.
func newDisk(mem *vfs.MemFS) *disk {
	if mem == nil {
		mem = vfs.NewCrashableMem()
	}
	d := &disk{mem: mem}
	d.fs = fresh{errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if strings.HasSuffix(op.Path, ".log") {
				d.syncing()
			}
		default:
		}
		return nil
	}))}
	return d
}

// fresh makes a new file where an old one might be written over, which errorfs does not watch.
type fresh struct{ vfs.FS }

func (f fresh) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Remove(old); err != nil {
		return nil, err
	}
	return f.Create(name, category)
}

func (d *disk) syncing() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.armed {
		d.mu.armed = false
		d.mu.all = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
		d.mu.synced = d.mem.CrashClone(vfs.CrashCloneCfg{})
	}
}

// arm makes the next fsync of a write-ahead log the moment of a crash.
func (d *disk) arm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.armed, d.mu.all, d.mu.synced = true, nil, nil
}

// A loss says what a crash leaves of what was not synced.
type loss int

const (
	none loss = iota // all of it stays: the process was killed
	some             // blocks of it stay, and a file may end in the middle of one: the power failed
	most             // nothing stays
)

func (l loss) String() string { return [...]string{"none", "some", "most"}[l] }

// after returns the disk as a crash leaves it.
func (d *disk) after(store *consensus.Store, l loss, dice uint64) *disk {
	if l == most {
		return newDisk(d.mem.CrashClone(vfs.CrashCloneCfg{}))
	}
	d.mu.Lock()
	var err error
	caught := d.mu.all != nil
	d.mu.Unlock()
	if !caught {
		d.arm()
		err = store.EngineArea(noEpoch).Write(true, func(b *consensus.EngineBatch) error { return b.Set([]byte("crash")) })
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.all == nil {
		panic(fmt.Sprintf("sim: a synced write did not sync: %v", err))
	}
	if l == none {
		return newDisk(d.mu.all)
	}
	tear(d.mu.synced, d.mu.all, dice)
	return newDisk(d.mu.synced)
}

// noEpoch is that of an engine's area which nobody reads.
const noEpoch consensus.Epoch = 1 << 60

// tear adds to what was synced some of what was not: of the write-ahead log, and of the files that are not pebble's. Which tables and manifests there are, and
// under which numbers, is decided by pebble's own goroutines; they are left as they were synced, and a write-ahead log is told by its age.
func tear(synced, all *vfs.MemFS, dice uint64) {
	names, err := all.List(logDir)
	if err != nil {
		panic(err)
	}
	slices.Sort(names)
	logs := 0
	for _, name := range slices.Backward(names) {
		path, which := all.PathJoin(logDir, name), name
		switch {
		case strings.HasSuffix(name, ".log"):
			logs++
			which = fmt.Sprintf("log %d", logs)
		case pebbles(name):
			continue
		}
		if from, to := content(synced, path), content(all, path); !slices.Equal(from, to) {
			rewrite(synced, path, mixed(from, to, fate(dice, which)))
		}
	}
}

// pebbles reports whether a file is one of pebble's, other than a write-ahead log.
func pebbles(name string) bool {
	return slices.ContainsFunc([]string{".sst", ".blob", ".dbtmp"}, func(s string) bool { return strings.HasSuffix(name, s) }) ||
		slices.ContainsFunc([]string{"MANIFEST-", "OPTIONS-", "marker.", "LOCK"}, func(s string) bool { return strings.HasPrefix(name, s) })
}

// mixed returns from with some of the blocks of to; half the time it ends, or turns into zeros, in the middle of one.
func mixed(from, to []byte, dice func(uint64) uint64) []byte {
	const block = 4096
	b := slices.Clone(from)
	for i := 0; i < len(to); i += block {
		if dice(uint64(i))%2 == 0 {
			continue
		}
		end := min(i+block, len(to))
		if n := end - len(b); n > 0 {
			b = append(b, make([]byte, n)...)
		}
		copy(b[i:end], to[i:end])
	}
	if n := len(b) - len(from); n > 0 && dice(1)%2 == 0 {
		cut := len(from) + int(dice(2)%uint64(n))
		if clear(b[cut:]); dice(3)%2 == 0 {
			b = b[:cut]
		}
	}
	return b
}

// fate throws dice for one file, whichever others there are: pebble deletes old ones when it comes to it.
func fate(dice uint64, name string) func(uint64) uint64 {
	return func(n uint64) uint64 {
		h := fnv.New64a()
		_, _ = h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte(name), dice), n))
		x := h.Sum64()
		return x ^ x>>29 ^ x>>47
	}
}

func content(from *vfs.MemFS, path string) []byte {
	f, err := from.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		panic(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		panic(err)
	}
	return b
}

func rewrite(fs *vfs.MemFS, path string, b []byte) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		panic(err)
	}
	_, err1 := f.Write(b)
	err2, err3 := f.Sync(), f.Close()
	dir, err4 := fs.OpenDir(logDir)
	if err := errors.Join(err1, err2, err3, err4, dir.Sync(), dir.Close()); err != nil {
		panic(err)
	}
}
