package comet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ledgerd/consensus"
)

// walDir is the folder of an epoch's write-ahead log.
func (e *Engine) walDir(seg consensus.Segment) string {
	return filepath.Join(e.opts.Dir, fmt.Sprintf("%d-%x", seg.Epoch, seg.Identity[:4]))
}

const walFile = "wal" // in the folder

// checkWAL opens a write-ahead log as CometBFT does, which cannot be taken down as a whole any more when it fails there.
func checkWAL(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func wipeWAL(dir string) error { return os.RemoveAll(dir) }

// forgetWALs removes the write-ahead logs of epochs whose engines are not needed any more. They hold nothing but what was lost with them anyhow.
func (e *Engine) forgetWALs(epoch consensus.Epoch) {
	entries, err := os.ReadDir(e.opts.Dir)
	if err != nil {
		return // there is none
	}
	for _, f := range entries {
		number, _, _ := strings.Cut(f.Name(), "-")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil && consensus.Epoch(n)+1 < epoch {
			_ = os.RemoveAll(filepath.Join(e.opts.Dir, f.Name()))
		}
	}
}
