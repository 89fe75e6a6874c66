"""Certificate authorities that live as long as a test, and what they sign."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lightactors.security import Tls

DAY = datetime.timedelta(days=1)
NAMES = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


class Authority:
    """Signs certificates for localhost, and writes everything into one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.name = _named(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        own = _builder(self.name, self.name, self.key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.ca = _write(folder / f"{name}.pem", own.sign(self.key, hashes.SHA256()).public_bytes(_PEM))

    def sign(self, name: str) -> Tls:
        """Return a certificate for localhost, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self.name, key)
        signed = builder.add_extension(x509.SubjectAlternativeName(NAMES), critical=False).sign(
            self.key, hashes.SHA256()
        )
        return Tls(
            cert=_write(self.folder / f"{name}.pem", signed.public_bytes(_PEM)),
            key=_write(self.folder / f"{name}.key", private_bytes(key)),
        )


_PEM = serialization.Encoding.PEM


def private_bytes(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Return a key as PEM, sealed by a password or not."""
    sealing = serialization.BestAvailableEncryption(password) if password is not None else serialization.NoEncryption()
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, sealing)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
