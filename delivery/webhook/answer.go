package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"tocsin.dev/tocsin/delivery"
)

const (
	// maxDrain is how much of a body is read so that its connection can be
	// used again.
	maxDrain = 64 << 10
	// maxBodyTime is how long a body may take once the status is here.
	maxBodyTime = 5 * time.Second
	// throttlePause is what a 429 without Retry-After asks for.
	throttlePause = 5 * time.Second
)

// judge turns an answer into an outcome and disposes of the body.
func judge(resp *http.Response, cut context.CancelFunc) delivery.Outcome {
	out := delivery.Outcome{Class: classOf(resp.StatusCode), Status: resp.StatusCode}
	out.Response = beginning(resp, cut)
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		out.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if out.Class == delivery.ClassThrottled && out.RetryAfter == 0 {
		out.RetryAfter = throttlePause
	}
	if out.Class != delivery.ClassDelivered {
		out.Err = fmt.Errorf("the sink answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return out
}

func classOf(status int) delivery.Class {
	switch {
	case status >= 200 && status < 300:
		return delivery.ClassDelivered
	case status >= 300 && status < 400:
		return delivery.ClassRedirect
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return delivery.ClassAuth
	case status == http.StatusGone:
		return delivery.ClassGone
	case status == http.StatusTooManyRequests:
		return delivery.ClassThrottled
	}
	return delivery.ClassRetry
}

// beginning reads the start of the body and drains the rest, within bounds.
// Whatever happens here, the status has been given.
func beginning(resp *http.Response, cut context.CancelFunc) string {
	defer resp.Body.Close()
	if resp.ContentLength == 0 {
		return ""
	}
	timer := time.AfterFunc(maxBodyTime, cut)
	defer timer.Stop()
	buf := make([]byte, delivery.SnippetLimit)
	n, err := io.ReadFull(resp.Body, buf)
	if err == nil {
		// A connection whose body goes on for longer is closed instead.
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	}
	return string(buf[:n])
}

// retryAfter reads the header: seconds, or an HTTP date. What is neither, or
// in the past, is 0.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	s, err := strconv.ParseUint(v, 10, 64)
	if err == nil && s < uint64(delivery.MaxRetryAfter/time.Second) {
		return time.Duration(s) * time.Second
	}
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return delivery.MaxRetryAfter
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), delivery.MaxRetryAfter)
}
