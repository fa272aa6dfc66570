//go:build race

package comet

const raceDetector = true
