package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress draws how far a long command has come, on a terminal only and only once it has taken two seconds.
type progress struct {
	w      io.Writer // nil: draws nothing
	what   string
	begin  time.Time
	drawn  time.Time
	active bool
}

func newProgress(w io.Writer, what string) *progress {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progress{w: w, what: what, begin: time.Now()}
		}
	}
	return &progress{}
}

// set draws, at most ten times a second.
func (p *progress) set(done, total uint64) {
	now := time.Now()
	if p.w == nil || total == 0 || now.Sub(p.begin) < 2*time.Second || now.Sub(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn, p.active = now, true
	const width = 30
	filled := int(min(done, total) * width / total)
	fmt.Fprintf(p.w, "\r%s [%s%s] %d of %d", p.what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled), done, total)
}

// end leaves the line.
func (p *progress) end() {
	if p.active {
		fmt.Fprintln(p.w)
	}
}
