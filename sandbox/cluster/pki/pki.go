// Package pki makes the keys and certificates of one cluster.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate is one certificate to issue, signed by the authority that Authority names.
type Certificate struct {
	// Name of its files: <Name>.crt and <Name>.key.
	Name string `json:"name"`
	// Authority is the name of the signing authority.
	Authority    string   `json:"authority"`
	CommonName   string   `json:"commonName"`
	Organization []string `json:"organization"`
	// DNSNames and Addresses that a server's certificate is valid for; both empty for a client's.
	DNSNames  []string `json:"dnsNames"`
	Addresses []string `json:"addresses"`
}

// Spec is everything that a folder of keys holds.
type Spec struct {
	// Authorities by name, self-signed.
	Authorities []string `json:"authorities"`
	// KeyPairs by name: RSA keys without a certificate, <Name>.key and <Name>.pub.
	KeyPairs     []string      `json:"keyPairs"`
	Certificates []Certificate `json:"certificates"`
}

const (
	lifetime = 10 * 365 * 24 * time.Hour
	// specFile records what the certificates were issued for.
	specFile = "spec.json"
)

// Run reads a specification as JSON and makes what it asks for in a folder. Authorities and key pairs that exist are
// kept; certificates are issued again only if the specification has changed.
func Run(dir string, input io.Reader) error {
	var spec Spec
	decoder := json.NewDecoder(input)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("read specification: %w", err)
	}
	wanted, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	record := filepath.Join(dir, specFile)
	if present, err := os.ReadFile(record); err == nil && bytes.Equal(present, wanted) {
		return nil
	}
	type authority struct {
		certificate *x509.Certificate
		key         crypto.Signer
	}
	authorities := map[string]authority{}
	for _, name := range spec.Authorities {
		certificate, key, err := ensureAuthority(dir, name)
		if err != nil {
			return fmt.Errorf("authority %s: %w", name, err)
		}
		authorities[name] = authority{certificate, key}
	}
	for _, name := range spec.KeyPairs {
		if err := ensureKeyPair(dir, name); err != nil {
			return fmt.Errorf("key pair %s: %w", name, err)
		}
	}
	for _, certificate := range spec.Certificates {
		signer, known := authorities[certificate.Authority]
		if !known {
			return fmt.Errorf("certificate %s: no authority %q among %q", certificate.Name, certificate.Authority, spec.Authorities)
		}
		if err := issue(dir, certificate, signer.certificate, signer.key); err != nil {
			return fmt.Errorf("certificate %s: %w", certificate.Name, err)
		}
	}
	return write(record, wanted)
}

func ensureAuthority(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	certificatePath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if _, err := os.Stat(certificatePath); errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		template := newTemplate(pkix.Name{CommonName: name})
		template.IsCA = true
		template.BasicConstraintsValid = true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
		if err := sign(certificatePath, keyPath, template, template, key, key); err != nil {
			return nil, nil, err
		}
	}
	certificateBlock, err := readPEM(certificatePath)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(certificateBlock)
	if err != nil {
		return nil, nil, err
	}
	keyBlock, err := readPEM(keyPath)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock)
	if err != nil {
		return nil, nil, err
	}
	return certificate, key.(crypto.Signer), nil
}

func ensureKeyPair(dir, name string) error {
	keyPath := filepath.Join(dir, name+".key")
	publicPath := filepath.Join(dir, name+".pub")
	if _, err := os.Stat(publicPath); err == nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return write(publicPath, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func issue(dir string, spec Certificate, parent *x509.Certificate, parentKey crypto.Signer) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := newTemplate(pkix.Name{CommonName: spec.CommonName, Organization: spec.Organization})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.DNSNames = spec.DNSNames
	for _, address := range spec.Addresses {
		ip := net.ParseIP(address)
		if ip == nil {
			return fmt.Errorf("%q is not an IP address", address)
		}
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	if len(template.DNSNames)+len(template.IPAddresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return sign(filepath.Join(dir, spec.Name+".crt"), filepath.Join(dir, spec.Name+".key"), template, parent, key, parentKey)
}

func newTemplate(subject pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // documented never to happen
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(lifetime),
	}
}

// sign writes a key and then its certificate, so that a certificate that exists has its key beside it.
func sign(certificatePath, keyPath string, template, parent *x509.Certificate, key, parentKey crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return err
	}
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	return write(certificatePath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// write replaces a file in one step, so that no reader and no later run ever sees half of it.
func write(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file: delete its folder to have all keys made anew", path)
	}
	return block.Bytes, nil
}
