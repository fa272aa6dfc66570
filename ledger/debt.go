package ledger

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// A debt is the execution that a restart after a crash has to repeat: that of the blocks whose state is not on disk.
type debt struct {
	blocks []owed // oldest first; invariant: sum is that of their took
	sum    time.Duration
}

type owed struct {
	root common.Hash // the state after the block; all differ, since each block writes its parent's hash into it (EIP-2935)
	took time.Duration
}

// add notes a block that was executed.
func (d *debt) add(root common.Hash, took time.Duration) {
	d.blocks = append(d.blocks, owed{root, took})
	d.sum += took
}

// paid drops the blocks up to the one whose state is on disk. A state that is none of theirs is an older one.
func (d *debt) paid(root common.Hash) {
	for i, b := range d.blocks {
		if b.root != root {
			continue
		}
		for _, b := range d.blocks[:i+1] {
			d.sum -= b.took
		}
		d.blocks = append(d.blocks[:0], d.blocks[i+1:]...)
		return
	}
}

// clear says that the newest state is on disk.
func (d *debt) clear() { d.blocks, d.sum = d.blocks[:0], 0 }
