package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// Phone is a P-256 key with the signatures of a phone.
type Phone struct{ key *ecdsa.PrivateKey }

func newPhone() Phone {
	return Phone{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

func (phone Phone) publicKey() string {
	return base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(&phone.key.PublicKey)))
}

// proof returns the DER signature that verifies a factor.
func (phone Phone) proof(factor string) string {
	digest := sha256.Sum256([]byte(factor))
	return base64.StdEncoding.EncodeToString(must(ecdsa.SignASN1(rand.Reader, phone.key, digest[:])))
}

// answer returns the signed JWT that answers a challenge: the fields that the server named, with the answer.
func (phone Phone) answer(body map[string]any, fields, status string) string {
	claims := map[string]any{}
	for _, name := range strings.Split(fields, ",") {
		value, present := body[name]
		isTrue(present, "the challenge has no "+name)
		claims[name] = value
	}
	claims["status"] = status
	signed := part(map[string]any{"typ": "JWT", "alg": "ES256"}) + "." + part(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, phone.key, digest[:])
	check(err)
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func part(content map[string]any) string {
	return base64.RawURLEncoding.EncodeToString(must(json.Marshal(content)))
}
