package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/consensus"
	"ledgerd/rpc"
)

// How a node is followed, and when nobody is waited for any more.
const (
	followTick  = 50 * time.Millisecond
	followPause = 500 * time.Millisecond // before all are asked again
	silence     = 30 * time.Second
)

// reconfigurationAnswer is that of log_reconfigure and log_reconfiguration.
type reconfigurationAnswer struct {
	Epoch           hexutil.Uint64
	Request         hexutil.Bytes
	Engine          string
	Stage           string
	Ready, Over     []hexutil.Uint64
	Base            *hexutil.Uint64
	GapMilliseconds *float64
	Running         bool
	Switched        bool
	Complete        bool
	Superseded      bool
	Error           *string
}

// String is the line for the stage.
func (a reconfigurationAnswer) String() string {
	switch {
	case a.Complete:
		return fmt.Sprintf("epoch=%d base=%s gap=%s switched complete", a.Epoch, a.base(), a.gap())
	case a.Switched:
		return fmt.Sprintf("%s epoch=%d base=%s gap=%s switched", a.Stage, a.Epoch, a.base(), a.gap())
	case a.Base != nil:
		return fmt.Sprintf("%s epoch=%d base=%s", a.Stage, a.Epoch, a.base())
	case len(a.Ready) > 0:
		return fmt.Sprintf("%s epoch=%d engine=%s ready=%s", a.Stage, a.Epoch, a.Engine, strings.Trim(strings.ReplaceAll(fmt.Sprint(decimals(a.Ready)), " ", ","), "[]"))
	}
	return fmt.Sprintf("%s epoch=%d engine=%s", a.Stage, a.Epoch, a.Engine)
}

func decimals(quantities []hexutil.Uint64) []uint64 {
	numbers := make([]uint64, len(quantities))
	for i, q := range quantities {
		numbers[i] = uint64(q)
	}
	return numbers
}

func (a reconfigurationAnswer) base() string {
	if a.Base == nil {
		return "unknown"
	}
	return fmt.Sprint(uint64(*a.Base))
}

// gap is the gap in milliseconds; a node that was asked too late has not seen it.
func (a reconfigurationAnswer) gap() string {
	if a.GapMilliseconds == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*a.GapMilliseconds, 'f', 1, 64) + "ms"
}

func (a reconfigurationAnswer) reason() string {
	if a.Error == nil {
		return "the node does not say why"
	}
	return *a.Error
}

// follower brings a request to its end, by whichever node answers.
type follower struct {
	f          reconfigureFlags
	request    hexutil.Bytes
	hash       consensus.Digest
	epoch      consensus.Epoch
	signatures []map[string]hexutil.Bytes
	report     func(reconfigurationAnswer)

	last  reconfigurationAnswer // that came
	heard time.Time             // when
	taken bool                  // some node has taken the request up
	sent  bool                  // some node may have
}

// follow sends a request and prints how it goes.
func (c console) follow(ctx context.Context, f reconfigureFlags, q consensus.Request, signatures []consensus.Signature) error {
	l := follower{f: f, request: q.Encode(), hash: q.Hash(), epoch: q.Epoch, heard: time.Now(), report: func(reconfigurationAnswer) {}}
	for _, s := range signatures {
		l.signatures = append(l.signatures, map[string]hexutil.Bytes{"key": hexutil.Bytes(s.Key), "signature": s.Bytes[:]})
	}
	stage := ""
	if !f.json {
		l.report = func(a reconfigurationAnswer) {
			if a.Stage != stage && a.Error == nil {
				stage = a.Stage
				fmt.Fprintln(c.stdout, a)
			}
		}
	}
	waiting, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	raw, err := l.run(waiting)
	if errors.Is(err, context.DeadlineExceeded) && waiting.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("not over after %v: %s", f.wait, l.fate())
	}
	if err != nil || !f.json {
		return err
	}
	return c.print(true, raw, nil)
}

