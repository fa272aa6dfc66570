package peer

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"ledgerd/consensus"
)

// Why a frame was not carried, as the metric says it.
const (
	dropQueue    = "queue"    // the peer's queue is full
	dropAge      = "age"      // waited too long for a connection
	dropLink     = "link"     // was on its way when the connection broke
	dropOversize = "oversize" // larger than MaxFrameBytes
	dropEpoch    = "epoch"    // received for an epoch that no engine here has joined
	dropSender   = "sender"   // received from somebody who is not that member
	dropReceiver = "receiver" // received for another member
	dropRight    = "right"    // received from a member that the roster does not let order in the epoch
)

type metrics struct {
	frames    *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	drops     *prometheus.CounterVec
	connected prometheus.Gauge
	refused   prometheus.Counter

	sentFrames, receivedFrames, sentBytes, receivedBytes prometheus.Counter // of the vectors above, looked up once
}

// newMetrics registers the collectors, or takes those that another node has registered with the same registerer.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerd_peer_frames_total", Help: "Engine frames by direction: sent, received.",
		}, []string{"direction"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerd_peer_frame_bytes_total", Help: "Bytes of engine frames by direction: sent, received.",
		}, []string{"direction"}),
		drops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerd_peer_dropped_frames_total", Help: "Engine frames that were not carried, by reason.",
		}, []string{"reason"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ledgerd_peer_connected", Help: "Members to which this node has a stream for frames.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_peer_refused_total", Help: "Handshakes refused: strangers, other networks, wrong certificates.",
		}),
	}
	if reg != nil {
		err := errors.Join(
			consensus.RegisterMetric(reg, &m.frames), consensus.RegisterMetric(reg, &m.bytes), consensus.RegisterMetric(reg, &m.drops),
			consensus.RegisterMetric(reg, &m.connected), consensus.RegisterMetric(reg, &m.refused))
		if err != nil {
			return nil, err
		}
	}
	m.sentFrames, m.receivedFrames = m.frames.WithLabelValues("sent"), m.frames.WithLabelValues("received")
	m.sentBytes, m.receivedBytes = m.bytes.WithLabelValues("sent"), m.bytes.WithLabelValues("received")
	return m, nil
}

func (m *metrics) dropped(reason string, frames int) {
	if frames > 0 {
		m.drops.WithLabelValues(reason).Add(float64(frames))
	}
}
