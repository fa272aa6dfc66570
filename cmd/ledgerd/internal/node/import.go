package node

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"ledgerd/ledger"
)

// ErrImported is returned for a home whose chain was imported, by what needs a log that the chain came from.
var ErrImported = errors.New("its chain was imported and is not in a log; blocks are verified when they are imported")

// Imported is what an import came to.
type Imported struct {
	Blocks int         `json:"blocks"` // that were new
	Block  uint64      `json:"block"`  // number of the head
	Head   common.Hash `json:"head"`
}

// Import appends the blocks of a file in geth's export format to the chain of a home, which must not be in use: their RLP, one after the other,
// compressed by gzip or not. progress is called with the bytes that were read and the file's size.
// Errors: as of Open; ledger.ErrNotImported, ledger.ErrBadBlock.
func Import(ctx context.Context, opts Options, file string, progress func(done, total uint64)) (done Imported, err error) {
	opts.ensureDefaults()
	n := newNode(opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	if !opts.Genesis.Ledgerd.Imported {
		return done, fmt.Errorf("%s: %w; `ledgerd init --genesis` makes a home for the chain of another network", opts.Home, ledger.ErrNotImported)
	}
	if err := n.place(ctx); err != nil {
		return done, err
	}
	l, err := ledger.Open(n.at.ledger, opts.Genesis, n.ledgerOptions())
	if err != nil {
		return done, fmt.Errorf("open the ledger: %w", err)
	}
	n.onClose(l.Close)
	f, err := os.Open(file)
	if err != nil {
		return done, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return done, err
	}
	read := &countingReader{r: f, report: func(count uint64) { progress(count, uint64(info.Size())) }}
	stream, err := plain(read)
	if err != nil {
		return done, fmt.Errorf("%s: %w", file, err)
	}
	done.Blocks, err = l.Import(ctx, blocksOf(stream))
	done.Block, done.Head = l.CurrentHeader().Number.Uint64(), l.CurrentHeader().Hash()
	if err != nil {
		return done, fmt.Errorf("import %s: %w", file, err)
	}
	return done, nil
}

// countingReader tells how far a file has been read.
type countingReader struct {
	r      io.Reader
	count  uint64
	report func(count uint64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.count += uint64(n)
	c.report(c.count)
	return n, err
}

// plain unpacks what gzip has packed.
func plain(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 1<<20)
	if magic, err := buffered.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return buffered, nil // an empty file too: it holds no blocks
	}
	return gzip.NewReader(buffered)
}

// maxImportedBlock bounds the RLP of one block: far above any gas limit's worth of call data.
const maxImportedBlock = 128 << 20

// blocksOf decodes one block after the other. The genesis block, with which an export may begin, is one of them.
func blocksOf(r io.Reader) iter.Seq2[*types.Block, error] {
	return func(yield func(*types.Block, error) bool) {
		stream := rlp.NewStream(r, 0)
		for i := 0; ; i++ {
			_, size, err := stream.Kind()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && size > maxImportedBlock {
				err = fmt.Errorf("%d bytes, at most %d", size, maxImportedBlock)
			}
			block := new(types.Block)
			if err == nil {
				err = stream.Decode(block)
			}
			if err != nil {
				yield(nil, fmt.Errorf("item %d of the file is no block: %w", i, err))
				return
			}
			if !yield(block, nil) {
				return
			}
		}
	}
}