// run goes from node to node until the end is known.
func (l *follower) run(ctx context.Context) (json.RawMessage, error) {
	for i := 0; ; i++ {
		raw, err := l.at(ctx, l.f.urls[i%len(l.f.urls)])
		var said gethrpc.Error
		switch {
		case err == nil && !l.last.Running:
			if done, err := l.ended(); done {
				return raw, err
			}
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &said) && refuses(said):
			if l.taken || l.sent {
				return nil, fmt.Errorf("%w; before that %s", err, l.fate())
			}
			return nil, fmt.Errorf("%w: %w", errNotReconfigured, err)
		case time.Since(l.heard) > silence:
			return nil, fmt.Errorf("no node has answered for %v: %s: %w", silence, l.fate(), err)
		}
		if (i+1)%len(l.f.urls) == 0 {
			if err := pause(ctx, followPause); err != nil {
				return nil, err
			}
		}
	}
}

// refuses reports whether an error says that the node will not do it.
func refuses(err gethrpc.Error) bool {
	const methodNotFound, invalidParams = -32601, -32602
	return err.ErrorCode() == methodNotFound || err.ErrorCode() == invalidParams || strings.HasPrefix(err.Error(), rpc.ErrReconfiguring.Error())
}

// ended says how an attempt ended that has. Not done: the node gave up, and another one may go on.
func (l *follower) ended() (done bool, err error) {
	switch a := l.last; {
	case a.Complete:
		return true, nil
	case a.Superseded || a.Stage == consensus.Abandoned.String():
		return true, fmt.Errorf("%w: %s", errNotReconfigured, a.reason())
	case a.Switched:
		return true, fmt.Errorf("switched, but not enough of the members are known to have everything before it, so that no old member may be turned off yet: %s; "+
			"`ledgerd log members` tells when", a.reason())
	}
	return false, nil
}

// fate is what is known of the request when this command gives up.
func (l *follower) fate() string {
	switch {
	case !l.taken && l.sent:
		return "a node was given the request and did not answer, so that it may come true; look with `ledgerd log segments`"
	case !l.taken:
		return "no node was given the request"
	case l.last.Switched:
		return "the log was switched; `ledgerd log members` tells who may be turned off"
	case l.last.Base != nil:
		return "the log is sealed, and its next members go on by themselves; look with `ledgerd log segments`"
	}
	return fmt.Sprintf("it was %s and may still come true; look with `ledgerd log segments`", cmp.Or(l.last.Stage, "taken up"))
}

// at gives the request to a node and follows it there, until it is over or the node falls silent.
func (l *follower) at(ctx context.Context, url string) (raw json.RawMessage, err error) {
	client, err := dialLog(ctx, url, l.f.secret, l.f.timeout)
	if err != nil {
		return nil, err
	}
	defer client.rpc.Close()
	begin := true
	for {
		var raw json.RawMessage
		if begin {
			err = client.call(ctx, &raw, "log_reconfigure", l.request, l.signatures)
		} else {
			err = client.call(ctx, &raw, "log_reconfiguration", hexutil.Uint64(l.epoch))
		}
		if err != nil {
			l.sent = l.sent || begin && mayHaveArrived(err)
			return nil, err
		}
		var a reconfigurationAnswer
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("log_reconfiguration: the node's answer is not what this version expects: %w", err)
		}
		l.heard = time.Now()
		if begin = string(a.Request) != string(l.hash[:]); begin { // the node was started anew, or has tried another one since
			if err := pause(ctx, followTick); err != nil {
				return nil, err
			}
			continue
		}
		l.last, l.taken = a, true
		l.report(a)
		if !a.Running {
			return raw, nil
		}
		if err := pause(ctx, followTick); err != nil {
			return nil, err
		}
	}
}

// mayHaveArrived reports whether a call that failed may have reached its node all the same.
func mayHaveArrived(err error) bool {
	var said gethrpc.Error
	var network *net.OpError
	return !errors.As(err, &said) && !(errors.As(err, &network) && network.Op == "dial")
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
