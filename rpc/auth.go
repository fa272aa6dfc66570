package rpc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// MinJWTSecret is the least number of bytes of a secret, that of the hash (RFC 7518 §3.2).
const MinJWTSecret = 32

// tokenWindow is how far the clock of who has made a token without an end may be from ours, as in Ethereum's engine API.
const tokenWindow = time.Minute

// checkToken returns nil for a JSON Web Token (RFC 7519) that was signed with secret by HS256 and is valid now: until its exp, if it has one, and
// from its nbf on; without exp, for a minute from its iat.
func checkToken(token string, secret []byte, now time.Time) error {
	var claims jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Name}), jwt.WithoutClaimsValidation())
	if _, err := parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return secret, nil }); err != nil {
		return err
	}
	switch {
	case claims.NotBefore != nil && now.Before(claims.NotBefore.Time):
		return errors.New("token is not valid yet")
	case claims.ExpiresAt != nil && now.Before(claims.ExpiresAt.Time):
		return nil
	case claims.ExpiresAt != nil:
		return errors.New("token is expired")
	case claims.IssuedAt == nil:
		return errors.New("token has neither exp nor iat")
	case now.Sub(claims.IssuedAt.Time).Abs() > tokenWindow:
		return fmt.Errorf("token without exp is from %v, which is more than %v from now", claims.IssuedAt.UTC().Format(time.RFC3339), tokenWindow)
	}
	return nil
}

// authenticated says whether a request may be served. If not it has been answered.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) bool {
	if s.opts.JWTSecret == nil {
		return true
	}
	err := errors.New("missing token")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		err = checkToken(strings.TrimSpace(token), s.opts.JWTSecret, time.Now())
	}
	if err == nil {
		return true
	}
	s.metrics.refused.WithLabelValues("token").Inc()
	s.allowOrigin(w, r) // or a page could not read why
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, err.Error(), http.StatusUnauthorized)
	return false
}

// Bearer returns what puts a fresh token into the header of each request of a client (go-ethereum's rpc.HTTPAuth).
func Bearer(secret []byte) func(http.Header) error {
	return func(h http.Header) error {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{IssuedAt: jwt.NewNumericDate(time.Now())}).SignedString(secret)
		if err != nil {
			return fmt.Errorf("sign token: %w", err)
		}
		h.Set("Authorization", "Bearer "+token)
		return nil
	}
}
